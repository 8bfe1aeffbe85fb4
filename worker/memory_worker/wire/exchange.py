"""Send several commands in one write, and read their replies one after the other.

redis-py can read the replies of a pipeline only together. If the last command blocks, all of them would wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError


class Exchange:
    """A connection for commands and their replies. It is closed at the end unless all of the replies were read.

    The connection may be one of `memory_worker.wire.blocking`, whose methods block instead of returning an awaitable.
    """

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._connection: Any = None
        self._unread = 0

    async def __aenter__(self) -> Exchange:
        return self

    async def open(self) -> None:
        """Wait for a free connection of the pool."""
        self._connection = await _done(self._pool.get_connection())

    async def send(self, *commands: Sequence[Any]) -> None:
        """Send commands in one write, once all replies to earlier ones were read."""
        self._unread = len(commands)
        await _done(self._connection.send_packed_command(self._connection.pack_commands(commands)))

    async def read(self) -> Any:
        """Return the next reply. An error that Redis has sent is raised as ``ResponseError``."""
        try:
            reply = await _done(self._connection.read_response())
        except ResponseError:
            self._unread -= 1
            raise
        self._unread -= 1
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._unread:
                await _done(connection.disconnect(True))  # without waiting; the connections that block ignore it
            await _done(self._pool.release(connection))


async def _done(result: Any) -> Any:
    return await result if hasattr(result, "__await__") else result
