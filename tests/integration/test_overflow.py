"""Overflow streams: which jobs go there, when they are read, and that the order of each user is kept."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from memory_worker.contract import Receipt
from memory_worker.contract.errors import QueueNotEmpty
from memory_worker.inspection.status import collect_queue
from memory_worker.queue.drain_jobs import claim_partitions, rescue_partitions
from memory_worker.queue.holding import PartitionHolder
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import BatchCommit, Entry, JobLog
from memory_worker.queue.partitions import repartition
from memory_worker.queue.replay_guard import sort_key
from memory_worker.queue.watching import StreamWatch
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.keys import Keys
from memory_worker.wire.overflow import all_partitions
from tests.integration.conftest import SIGNAL_TIMEOUT_S
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import acquire_lease, commit, drain_all, give_back, held_lease, reading, waiting
from tests.integration.overflowing import Pusher, next_millisecond

FIRST = 2**32
HEAVY, OTHER = 9, "other"


@pytest.fixture
async def queue(redis: Redis, keys: Keys) -> Pusher:
    """Partition 1 of a queue, which may have 3 jobs before its users overflow. Its overflow stream is number 5."""
    pusher = Pusher(redis, keys, partition=1, partitions=PARTITIONS)
    await pusher.publish()
    return pusher


def streams_of(receipts: list[Receipt]) -> list[int]:
    return [receipt.partition for receipt in receipts]


class TestRouting:
    async def test_a_user_overflows_after_his_burst_and_the_others_do_not(self, queue: Pusher) -> None:
        assert streams_of(await queue.of(HEAVY, 8)) == [1, 1, 1, 1, 1, 1, 5, 5]
        assert streams_of(await queue.of(OTHER, 2)) == [1, 1]
        assert streams_of(await queue.of(HEAVY)) == [5]
        assert streams_of(await queue.of(OTHER, 2)) == [1, 5]

    async def test_nobody_overflows_in_a_short_stream(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        for _ in range(5):
            assert streams_of(await queue.of(HEAVY, 3)) == [1, 1, 1]
            await drain_all(redis, keys, 1)
        assert not await redis.exists(keys.overflow_counts(1))

    @pytest.mark.parametrize("burst", [0, None])
    async def test_it_can_be_off_and_the_users_who_overflow_still_do(
        self, queue: Pusher, redis: Redis, keys: Keys, burst: int | None
    ) -> None:
        await queue.of(HEAVY, 7)
        await Pusher(redis, keys, burst=burst, partitions=PARTITIONS).publish()
        if burst is None:
            await redis.hdel(keys.meta, "user_burst")
        assert streams_of(await queue.of(OTHER, 20)) == [1] * 20
        assert streams_of(await queue.of(HEAVY)) == [5]

    async def test_counts_are_forgotten_after_some_time(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        await queue.of(HEAVY, 5)
        assert 0 < await redis.pttl(keys.overflow_counts(1)) <= 60_000

    async def test_an_overflow_stream_is_woken_and_known_as_any_partition(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.fill(HEAVY)
        await redis.delete(keys.drain_queue, keys.arq_job(keys.drain_job_id(1)))
        (receipt,) = await queue.of(HEAVY)
        assert await redis.zrange(keys.drain_queue, 0, -1) == [keys.drain_job_id(5).encode()]
        assert decode_arq(await redis.get(keys.arq_job(keys.drain_job_id(5))))["a"] == [5]
        since = await redis.hget(keys.since, "5")
        assert since is not None and int(since) <= int(receipt.entry_id.split("-")[0])
        (group,), _ = await claim_partitions(
            redis, keys, PARTITIONS, max_groups=9, batch_jobs=9, scan_limit=9, life_s=9
        )
        assert group.partitions == [5]

    async def test_older_workers_hold_an_overflow_stream(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        await queue.fill(HEAVY)
        await queue.of(HEAVY, version=1)
        await queue.of(HEAVY, version=9)
        assert [fields[b"v"] for _, fields in await redis.xrange(keys.stream(5))] == [b"2", b"9"]
        assert {fields[b"v"] for _, fields in await redis.xrange(keys.stream(1))} == {b"1"}

    async def test_a_repeated_push_gets_the_same_receipts(self, queue: Pusher, watched: Redis, redis: Redis) -> None:
        await queue.fill(HEAVY)
        first = await queue.of(HEAVY, 2)
        assert streams_of(first) == [5, 5]
        assert len(set(first)) == 2


class TestIds:
    async def test_ids_follow_those_of_the_home_stream_and_are_never_the_same(self, queue: Pusher) -> None:
        receipts = [receipt for _ in range(20) for receipt in await queue.of(HEAVY, 4)]
        positions = [sort_key(receipt.entry_id) for receipt in receipts]
        assert positions == sorted(positions)
        assert len(set(positions)) == len(positions)
        assert [5 if number >= FIRST else 1 for _, number in positions] == streams_of(receipts)

    async def test_they_follow_although_the_clock_was_set_back(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        future = 2 * int((await queue.fill(HEAVY))[-1].entry_id.split("-")[0])
        await redis.xadd(keys.stream(1), {"v": "1", "j": "x"}, id=f"{future}-7")
        await queue.of("late", 3)
        first, second = await queue.of("late", 2)
        assert (first.entry_id, second.entry_id) == (f"{future}-{FIRST}", f"{future}-{FIRST + 1}")
        assert (await queue.of(HEAVY))[0].entry_id == f"{future}-{FIRST + 2}"


class TestReading:
    async def test_an_entry_waits_for_all_older_ones_of_the_home_stream(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.fill(HEAVY)
        overflow = [receipt.entry_id for receipt in await queue.of(HEAVY, 3)]
        await next_millisecond(redis)
        await queue.of(OTHER)
        log = JobLog(redis, keys, reading(keys))
        home, behind = await held_lease(redis, keys, 1), await held_lease(redis, keys, 5)
        for _ in range(6):
            assert await log.read(behind, max_jobs=9, max_bytes=9) == ([], False)
            await commit(log, home, (await log.read(home, max_jobs=1, max_bytes=9)).entries)
        first = (await log.read(behind, max_jobs=2, max_bytes=9)).entries
        assert [entry.entry_id for entry in first] == overflow[:2]
        rest = (await log.read(behind, max_jobs=2, max_bytes=9, after=first[-1])).entries
        assert [entry.entry_id for entry in rest] == overflow[2:]

    async def test_newer_entries_of_the_home_stream_do_not_matter_and_end_the_readable_part(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.fill(HEAVY)
        await queue.of(HEAVY)
        await drain_all(redis, keys, 1)
        home_id = int((await queue.of(OTHER))[0].entry_id.split("-")[0]) + 1000
        await redis.xadd(keys.stream(5), {"v": "2", "j": "x"}, id=f"{home_id}-{FIRST}")
        log, lease = JobLog(redis, keys, reading(keys)), await held_lease(redis, keys, 5)
        entries = (await log.read(lease, max_jobs=9, max_bytes=9)).entries
        assert len(entries) == 1
        assert (await log.read(lease, max_jobs=9, max_bytes=9, after=entries[0])).entries == []
        await drain_all(redis, keys, 1)
        assert len((await log.read(lease, max_jobs=9, max_bytes=9)).entries) == 2

    async def test_users_leave_it_only_once_it_is_empty(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        await queue.fill(HEAVY)
        await queue.of(HEAVY, 2)
        await drain_all(redis, keys, 1)
        log, lease = JobLog(redis, keys, reading(keys)), await held_lease(redis, keys, 5)
        assert await commit(log, lease, (await log.read(lease, max_jobs=1, max_bytes=9)).entries) == 1
        assert streams_of(await queue.of(HEAVY)) == [5]
        await next_millisecond(redis)
        assert await commit(log, lease, (await log.read(lease, max_jobs=9, max_bytes=9)).entries) == 0
        assert streams_of(await queue.of(HEAVY)) == [1]

    async def test_users_stay_while_ids_of_the_home_stream_would_be_earlier(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.fill(HEAVY)
        await drain_all(redis, keys, 1)
        await redis.xadd(keys.stream(5), {"v": "2", "j": "x"}, id=f"{2**43}-{FIRST}")
        await drain_all(redis, keys, 5)
        assert streams_of(await queue.of(HEAVY)) == [5]


class _Flight(NamedTuple):
    """A batch of a drain that runs: it was read, and perhaps applied."""

    lease: Lease
    entries: list[Entry]
    applied: bool = False


class _Drains:
    """Drains of both streams at once, step by step, each of which may crash between any two steps."""

    def __init__(self, redis: Redis, keys: Keys, chance: random.Random) -> None:
        self._redis, self._keys, self._chance = redis, keys, chance
        self._log = JobLog(redis, keys, reading(keys, partitions=1))
        self._flights: dict[int, _Flight] = {}
        self.applied: list[str] = []
        """The ids of entries as they were applied, some of them several times."""

    async def step(self) -> None:
        number = self._chance.choice(all_partitions(1))
        flight = self._flights.pop(number, None)
        if flight is None:
            lease = await acquire_lease(self._redis, self._keys, number, ttl_s=60, partitions=1)
            assert lease is not None
            page = await self._log.read(lease, max_jobs=self._chance.choice((1, 2, 5)), max_bytes=1000)
            self._flights[number] = _Flight(lease, page.entries)
        elif not flight.entries or self._chance.random() < 0.2:
            await give_back(self._redis, self._keys, flight.lease)  # it ends, or it crashes
        elif not flight.applied:
            self.applied += [entry.entry_id for entry in flight.entries]
            self._flights[number] = flight._replace(applied=True)
        else:
            await self._log.commit_all([BatchCommit(lease=flight.lease, batch=flight.entries)], release=True)


async def test_the_order_of_each_user_is_kept(redis: Redis, keys: Keys, seed: int) -> None:
    chance = random.Random(seed)
    queue, drains = Pusher(redis, keys, burst=chance.choice((1, 2, 4))), _Drains(redis, keys, chance)
    await queue.publish()
    pushed: dict[int, list[str]] = defaultdict(list)
    streams: dict[int, list[int]] = defaultdict(list)
    for _ in range(8):
        for _ in range(40):
            user = chance.choice((1, 1, 1, 2, 3))
            if chance.random() < 0.3:
                for receipt in await queue.of(user, chance.choice((1, 1, 2, 6))):
                    pushed[user].append(receipt.entry_id)
                    streams[user].append(receipt.partition)
            else:
                await drains.step()
        await next_millisecond(redis)  # so that users may leave the overflow stream
        while await redis.xlen(keys.stream(0)) + await redis.xlen(keys.stream(1)):
            await drains.step()
    last = {entry_id: at for at, entry_id in enumerate(drains.applied)}
    for user, ids in pushed.items():
        assert [sort_key(one) for one in ids] == sorted(map(sort_key, ids)), "positions are in the order of the pushes"
        assert [last[one] for one in ids] == sorted(last[one] for one in ids), f"jobs of {user} were reordered"
    moves = [step for found in streams.values() for step in pairwise(found)]
    assert {(0, 1), (1, 0)} <= set(moves)  # somebody overflowed, and came back


class TestAsAnyPartition:
    async def test_the_state_lists_overflow_streams_that_hold_something(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.fill(HEAVY)
        before = await collect_queue(redis, keys)
        await queue.of(HEAVY, 2)
        after = await collect_queue(redis, keys)
        assert [state.partition for state in before.partitions] == [0, 1, 2, 3]
        assert [state.partition for state in after.partitions] == [0, 1, 2, 3, 5]
        assert (after.partitions[-1].waiting, after.partitions[-1].overflow_of) == (2, 1)
        assert (after.waiting, after.partition_count) == (8, PARTITIONS)

    async def test_its_lost_drain_job_is_rescued(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        await queue.of(HEAVY, 7)
        await redis.delete(keys.drain_queue)
        assert await rescue_partitions(redis, keys, PARTITIONS) == 2
        assert await redis.zcard(keys.drain_queue) == 2
        assert await redis.hget(keys.backlog, "jobs") == b"7"

    async def test_a_watch_sees_it_as_a_part_of_the_partition(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        seen: list[Any] = []
        watch = StreamWatch(redis, keys, PARTITIONS, lambda *entry: seen.append(entry))
        await queue.of(HEAVY, 7)
        await watch.start()
        await queue.of(HEAVY)
        await watch.catch_up()
        assert seen.count((1, 2, b"x")) == 2
        assert {partition for partition, _, _ in seen} == {1}
        assert not watch.gaps

    async def test_who_holds_a_partition_holds_both_streams(self, queue: Pusher, redis: Redis, keys: Keys) -> None:
        holder = PartitionHolder(redis, keys, PARTITIONS, lease_ttl_s=5, settle_s=0)
        async with holder.hold(1) as leases:
            assert [lease.partition for lease in leases] == [1, 5]
            assert await redis.exists(keys.lease(1), keys.lease(5)) == 2
        assert not await redis.exists(keys.lease(1), keys.lease(5))

    async def test_who_waits_for_the_second_stream_keeps_the_first(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        drain = await held_lease(redis, keys, 5)

        async def hold() -> list[int]:
            async with PartitionHolder(redis, keys, PARTITIONS, lease_ttl_s=0.5, settle_s=0).hold(1) as leases:
                return [lease.partition for lease in leases]

        holding = asyncio.create_task(hold())
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            lives = [0]
            while len(lives) < 3:  # it was renewed twice
                left = await redis.pttl(keys.lease(1))
                lives += [left] if left > lives[-1] else []
                lives[-1] = left
        await give_back(redis, keys, drain)
        assert await asyncio.wait_for(holding, SIGNAL_TIMEOUT_S) == [1, 5]

    async def test_the_number_of_partitions_stays_while_it_has_jobs(
        self, queue: Pusher, redis: Redis, keys: Keys
    ) -> None:
        await queue.of(HEAVY, 7)
        await drain_all(redis, keys, 1)
        with pytest.raises(QueueNotEmpty):
            await repartition(redis, keys, 8)
        await redis.delete(keys.stream(5))
        assert await redis.exists(keys.overflow_users(1))
        await repartition(redis, keys, 8)
        assert not await redis.exists(keys.overflow_users(1))
        assert await waiting(redis, keys, 5) == []
