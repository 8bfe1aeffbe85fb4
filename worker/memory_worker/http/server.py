"""The HTTP server of a worker: a few pages, from a thread of its own, so that it answers while the event loop is busy.

Whatever asks, and however often, must not slow down the work: pages other than those of probes are answered at a
limited rate and made at most once in a while. Who asks too fast waits; only when hundreds wait is anybody refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from memory_worker.contract.errors import ConfigurationError

PAGES_A_SECOND = 100
LONGEST_WAIT_S = 5.0
MOST_CONNECTIONS = 400
REQUEST_S = 10.0
"""Seconds that a client may take to send a whole request and to read the answer."""
PAGE_LIFE_S = 1.0
_IDLE_S = 30
_START_S = 10.0
_ACCEPTED_AT_ONCE = 256
"""Connections accepted in one turn of the event loop, fewer than are kept: each is read before it is dropped."""
_BACKLOG = 4096
"""Connections that wait to be accepted: a client that finds no place among them tries again only after a second."""


class Page(msgspec.Struct, frozen=True):
    """An answer: HTTP status, content type and body."""

    status: int
    content_type: str
    body: bytes


class Source(msgspec.Struct, frozen=True):
    """How a page is made, in the server's thread; probes are made at once, always.

    ``make`` is given the one of ``formats``, media types, that the caller accepts, or an empty string.
    """

    make: Callable[[str], Page]
    formats: tuple[str, ...] = ()
    is_probe: bool = False

    def accepted(self, accept: str) -> str:
        """Return which format to make for a caller with this ``Accept`` header."""
        return next((name for name in self.formats if name in accept.lower()), "")


_NOT_FOUND = Page(404, "text/plain; charset=utf-8", b"there is nothing here\n")
_TOO_MANY = Page(503, "text/plain; charset=utf-8", b"too many are asking\n")
_NOT_ALLOWED = Page(405, "text/plain; charset=utf-8", b"only GET\n")


@contextlib.contextmanager
def http_server(host: str, port: int, sources: Mapping[str, Source]) -> Iterator[int]:
    """Serve pages by their paths for the length of the block; yield the port (``port`` 0 takes a free one).

    Raises `ConfigurationError` when the port cannot be had.
    """
    listening = _listen(host, port)
    with listening:
        server = uvicorn.Server(
            uvicorn.Config(
                _application(sources),
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
            listening.listen(_BACKLOG)  # the server has set it to what it accepts at once
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(_START_S)


class _Connection(H11Protocol):
    """A connection whose client must not take long: one that does keeps a file open that the worker needs.

    From the accept, or from the first byte of a later request, the client has ``REQUEST_S`` seconds to send the whole
    request and to read the answer. Above ``MOST_CONNECTIONS`` the oldest one without a whole request is dropped.
    """

    _deadline: asyncio.TimerHandle | None = None
    _waiting_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Begin, and drop another connection if there are too many."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._start_deadline()
        if len(self.connections) > MOST_CONNECTIONS:
            others = (one for one in self.connections if isinstance(one, _Connection) and one is not self)
            min(others, key=_Connection._use).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        self._start_deadline()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request; while the body of this one is unfinished or the answer unread, time goes on."""
        self._waiting_since = self.loop.time()
        super().on_response_complete()
        if self.conn.our_state is not h11.DONE and not self.transport.get_write_buffer_size():
            self._stop_deadline()
            if self.conn.our_state is not h11.IDLE:  # the next request was sent along with this one
                self._start_deadline()

    def drop(self) -> None:
        """Close the connection at once, whatever is on its way."""
        self.connections.discard(self)  # before the transport says so: it counts no longer
        self.transport.abort()

    def _use(self) -> tuple[bool, float]:
        """Order connections by how little is lost with them: without a whole request before others, then by age."""
        cycle = self.cycle
        is_asking = cycle is not None and not cycle.response_complete and not cycle.more_body
        return is_asking, self._waiting_since

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
            f"PORT: cannot listen on {host}, port {port}: {error.strerror}; set another, or 0 for a free one"
        ) from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    until = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)


def _application(sources: Mapping[str, Source]) -> Callable[..., Awaitable[None]]:
    kept = _Kept()

    async def application(scope: dict[str, Any], _receive: Any, send: Callable[..., Awaitable[None]]) -> None:
        page = await _answer(scope, sources, kept)
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})

    return application


async def _answer(scope: dict[str, Any], sources: Mapping[str, Source], kept: _Kept) -> Page:
    source = sources.get(scope["path"])
    if source is None:
        return _NOT_FOUND
    if scope["method"] not in ("GET", "HEAD"):
        return _NOT_ALLOWED
    accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
    wanted = source.accepted(accept)
    if source.is_probe:
        return source.make(wanted)
    if not await kept.turn():
        return _TOO_MANY
    return kept.page(scope["path"], wanted, source)


class _Kept:
    """Pages as they were made last, and when the next may be given out."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], tuple[Page, float]] = {}
        self._next = 0.0

    async def turn(self) -> bool:
        """Wait for one's turn: ``PAGES_A_SECOND`` have one; ``False``: too many wait already."""
        now = time.monotonic()
        due = max(self._next, now) + 1 / PAGES_A_SECOND
        if due - now > LONGEST_WAIT_S:
            return False
        self._next = due
        if due - now > 2 / PAGES_A_SECOND:
            await asyncio.sleep(due - now)
        return True

    def page(self, path: str, wanted: str, source: Source) -> Page:
        """Return the page, made anew if it is older than ``PAGE_LIFE_S``."""
        page, made_at = self._pages.get((path, wanted), (None, 0.0))
        if page is None or time.monotonic() - made_at > PAGE_LIFE_S:
            page = source.make(wanted)
            self._pages[path, wanted] = (page, time.monotonic())
        return page
