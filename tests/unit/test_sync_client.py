"""The blocking clients have the methods of the asyncio clients, from one definition."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Generator
from contextvars import Context
from typing import Any

import pytest

from memory_worker import AdminQueue, MemoryQueue, SyncAdminQueue, SyncMemoryQueue
from memory_worker.wire.completing import complete
from memory_worker.wire.time_limit import TimeLimit, remaining_s

PAIRS = [(MemoryQueue, SyncMemoryQueue), (AdminQueue, SyncAdminQueue)]
OPENING = {"connect", "close"}


def public(client: type) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")}


@pytest.mark.parametrize(("of_asyncio", "of_threads"), PAIRS, ids=lambda client: client.__name__)
def test_the_methods_are_the_same(of_asyncio: Any, of_threads: Any) -> None:
    assert public(of_asyncio) == public(of_threads)
    assert inspect.signature(of_asyncio.connect) == inspect.signature(of_threads.connect)
    assert inspect.signature(of_asyncio.__init__).parameters.keys() == {"self", *OPTIONS}
    for name in public(of_asyncio) - OPENING:
        method, blocking = getattr(of_asyncio, name), getattr(of_threads, name)
        assert inspect.iscoroutinefunction(method)
        assert not asyncio.iscoroutinefunction(blocking)
        assert inspect.signature(method) == inspect.signature(blocking)
        assert method.__doc__ == blocking.__doc__
        assert method.__name__ == blocking.__name__ == name


OPTIONS = ("url", "prefix", "timeout_s", "access", "max_connections")


def test_a_coroutine_that_would_suspend_is_an_error() -> None:
    class Suspends:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def wait() -> None:
        await Suspends()

    with pytest.raises(RuntimeError, match="waited for an event loop"):
        complete(wait())


def test_an_error_of_the_coroutine_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        complete(fail())


@pytest.mark.parametrize("client", [MemoryQueue, SyncMemoryQueue], ids=lambda client: client.__name__)
def test_a_queue_cannot_be_pickled(client: Any) -> None:
    with pytest.raises(TypeError, match=f"a {client.__name__} cannot be pickled"):
        pickle.dumps(client.connect("redis://localhost"))


def test_each_context_has_its_own_time_limit() -> None:
    """Each thread and each greenlet has its own context."""
    long, short = Context(), Context()
    long.run(complete, TimeLimit(100).__aenter__())
    limit = TimeLimit(1)
    short.run(complete, limit.__aenter__())
    assert (short.run(remaining_s) or 0) <= 1 < (long.run(remaining_s) or 0)
    short.run(complete, limit.__aexit__(None, None, None))
    assert short.run(remaining_s) is None
    assert (long.run(remaining_s) or 0) > 1


def test_a_request_within_a_request_does_not_change_its_time_limit() -> None:
    """A signal handler may push while a request waits."""

    async def nested() -> None:
        async with TimeLimit(100):
            async with TimeLimit(1):
                assert (remaining_s() or 0) <= 1
            assert (remaining_s() or 0) > 1
        assert remaining_s() is None

    complete(nested())
