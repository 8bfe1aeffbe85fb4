"""The stylesheet and the icon. The address of each changes with its content, so browsers load it only once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {"console.css": "text/css", "icon.svg": "image/svg+xml"}
_KEPT = {"cache-control": "public, max-age=31536000, immutable"}


def addresses() -> dict[str, str]:
    """Return the address of each file, relative to the first page."""
    return {name: f"{name}?{sha256(_content(name)).hexdigest()[:12]}" for name in _TYPES}


def routes() -> Iterator[Route]:
    """Yield the routes of the files."""
    for name in _TYPES:
        yield Route(f"/{name}", _endpoint, methods=["GET"])


async def _endpoint(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    return Response(_content(name), headers=_KEPT, media_type=_TYPES[name])


@cache
def _content(name: str) -> bytes:
    return resources.files("memory_worker.console").joinpath("static", name).read_bytes()
