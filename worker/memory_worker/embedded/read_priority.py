"""Right of way: whoever writes lets those go first who read, between one small part of the work and the next.

Python runs one thread at a time, and a call needs several turns before it is answered: beside a large write it would
wait for each of them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GIVE_WAY_S = 0.005
"""How long a write waits before each of its parts, at the most: many reads in a row must not stop it."""


class ReadPriority:
    """Counts the calls that have right of way: all those in flight but for writes."""

    def __init__(self) -> None:
        self._going = 0
        self._changed = threading.Condition()
        self._this_call = threading.local()

    @property
    def busy(self) -> bool:
        """Whether a call has right of way."""
        return self._going > 0

    def arrives(self) -> None:
        """A call has come; nobody knows yet what it wants."""
        with self._changed:
            self._going += 1

    def begins(self) -> None:
        """This thread works on a call from now on."""
        self._this_call.has_it = True

    def forgo(self) -> None:
        """The call that this thread works on needs no right of way (any more): it writes, or is done."""
        if not getattr(self._this_call, "has_it", False):
            return
        self._this_call.has_it = False
        with self._changed:
            self._going -= 1
            if not self._going:
                self._changed.notify_all()

    def give(self) -> None:
        """Let others go first, but not for long."""
        if self._going:
            with self._changed:
                self._changed.wait_for(lambda: not self._going, GIVE_WAY_S)


class CallThreads(ThreadPoolExecutor):
    """The threads of a gRPC server: each call has right of way as soon as it is there, not once a thread is free."""

    def __init__(self, threads: int, way: ReadPriority) -> None:
        super().__init__(threads)
        self._way = way

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Have a call answered."""
        self._way.arrives()
        return super().submit(self._answer, call, *args, **options)

    def _answer(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        self._way.begins()
        try:
            return call(*args, **options)
        finally:
            self._way.forgo()
