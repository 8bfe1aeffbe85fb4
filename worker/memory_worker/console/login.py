"""The pages of the login."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from memory_worker.console.gate import Gate
from memory_worker.console.query import Query
from memory_worker.console.rendering import TOKEN, Renderer
from memory_worker.console.sessions import Session


class Login:
    """Asks for the password, and gives a session for it."""

    def __init__(self, gate: Gate, renderer: Renderer) -> None:
        self._gate = gate
        self._renderer = renderer

    def routes(self) -> Iterator[Route]:
        """Yield the routes of the login."""
        yield Route("/login", self._show, methods=["GET"])
        yield Route("/login", self._log_in, methods=["POST"])
        yield Route("/logout", self._log_out, methods=["POST"])

    async def _show(self, request: Request) -> Response:
        session = self._gate.session(request)
        if self._gate.may_look(session):
            return RedirectResponse("./", 303)
        return self._form(request, session or self._gate.visitor(), 200, "")

    async def _log_in(self, request: Request) -> Response:
        visitor = self._gate.session(request)
        form = await self._gate.form(request, visitor)
        session = self._gate.log_in(request, form.get("password", ""))
        if session is None:
            return self._form(request, visitor or self._gate.visitor(), 403, "The password is wrong.")
        response = RedirectResponse("./", 303)
        self._gate.keep(response, session, request)
        return response

    async def _log_out(self, request: Request) -> Response:
        await self._gate.form(request, self._gate.session(request))
        response = RedirectResponse("./login", 303)
        self._gate.forget(response)
        return response

    def _form(self, request: Request, visitor: Session, status: int, problem: str) -> Response:
        html = self._renderer.page("login", Query(request.url.path), is_open=False, problem=problem)
        response = HTMLResponse(html.replace(TOKEN, self._gate.token(visitor)), status)
        self._gate.keep(response, visitor, request)
        return response
