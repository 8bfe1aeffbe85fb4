"""The time limit of a request of a blocking client.

It belongs to the thread, or to the greenlet, that makes the request. A request of a signal handler has its own.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType

# Not threading.local: it is shared by all greenlets of a thread if gevent patches it after this import.
_give_up_at: ContextVar[float | None] = ContextVar("give_up_at", default=None)


class TimeLimit:
    """A context manager that limits the waits of its body, and raises ``TimeoutError`` if that failed too late.

    It is asynchronous only in form, as all that `memory_worker.wire.blocking` runs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._give_up_at = time.monotonic() + self._seconds
        self._before = _give_up_at.set(self._give_up_at)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _give_up_at.reset(self._before)
        if isinstance(error, Exception) and time.monotonic() >= self._give_up_at:
            raise TimeoutError from error


def remaining_s() -> float | None:
    """Return the rest of the time in seconds, or ``None`` without a limit. Raises ``TimeoutError`` if none is left."""
    give_up_at = _give_up_at.get()
    if give_up_at is None:
        return None
    seconds = give_up_at - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the time limit of the request has passed")
    return seconds
