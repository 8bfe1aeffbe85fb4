"""Watches whether what waits is applied: the jobs that were pushed before the watch began, or all jobs."""

from __future__ import annotations

from typing import Self

import msgspec
from redis.asyncio import Redis

from memory_worker.inspection.status import QueueStatus, by_role, collect_queue
from memory_worker.queue.positions import Position, read_positions
from memory_worker.queue.processes import living
from memory_worker.wire.connection import queue_request
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from memory_worker.wire.overflow import home_of


class Remaining(msgspec.Struct, frozen=True):
    """What still waits: jobs by partition, and writes of arq's own client that no worker has taken over.

    ``obstacles`` say why nothing can be applied. They are empty if something can. ``held`` says for each held partition
    what its next job needs. ``leases`` counts the drains, as far as they matter.
    """

    jobs: dict[int, int]
    arq_writes: int
    leases: int
    held: dict[int, str]
    obstacles: list[str]
    dead: int

    @property
    def total(self) -> int:
        """The number of jobs and writes that wait."""
        return sum(self.jobs.values()) + self.arq_writes

    @property
    def is_nothing(self) -> bool:
        """Whether nothing waits any more."""
        return not (self.total or self.leases)


class DrainWatch:
    """Watches one queue.

    Jobs count that were pushed before `start`. With ``everything``, all jobs count, so that the queue is empty once
    nothing remains. Writes of arq's own client become jobs when a worker takes them over. So those that wait at the
    start come first, also the ones that are due later, and then the jobs that wait by then.
    """

    def __init__(self, redis: Redis, keys: Keys, meta: QueueMeta, last_due: float | None, *, everything: bool) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = meta.partitions
        self._last_due = last_due
        self._everything = everything
        self._goal: list[Position] | None = None

    @classmethod
    async def start(cls, redis: Redis, keys: Keys, *, everything: bool) -> Self:
        """Begin to watch. Raises `QueueUnavailable`."""
        meta = await read_meta(redis, keys) or QueueMeta()
        with queue_request("arq_writes"):
            last = await redis.zrevrange(keys.writes_queue, 0, 0, withscores=True)
        return cls(redis, keys, meta, last[0][1] if last else None, everything=everything)

    async def look(self) -> Remaining:
        """Return what still waits. Raises `QueueUnavailable`."""
        arq_writes = await self._arq_writes()
        positions = await read_positions(self._redis, self._keys, self._partitions)
        if self._goal is None and not arq_writes:
            self._goal = positions
        goal = positions if self._everything or self._goal is None else self._goal
        left = {number: now.left_of(then) for number, (now, then) in enumerate(zip(positions, goal, strict=True))}
        jobs = {number: count for number, count in left.items() if count}
        queue = await collect_queue(self._redis, self._keys)
        held = {state.partition: state.needs or "another worker" for state in queue.partitions if state.held}
        return Remaining(
            jobs=jobs,
            arq_writes=arq_writes,
            leases=queue.draining if self._everything else 0,
            held={number: needs for number, needs in held.items() if number in jobs},
            obstacles=await self._obstacles(queue, jobs, held, arq_writes) if jobs or arq_writes else [],
            dead=queue.dead,
        )

    async def _arq_writes(self) -> int:
        """Return how many writes of arq's own client wait that count."""
        latest = float("inf") if self._everything else self._last_due
        if latest is None:
            return 0
        with queue_request("arq_writes"):
            return int(await self._redis.zcount(self._keys.writes_queue, "-inf", latest))

    async def _obstacles(
        self, queue: QueueStatus, jobs: dict[int, int], held: dict[int, str], arq_writes: int
    ) -> list[str]:
        """Return why none of these jobs can be applied; nothing if some can.

        An overflow stream waits for the home stream of its partition.
        """
        if queue.paused is not None and not arq_writes:
            return [f"the queue is {queue.paused}; `memory-worker resume` ends the pause"]
        workers = by_role(await living(self._redis, self._keys))
        if not workers["ingest"] + workers["all"]:
            return ["no worker of the role ingest is running"]
        blocked = {number for number in jobs if {number, home_of(number, self._partitions)} & held.keys()}
        if arq_writes or blocked != jobs.keys():
            return []
        return [f"partition {number} waits for a worker with {needs}" for number, needs in held.items()]
