"""The routes of the console, and what all of its responses have in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from memory_worker.console import assets
from memory_worker.console.checks import CheckRunner
from memory_worker.console.dead_actions import DeadActions
from memory_worker.console.dead_pages import FILTERS, dead_letter, dead_letters
from memory_worker.console.gate import Gate
from memory_worker.console.login import Login
from memory_worker.console.overview import overview
from memory_worker.console.page_cache import Made, PageCache
from memory_worker.console.partitions import partitions
from memory_worker.console.query import Query
from memory_worker.console.rendering import TOKEN, Renderer
from memory_worker.console.responses import respond, secured
from memory_worker.console.sources import ConsoleSources
from memory_worker.console.tables import collections, settings
from memory_worker.contract.errors import RequestRefused
from memory_worker.http.server import Application
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

View: TypeAlias = Callable[[ConsoleSources, Query], Awaitable[dict[str, Any]]]


class Page(NamedTuple):
    """A page: its path, its template, what makes its content, and the parameters that it knows."""

    path: str
    template: str
    view: View
    parameters: tuple[str, ...] = ()


def build_site(sources: ConsoleSources) -> Application:
    """Return the ASGI application."""
    site = Site(sources)
    application = Starlette(
        routes=list(site.routes()),
        exception_handlers={HTTPException: site.refused, RequestRefused: site.refused, Exception: site.failed},
    )
    return secured(application)


class Site:
    """The pages, and who may see them."""

    def __init__(self, sources: ConsoleSources) -> None:
        self._sources = sources
        self._renderer = Renderer(sources)
        self._cache = PageCache()
        self._gate = Gate(sources.settings)
        self._checks = CheckRunner(sources)

    def routes(self) -> Iterator[Route]:
        """Yield all routes."""
        for page in (
            Page("/", "overview", overview, ("refresh",)),
            Page("/partitions", "partitions", partitions, ("refresh", "show")),
            Page("/collections", "collections", collections, ("refresh",)),
            Page("/dead-letters", "dead_letters", dead_letters, (*FILTERS, "after")),
            Page("/dead-letters/{partition:int}/{entry}", "dead_letter", dead_letter),
            Page("/check", "check", self._checks.page),
            Page("/settings", "settings", settings, ("show",)),
        ):
            yield Route(page.path, self._endpoint(page), methods=["GET"])
        yield from assets.routes()
        if self._sources.settings.console_password is not None:
            yield from Login(self._gate, self._renderer).routes()
        if self._gate.has_actions:
            yield from DeadActions(self._sources, self._gate, self._renderer, self._cache).routes()

    async def refused(self, request: Request, error: Exception) -> Response:
        """Return a page that says why a request is refused."""
        status = error.status if isinstance(error, RequestRefused) else getattr(error, "status_code", 400)
        text = str(error) if isinstance(error, RequestRefused) else getattr(error, "detail", "")
        return self._message(request, status, text)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Return a page for an unexpected error, without its details. The log has them."""
        log_event(logger, logging.ERROR, "console_failed", path=request.url.path, failure=error)
        return self._message(request, 500, "This page could not be made. The log of the worker says why.")

    def _message(self, request: Request, status: int, text: str) -> Response:
        query = Query.of(request.url.path, {}, {}, ())
        is_open = self._gate.may_look(self._gate.session(request))
        html = self._renderer.page("message", query, is_open=is_open, status_code=status, text=text)
        return HTMLResponse(html.replace(TOKEN, self._gate.token(self._gate.session(request))), status)

    def _endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self._gate.check_host(request)
            session = self._gate.session(request)
            parts = {name: str(value) for name, value in request.path_params.items()}
            query = Query.of(request.url.path, parts, dict(request.query_params), page.parameters)
            if not self._gate.may_look(session):
                return RedirectResponse(f"{query.root}login", 303)
            made = await self._cache.get(query.key, lambda: self._made(page, query))
            return respond(made, self._gate.token(session))

        return endpoint

    async def _made(self, page: Page, query: Query) -> Made:
        context = await page.view(self._sources, query)
        status = context.pop("status_code", 200)
        return Made(status, self._renderer.page(page.template, query, **context))
