"""The HTTP server of a worker. It has its own thread, so that it answers while the event loop is busy.

Requests must not slow down the worker. So pages other than probes are served at a limited rate, and each is made at
most once per second. Requests above the rate limit wait. Once several hundred are waiting, new ones get a 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from memory_worker.contract.errors import ConfigurationError

Application: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
"""An ASGI application."""

PAGES_PER_SECOND = 100
MAX_WAIT_S = 5.0
MAX_CONNECTIONS = 400
REQUEST_S = 10.0
"""The time in which a client must send a whole request and read the answer."""
PAGE_LIFE_S = 1.0
_IDLE_S = 30
_START_S = 10.0
_ACCEPTED_AT_ONCE = 256
"""Connections accepted in one turn of the event loop. Fewer than `MAX_CONNECTIONS`, so that each is read first."""
_BACKLOG = 4096
"""Connections that may wait to be accepted. A client beyond that tries again only after a second."""


class Page(msgspec.Struct, frozen=True):
    """A response: HTTP status, content type and body."""

    status: int
    content_type: str
    body: bytes


class Source(msgspec.Struct, frozen=True):
    """The source of a page, which is made in the thread of the server. Probes are always made at once.

    ``make`` gets the media type among ``formats`` that the caller accepts, or an empty string.
    """

    make: Callable[[str], Page]
    formats: tuple[str, ...] = ()
    is_probe: bool = False

    def accepted(self, accept: str) -> str:
        """Return the format for a caller with this ``Accept`` header."""
        return next((name for name in self.formats if name in accept.lower()), "")


_NOT_FOUND = Page(404, "text/plain; charset=utf-8", b"not found\n")
_TOO_MANY = Page(503, "text/plain; charset=utf-8", b"too many requests\n")
_NOT_ALLOWED = Page(405, "text/plain; charset=utf-8", b"only GET and HEAD are allowed\n")


@contextlib.contextmanager
def http_server(host: str, port: int, sources: Mapping[str, Source], other: Application | None = None) -> Iterator[int]:
    """Serve the pages for the duration of the block, and yield the port. With ``port`` 0, any free port is used.

    ``other`` answers all other paths, in the same thread and under the same rate limit. Raises `ConfigurationError` if
    the port cannot be used.
    """
    listening = _listen(host, port)
    with listening:
        server = uvicorn.Server(
            uvicorn.Config(
                _application(sources, other),
                log_config=None,
                access_log=False,
                lifespan="off",
                loop="asyncio",
                http=_Connection,
                ws="none",
                server_header=False,
                timeout_keep_alive=_IDLE_S,
                backlog=_ACCEPTED_AT_ONCE,
                timeout_graceful_shutdown=1,
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="http", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            listening.listen(_BACKLOG)  # the server has set it to _ACCEPTED_AT_ONCE
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(_START_S)


class _Connection(H11Protocol):
    """A connection with a time limit, because each open connection uses a file descriptor that the worker may need.

    From the accept, or from the first byte of a later request, the client has ``REQUEST_S`` seconds to send the whole
    request and to read the answer. Above ``MAX_CONNECTIONS`` the oldest connection without a whole request is dropped.
    """

    _deadline: asyncio.TimerHandle | None = None
    _waiting_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Start the time limit, and drop another connection if there are too many."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._start_deadline()
        if len(self.connections) > MAX_CONNECTIONS:
            others = (one for one in self.connections if isinstance(one, _Connection) and one is not self)
            min(others, key=_Connection._drop_order).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        self._start_deadline()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Stop the time limit, unless the body of the request is incomplete or the answer is not read yet."""
        self._waiting_since = self.loop.time()
        super().on_response_complete()
        if self.conn.our_state is not h11.DONE and not self.transport.get_write_buffer_size():
            self._stop_deadline()
            if self.conn.our_state is not h11.IDLE:  # the next request has arrived already
                self._start_deadline()

    def drop(self) -> None:
        """Close the connection at once, even during a request or an answer."""
        self.connections.discard(self)  # it no longer counts, even if the transport is not closed yet
        self.transport.abort()

    def _drop_order(self) -> tuple[bool, float]:
        """Return the sort key of connections to drop: first those without a whole request, then the oldest."""
        cycle = self.cycle
        has_request = cycle is not None and not cycle.response_complete and not cycle.more_body
        return has_request, self._waiting_since

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.drop)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"PORT: cannot listen on {host}, port {port}: {error.strerror}; set another port, or 0 for a free one"
        ) from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    until = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)


def _application(sources: Mapping[str, Source], other: Application | None) -> Application:
    cache = _PageCache()

    async def application(scope: dict[str, Any], receive: Any, send: Callable[..., Awaitable[None]]) -> None:
        if other is not None and scope["path"] not in sources:
            if await cache.wait_for_turn():
                await other(scope, receive, send)
                return
            page = _TOO_MANY
        else:
            page = await _answer(scope, sources, cache)
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})

    return application


async def _answer(scope: dict[str, Any], sources: Mapping[str, Source], cache: _PageCache) -> Page:
    source = sources.get(scope["path"])
    if source is None:
        return _NOT_FOUND
    if scope["method"] not in ("GET", "HEAD"):
        return _NOT_ALLOWED
    accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
    wanted = source.accepted(accept)
    if source.is_probe:
        return source.make(wanted)
    if not await cache.wait_for_turn():
        return _TOO_MANY
    return cache.page(scope["path"], wanted, source)


class _PageCache:
    """The latest pages, and the rate limit."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], tuple[Page, float]] = {}
        self._next = 0.0

    async def wait_for_turn(self) -> bool:
        """Wait as the rate limit requires. Return ``False`` if too many requests already wait."""
        now = time.monotonic()
        due = max(self._next, now) + 1 / PAGES_PER_SECOND
        if due - now > MAX_WAIT_S:
            return False
        self._next = due
        if due - now > 2 / PAGES_PER_SECOND:
            await asyncio.sleep(due - now)
        return True

    def page(self, path: str, wanted: str, source: Source) -> Page:
        """Return the cached page, unless it is older than ``PAGE_LIFE_S``. Then make it again."""
        page, made_at = self._pages.get((path, wanted), (None, 0.0))
        if page is None or time.monotonic() - made_at > PAGE_LIFE_S:
            page = source.make(wanted)
            self._pages[path, wanted] = (page, time.monotonic())
        return page
