"""`SyncMemoryQueue` and `SyncAdminQueue`: the same clients for programs without an event loop.

Each method is that of the asyncio client, which runs to its end in the calling thread. There is no second definition.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

from memory_worker.client.admin_queue import AdminReads
from memory_worker.client.connected import Connecting
from memory_worker.client.connections import PerProcess
from memory_worker.client.memory_queue import Operations
from memory_worker.client.opened import Opened
from memory_worker.wire.blocking import complete

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


def _blocking(
    method: Callable[Concatenate[Any, _Params], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[Any, _Params], _Result]:
    """Return a method of a client that runs ``method`` of its operations in the calling thread."""

    @wraps(method)
    def run(client: _SyncConnected, /, *args: _Params.args, **options: _Params.kwargs) -> _Result:
        return complete(method(client._operations, *args, **options))

    return run


class _SyncConnected(Connecting):
    """A client for threads. Close it with ``with`` or `close`.

    One client may be used by all threads of a process, and by the processes that are forked from it: each process opens
    its own connections.
    """

    _source = PerProcess
    _make_operations: ClassVar[type[Opened]]

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._operations = self._make_operations(self._producer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections of this process. The queue may be used again afterwards."""
        complete(self._producer.close())


class SyncMemoryQueue(_SyncConnected):
    """The queue for producers without an event loop, such as Django, Flask, Celery, or a script.

    It has the methods of `memory_worker.MemoryQueue`, with the same arguments, results and errors, but they block. All
    threads of a process may share one queue. After a fork, each process opens its own connections.
    """

    _make_operations = Operations

    upsert = _blocking(Operations.upsert)
    upsert_many = _blocking(Operations.upsert_many)
    patch = _blocking(Operations.patch)
    delete = _blocking(Operations.delete)
    purge = _blocking(Operations.purge)
    prune = _blocking(Operations.prune)
    replace_file = _blocking(Operations.replace_file)
    push_many = _blocking(Operations.push_many)

    wait_applied = _blocking(Operations.wait_applied)
    states = _blocking(Operations.states)
    outcomes = _blocking(Operations.outcomes)

    search = _blocking(Operations.search)
    search_many = _blocking(Operations.search_many)
    get = _blocking(Operations.get)
    list = _blocking(Operations.list)
    count = _blocking(Operations.count)
    facet = _blocking(Operations.facet)
    files = _blocking(Operations.files)
    stats = _blocking(Operations.stats)
    info = _blocking(Operations.info)

    status = _blocking(Operations.status)
    health = _blocking(Operations.health)


class SyncAdminQueue(_SyncConnected):
    """`memory_worker.AdminQueue` for programs without an event loop. Its methods block."""

    _make_operations = AdminReads

    list = _blocking(AdminReads.list)
    count = _blocking(AdminReads.count)
    facet = _blocking(AdminReads.facet)
