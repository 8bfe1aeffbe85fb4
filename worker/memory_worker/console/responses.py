"""The headers of all responses, and pages as responses."""

from __future__ import annotations

from typing import Any

from starlette.responses import HTMLResponse, Response

from memory_worker.console.page_cache import Made
from memory_worker.console.rendering import TOKEN
from memory_worker.http.server import Application

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not "no-referrer", because browsers would then send forms without their origin.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]


def respond(made: Made, token: str) -> Response:
    """Return a page with the token of its session."""
    return HTMLResponse(made.html.replace(TOKEN, token), made.status)


def secured(application: Any) -> Application:
    """Return an application whose responses have the headers.

    An error after which a response was sent ends here, because the response and the log say what happened.
    """

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        started = False

        async def send_with_headers(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in _RAW_HEADERS if h[0] not in names)]
            await send(message)

        try:
            await application(scope, receive, send_with_headers)
        except Exception:
            if not started:
                raise

    return wrapped
