"""Read priority: a write waits for running reads before each of its small parts.

Python runs one thread at a time, and a call needs several turns until it is answered. Without read priority, a read
would wait for a large write at each of its turns.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAIT_S = 0.005
"""How long a write waits at most before each of its parts, so that continuous reads cannot stop it."""


class ReadPriority:
    """Counts the calls with priority. Each call has it from its arrival until it ends or turns out to be a write."""

    def __init__(self) -> None:
        self._calls = 0
        self._changed = threading.Condition()
        self._this_thread = threading.local()

    @property
    def is_taken(self) -> bool:
        """Whether any call has priority."""
        return self._calls > 0

    def call_arrived(self) -> None:
        """Give priority to a new call. It may be a read or a write."""
        with self._changed:
            self._calls += 1

    def call_started(self) -> None:
        """Record that this thread now works on a call with priority."""
        self._this_thread.has_priority = True

    def drop(self) -> None:
        """End the priority of this thread's call, because it is a write or has ended. Further calls do nothing."""
        if not getattr(self._this_thread, "has_priority", False):
            return
        self._this_thread.has_priority = False
        with self._changed:
            self._calls -= 1
            if not self._calls:
                self._changed.notify_all()

    def wait_for_reads(self) -> None:
        """Wait until no call has priority, for at most ``MAX_WAIT_S`` seconds."""
        if self._calls:
            with self._changed:
                self._changed.wait_for(lambda: not self._calls, MAX_WAIT_S)


class CallThreads(ThreadPoolExecutor):
    """The threads of a gRPC server. A call has priority from its arrival, even while no thread is free."""

    def __init__(self, threads: int, priority: ReadPriority) -> None:
        super().__init__(threads)
        self._priority = priority

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Answer a call in one of the threads."""
        self._priority.call_arrived()
        return super().submit(self._answer, call, *args, **options)

    def _answer(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        self._priority.call_started()
        try:
            return call(*args, **options)
        finally:
            self._priority.drop()
