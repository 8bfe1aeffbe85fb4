"""The forms that replay and drop dead letters."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from memory_worker.console import actions
from memory_worker.console.actions import ACTIONS, MOST_AT_ONCE, Result
from memory_worker.console.dead_pages import FILTERS, choice_of
from memory_worker.console.gate import Gate, Who, who
from memory_worker.console.page_cache import PageCache
from memory_worker.console.query import Query
from memory_worker.console.rendering import TOKEN, Renderer
from memory_worker.console.sessions import Session
from memory_worker.console.sources import ConsoleSources
from memory_worker.contract import Receipt
from memory_worker.contract.errors import InvalidJob, QueueError, ReplayRefused, RequestRefused
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

_REDIS_FAILS = 503


class DeadActions:
    """Acts on one dead letter, or on all that match the filters of a page."""

    def __init__(self, sources: ConsoleSources, gate: Gate, renderer: Renderer, cache: PageCache) -> None:
        self._sources = sources
        self._gate = gate
        self._renderer = renderer
        self._cache = cache

    def routes(self) -> Iterator[Route]:
        """Yield the routes of the actions."""
        yield Route("/dead-letters/confirm", self._confirm, methods=["GET"])
        yield Route("/dead-letters/act", self._many, methods=["POST"])
        yield Route("/dead-letters/{partition:int}/{entry}/{action}", self._one, methods=["POST"])

    async def _confirm(self, request: Request) -> Response:
        """Count what matches, and ask."""
        session = self._gate.session(request)
        query = Query.of(request.url.path, {}, dict(request.query_params), (*FILTERS, "action"))
        if not self._gate.may_look(session):
            return RedirectResponse(f"{query.root}login", 303)
        action, filters = _action(query.get("action")), _filters(query.given)
        async with self._dead_letters() as dead_letters:
            counted = await actions.count(dead_letters, choice_of(filters))
        return self._page(
            "confirm",
            request,
            session,
            action=action,
            filters=filters,
            back=urlencode(filters),
            counted=counted,
            most=MOST_AT_ONCE,
        )

    async def _many(self, request: Request) -> Response:
        session = self._gate.session(request)
        form = await self._operator_form(request, session)
        action, filters, force = _action(form.get("action", "")), _filters(form), form.get("force") == "yes"
        choice = choice_of(filters, died_by_s=_number(form, "died_by_ms") / 1000)
        async with self._dead_letters() as dead_letters:
            if action == "replay":
                skip = _number(form, "skip")
                result = await actions.replay_many(dead_letters, choice, force=force, skip=skip)
            else:
                result = await actions.drop_many(dead_letters, choice)
        _log(action, who(request, session), result=result, force=force, filters=filters)
        self._cache.clear()
        return self._page(
            "result",
            request,
            session,
            action=action,
            filters=filters,
            back=urlencode(filters),
            result=result,
            force=force,
            died_by_ms=_number(form, "died_by_ms"),
        )

    async def _one(self, request: Request) -> Response:
        session = self._gate.session(request)
        form = await self._operator_form(request, session)
        action, force = _action(request.path_params["action"]), form.get("force") == "yes"
        receipt = _receipt(request.path_params)
        result = Result()
        async with self._dead_letters() as dead_letters:
            try:
                if action == "drop":
                    result.done = await dead_letters.drop([receipt])
                else:
                    result.done = await dead_letters.replay(receipt, force=force) is not None
            except ReplayRefused as error:
                result.left, result.refused = 1, [(receipt, str(error))]
        _log(action, who(request, session), result=result, force=force, receipt=receipt)
        self._cache.clear()
        status = 409 if result.left else 200 if result.done else 404
        return self._page("acted", request, session, status, action=action, receipt=receipt, result=result, force=force)

    async def _operator_form(self, request: Request, session: Session | None) -> dict[str, str]:
        if session is None or not session.is_operator:
            raise RequestRefused(403, "Log in first.")
        return await self._gate.form(request, session)

    @asynccontextmanager
    async def _dead_letters(self) -> AsyncIterator[DeadLetters]:
        """Open the dead letters. A failing Redis is reported as such."""
        settings = self._sources.settings
        try:
            async with self._sources.connect() as redis:
                yield await DeadLetters.open(redis, self._sources.keys, outcomes_max=settings.outcomes_max)
        except QueueError as error:
            raise RequestRefused(_REDIS_FAILS, f"Redis cannot be used: {error}") from error

    def _page(
        self, template: str, request: Request, session: Session | None, status: int = 200, **context: Any
    ) -> Response:
        html = self._renderer.page(template, Query(request.url.path), **context)
        return HTMLResponse(html.replace(TOKEN, self._gate.token(session)), status)


def _log(
    action: str,
    by: Who,
    *,
    result: Result,
    force: bool,
    receipt: Receipt | None = None,
    filters: Mapping[str, str] | None = None,
) -> None:
    log_event(
        logger,
        logging.WARNING if action == "drop" or force else logging.INFO,
        "console_action",
        action=action,
        receipt=str(receipt or ""),
        filters=urlencode(filters or {}),
        done=result.done,
        left=result.left,
        force=force,
        session=by.session,
        client=by.client,
        forwarded_for=by.forwarded_for,
    )


def _action(name: str) -> actions.Action:
    for action in ACTIONS:
        if name == action:
            return action
    raise RequestRefused(404, "There is no such action.")


def _filters(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name] for name in FILTERS if given.get(name)}


def _number(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "0")
    if not text.isascii() or not text.isdecimal():
        raise RequestRefused(400, f"{name} is not a number.")
    return int(text)


def _receipt(parts: Mapping[str, Any]) -> Receipt:
    try:
        return Receipt.parse(f"{parts['partition']}/{parts['entry']}")
    except InvalidJob:
        raise RequestRefused(404, "There is no such dead letter.") from None
