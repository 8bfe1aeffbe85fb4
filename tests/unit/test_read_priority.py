"""Read priority: a write waits for running reads, but only for a short time, and never for another write."""

from __future__ import annotations

import threading
import time

from memory_worker.embedded.read_priority import MAX_WAIT_S, CallThreads, ReadPriority

LONG_S = 5.0


def waited_s(priority: ReadPriority) -> float:
    started = time.monotonic()
    priority.wait_for_reads()
    return time.monotonic() - started


def test_without_calls_a_write_does_not_wait() -> None:
    priority = ReadPriority()
    priority.wait_for_reads()
    assert not priority.is_taken


def test_a_call_has_priority_from_its_arrival_to_its_end() -> None:
    priority, started, end = ReadPriority(), threading.Event(), threading.Event()

    def read() -> None:
        started.set()
        assert end.wait(LONG_S)

    with CallThreads(1, priority) as threads:
        first, second = threads.submit(read), threads.submit(read)
        assert started.wait(LONG_S)
        assert priority.is_taken
        end.set()
        first.result(LONG_S)
        second.result(LONG_S)
    assert not priority.is_taken


def test_a_write_waits_for_a_limited_time() -> None:
    priority = ReadPriority()
    priority.call_arrived()
    assert waited_s(priority) >= MAX_WAIT_S * 0.9
    assert priority.is_taken


def test_a_write_drops_its_priority_only_once() -> None:
    priority, dropped, end = ReadPriority(), threading.Event(), threading.Event()

    def write() -> None:
        priority.drop()
        priority.drop()
        dropped.set()
        assert end.wait(LONG_S)

    with CallThreads(2, priority) as threads:
        call = threads.submit(write)
        assert dropped.wait(LONG_S)
        assert not priority.is_taken
        end.set()
        call.result(LONG_S)
    assert not priority.is_taken


def test_a_failed_call_has_no_priority() -> None:
    priority = ReadPriority()
    with CallThreads(1, priority) as threads:
        assert isinstance(threads.submit(lambda: 1 / 0).exception(LONG_S), ZeroDivisionError)
    assert not priority.is_taken
