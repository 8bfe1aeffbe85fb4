"""A timer that is exact to some microseconds, because those of event loops are late or tick in milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

_ABSOLUTE: Final = 1
_STEP_S, _LONGEST_LEAD_S = 5e-6, 1e-4
_NS_PER_S: Final = 1_000_000_000


class Timer:
    """Calls ``ring`` at the time of `set`. On Linux it uses a ``timerfd``, elsewhere the timers of the event loop.

    A process wakes up about 50 us after its timer. So the timer is set earlier by the median of that delay, which it
    measures, and waits actively for the rest.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring, self._due, self._lead_s = ring, 0.0, 0.0
        self._file: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None)
            self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            self._loop.add_reader(self._file, self._woken)

    def set(self, due: float) -> None:
        """Ring at ``due`` (`time.perf_counter`), or at once if that is over. It replaces the time before."""
        self._due = due
        if self._file is None:
            self._loop.call_later(due - time.perf_counter(), self._ring)
            return
        when = divmod(max(1, int((due - self._lead_s) * _NS_PER_S)), _NS_PER_S)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, struct.pack("4q", 0, 0, *when), None)

    def close(self) -> None:
        """Ring no more."""
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    def _woken(self) -> None:
        assert self._file is not None  # noqa: S101  # else nothing wakes it
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # it was set again since it rang
            return
        step_s = _STEP_S if time.perf_counter() > self._due else -_STEP_S
        self._lead_s = min(max(self._lead_s + step_s, 0.0), _LONGEST_LEAD_S)
        while time.perf_counter() < self._due:
            pass
        self._ring()


class Line:
    """Does everything in order, ``delay_s`` after it was asked to."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._waiting: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()
        self._timer = Timer(self._work)

    def later(self, do: Callable[..., None], *arguments: Any) -> None:
        """Call ``do`` with these arguments later."""
        self._waiting.append((time.perf_counter() + self._delay_s, do, arguments))
        if len(self._waiting) == 1:
            self._timer.set(self._waiting[0][0])

    def _work(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.perf_counter():
            _, do, arguments = self._waiting.popleft()
            do(*arguments)
        if self._waiting:
            self._timer.set(self._waiting[0][0])
