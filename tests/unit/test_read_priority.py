"""Read priority: a write waits for the reads in flight, but not for ever, and never for another write."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from memory_worker.embedded import read_priority
from memory_worker.embedded.read_priority import CallThreads, ReadPriority

LONG_S = 10.0


class HeldCall:
    """A call that is in progress until `end`; ``write`` says whether it gives up its priority."""

    def __init__(self, threads: CallThreads, priority: ReadPriority, *, write: bool = False) -> None:
        self._begun, self._end = threading.Event(), threading.Event()
        self.future: Future[None] = threads.submit(self._run, priority, write)

    def wait_until_begun(self) -> None:
        assert self._begun.wait(LONG_S)

    def end(self) -> None:
        self._end.set()
        self.future.result(LONG_S)

    def _run(self, priority: ReadPriority, write: bool) -> None:
        if write:
            priority.drop()
            priority.drop()  # counts once
        self._begun.set()
        assert self._end.wait(LONG_S)


def test_a_write_does_not_wait_if_there_are_no_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_priority, "MAX_WAIT_S", 1e6)
    priority = ReadPriority()
    priority.wait_for_reads()
    assert not priority.is_taken


def test_a_read_has_priority_from_its_arrival_to_its_end() -> None:
    priority = ReadPriority()
    with CallThreads(1, priority) as threads:
        running, waiting = HeldCall(threads, priority), HeldCall(threads, priority)
        running.wait_until_begun()
        running.end()
        assert priority.is_taken
        waiting.end()
    assert not priority.is_taken


def test_a_write_waits_until_the_reads_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_priority, "MAX_WAIT_S", 1e6)
    priority, taken_after_the_wait = ReadPriority(), list[bool]()
    with CallThreads(1, priority) as threads:
        read = HeldCall(threads, priority)
        read.wait_until_begun()
        write = threading.Thread(
            target=lambda: (priority.wait_for_reads(), taken_after_the_wait.append(priority.is_taken))
        )
        write.start()
        read.end()
        write.join(LONG_S)
    assert taken_after_the_wait == [False]


def test_a_write_waits_for_a_limited_time_only() -> None:
    priority = ReadPriority()
    priority.call_arrived()
    priority.wait_for_reads()
    assert priority.is_taken


def test_a_write_gives_up_its_priority() -> None:
    priority = ReadPriority()
    with CallThreads(1, priority) as threads:
        write = HeldCall(threads, priority, write=True)
        write.wait_until_begun()
        assert not priority.is_taken
        write.end()
    assert not priority.is_taken


def test_a_call_that_fails_gives_up_its_priority() -> None:
    priority = ReadPriority()
    with CallThreads(1, priority) as threads:
        assert isinstance(threads.submit(lambda: 1 / 0).exception(LONG_S), ZeroDivisionError)
    assert not priority.is_taken
