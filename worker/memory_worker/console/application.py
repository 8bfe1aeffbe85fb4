"""The console as an ASGI application. It is built at the first request, so that it costs nothing until then."""

from __future__ import annotations

from typing import Any

from memory_worker.console.sources import ConsoleSources
from memory_worker.http.server import Application


def console(sources: ConsoleSources) -> Application:
    """Return the console. It answers all requests in the event loop of the HTTP server."""
    built: list[Application] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not built:
            from memory_worker.console.site import build_site  # noqa: PLC0415  # loads Starlette and Jinja

            built.append(build_site(sources))
        await built[0](scope, receive, send)

    return application
