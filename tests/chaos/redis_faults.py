"""Faults of Redis: of a single server, or of the primary of several."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.servers import RedisServer
from tests.topologies import Topology

Fault = Callable[[], Awaitable[None]]


def faults_of(redis: RedisServer | Topology, chance: random.Random) -> list[tuple[Fault, int]]:
    """Return the faults of this Redis, each with its weight."""
    if isinstance(redis, Topology):
        primary = _PrimaryFaults(redis, chance)
        return [(primary.kill_primary, 8), (primary.freeze_primary, 3)]
    single = _SingleFaults(redis, chance)
    return [(single.restart_redis, 2), (single.freeze_redis, 2)]


class _SingleFaults:
    def __init__(self, redis: RedisServer, chance: random.Random) -> None:
        self._redis = redis
        self._chance = chance

    async def restart_redis(self) -> None:
        await asyncio.to_thread(self._redis.kill)
        await asyncio.sleep(self._chance.choice((0.0, 0.5, 3.0)))
        await asyncio.to_thread(self._redis.start)

    async def freeze_redis(self) -> None:
        self._redis.freeze()
        await asyncio.sleep(self._chance.choice((0.3, 2.0, 7.0)))
        self._redis.thaw()


class _PrimaryFaults:
    def __init__(self, redis: Topology, chance: random.Random) -> None:
        self._redis = redis
        self._chance = chance

    async def kill_primary(self) -> None:
        killed = await asyncio.to_thread(self._redis.kill_primary)
        await asyncio.to_thread(self._redis.wait_for_failover)
        await asyncio.sleep(self._chance.choice((0.0, 0.5, 2.0)))
        await asyncio.to_thread(self._redis.return_as_replica, killed)

    async def freeze_primary(self) -> None:
        """Stop the primary. If it was replaced, it still calls itself the primary when it goes on."""
        frozen = self._redis.freeze_primary()
        await asyncio.sleep(self._chance.choice((0.3, 2.0, 5.0)))
        frozen.thaw()
        await asyncio.to_thread(self._redis.wait_until_whole)
