"""Push as several users, some of whom overflow."""

from __future__ import annotations

from redis.asyncio import Redis

from memory_worker.contract import Receipt, WriteJob, encode_job
from memory_worker.contract.kinds import UserId
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.clock import redis_time_ms
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.jobs import LIMITS


async def next_millisecond(redis: Redis) -> None:
    """Wait for the next millisecond of Redis's clock, so that the next ids are later than those of both streams."""

    async def now_ms() -> int:
        seconds, microseconds = await redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    began = await now_ms()
    while await now_ms() == began:
        pass


class Pusher:
    """Pushes to one partition of a queue whose workers allow ``burst`` jobs of a user; 0 or ``None``: any number."""

    def __init__(
        self, redis: Redis, keys: Keys, *, burst: int | None = 3, partition: int = 0, partitions: int = 1
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.burst = burst
        self.partition = partition
        self.partitions = partitions

    async def publish(self) -> None:
        """Publish the limits, as a worker does when it starts."""
        meta = QueueMeta(partitions=self.partitions, limits=LIMITS, user_burst=self.burst or 0)
        await publish_meta(self.redis, self.keys, meta)

    async def jobs(self, *jobs: WriteJob) -> list[Receipt]:
        """Push jobs of the partition."""
        entries = [(self.partition, encode_job(job)) for job in jobs]
        users = [job.user_id for job in jobs]
        return await push(self.redis, self.keys, self.partitions, entries, users=users)

    async def of(self, user: UserId, count: int = 1, *, version: int = 1) -> list[Receipt]:
        """Push jobs of a user, all at once. Their contents do not matter. Later ids have a later time."""
        entries = [(self.partition, b"x")] * count
        users = [user] * count
        receipts = await push(self.redis, self.keys, self.partitions, entries, users=users, version=version)
        pushed_ms = int(receipts[-1].entry_id.partition("-")[0])
        while int(await redis_time_ms(self.redis)) == pushed_ms:
            pass
        return receipts

    async def fill(self, user: UserId) -> list[Receipt]:
        """Push as many jobs of a user as make the next one overflow."""
        return await self.of(user, 2 * (self.burst or 0))
