"""The blocking clients have the methods of the asyncio clients, from one definition."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator
from typing import Any

import pytest

from memory_worker import AdminQueue, MemoryQueue, SyncAdminQueue, SyncMemoryQueue
from memory_worker.wire.blocking import complete

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
