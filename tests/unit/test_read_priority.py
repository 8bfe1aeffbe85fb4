"""Right of way: a writer waits for the reads in flight, but not for ever, and never for another writer."""

from __future__ import annotations

import threading
import time

from memory_worker.embedded.read_priority import GIVE_WAY_S, CallThreads, ReadPriority

LONG_S = 5.0


def given_within(way: ReadPriority) -> float:
    started = time.monotonic()
    way.give()
    return time.monotonic() - started


def test_with_nobody_there_nobody_is_waited_for() -> None:
    way = ReadPriority()
    way.give()
    assert not way.busy


def test_a_call_has_it_from_its_arrival_to_its_end() -> None:
    way, begun, end = ReadPriority(), threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        assert end.wait(LONG_S)

    with CallThreads(1, way) as threads:
        first, second = threads.submit(read), threads.submit(read)
        assert begun.wait(LONG_S)
        assert way.busy
        end.set()
        first.result(LONG_S)
        second.result(LONG_S)
    assert not way.busy


def test_it_is_given_for_a_while_only() -> None:
    way = ReadPriority()
    way.arrives()
    assert given_within(way) >= GIVE_WAY_S * 0.9
    assert way.busy


def test_a_writer_has_none_and_gives_it_up_once() -> None:
    way, forgone, end = ReadPriority(), threading.Event(), threading.Event()

    def write() -> None:
        way.forgo()
        way.forgo()
        forgone.set()
        assert end.wait(LONG_S)

    with CallThreads(2, way) as threads:
        call = threads.submit(write)
        assert forgone.wait(LONG_S)
        assert not way.busy
        end.set()
        call.result(LONG_S)
    assert not way.busy


def test_a_call_that_fails_has_it_no_longer() -> None:
    way = ReadPriority()
    with CallThreads(1, way) as threads:
        assert isinstance(threads.submit(lambda: 1 / 0).exception(LONG_S), ZeroDivisionError)
    assert not way.busy
