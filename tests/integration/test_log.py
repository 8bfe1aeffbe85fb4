"""The job log: what a drain reads and removes, and what a caller waits for."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, Receipt, Upsert
from memory_worker.contract.errors import DeadLettered, LeaseLost, NotApplied
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.queue.log import BatchCommit, DeadEntry, Entry, JobLog
from memory_worker.wire.applied import wait_applied
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Everything
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import acquire_lease, commit, reading
from tests.integration.proxies import RedisProxy

NO_LIMIT = 2**30


@pytest.fixture
def log(redis: Redis, keys: Keys) -> JobLog:
    return JobLog(redis, keys, reading(keys))


@pytest.fixture
async def lease(redis: Redis, keys: Keys) -> Lease:
    """The lease of partition 0."""
    found = await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
    assert found is not None
    return found


async def fill(redis: Redis, keys: Keys, *bodies: bytes) -> list[Receipt]:
    return await push(redis, keys, PARTITIONS, [(0, body) for body in bodies])


async def read(log: JobLog, lease: Lease, max_jobs: int = 1000, max_bytes: int = NO_LIMIT) -> list[Entry]:
    return await log.read(lease, max_jobs=max_jobs, max_bytes=max_bytes)


def dead(entry: Entry, detail: str = "for a test") -> DeadEntry:
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"")
    return DeadEntry(entry=entry, reason="refused", detail=detail, job=job)


class TestRead:
    async def test_from_the_head_up_to_a_count(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        bodies = [b"%d" % number for number in range(150)]
        receipts = await fill(redis, keys, *bodies)
        for count in (1, 64, 65, 128, 149, 150, 151):  # a script's page is 64
            entries = await read(log, lease, max_jobs=count)
            assert [entry.body for entry in entries] == bodies[:count]
            assert [entry.entry_id for entry in entries] == [receipt.entry_id for receipt in receipts[:count]]
        assert {entry.version for entry in entries} == {CONTRACT_VERSION}
        assert await redis.xlen(keys.stream(0)) == 150

    @pytest.mark.parametrize(("most", "read_"), [(1, 1), (99, 1), (100, 1), (199, 1), (200, 2), (350, 3)])
    async def test_up_to_so_many_bytes_but_always_one(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease, most: int, read_: int
    ) -> None:
        await fill(redis, keys, *[b"x" * 100] * 5)
        assert len(await read(log, lease, max_bytes=most)) == read_

    async def test_a_small_entry_behind_one_that_does_not_fit_waits_for_its_turn(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"x" * 100, b"b")
        assert [entry.body for entry in await read(log, lease, max_bytes=50)] == [b"a"]

    async def test_behind_an_entry(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, *[b"%d" % number for number in range(100)])
        first = await read(log, lease, max_jobs=10)
        behind = await log.read(lease, max_jobs=70, max_bytes=NO_LIMIT, after=first[-1])
        assert [entry.body for entry in behind] == [b"%d" % number for number in range(10, 80)]
        last = await read(log, lease)
        assert await log.read(lease, max_jobs=70, max_bytes=NO_LIMIT, after=last[-1]) == []

    async def test_nothing_waits(self, log: JobLog, lease: Lease) -> None:
        assert await read(log, lease) == []

    async def test_fields_that_lack_or_that_are_too_many(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        stream = keys.stream(0)
        for fields in (
            {"j": "only a job"},
            {"v": "1"},
            {"other": "x"},
            {"v": "2", "j": "more", "trace": "abc"},
            {"v": "two", "j": "word"},
            {"v": "1" * 10, "j": "long"},
        ):
            await redis.xadd(stream, fields)  # type: ignore[arg-type]
        assert [(entry.version, entry.body) for entry in await read(log, lease)] == [
            (0, b"only a job"),
            (1, b""),
            (0, b""),
            (2, b"more"),
            (0, b"word"),
            (0, b"long"),
        ]

    async def test_it_renews_the_lease(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        lease.until -= 6
        await redis.pexpire(keys.lease(0), 2_000)
        await read(log, lease)
        assert await redis.pttl(keys.lease(0)) > 7_000
        assert lease.lasts(7)

    async def test_not_without_the_lease(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, b"a")
        await redis.set(keys.lease(0), "a successor's", px=2_000)
        with pytest.raises(LeaseLost):
            await read(log, lease)
        assert await redis.pttl(keys.lease(0)) <= 2_000


class TestCommit:
    async def test_it_removes_the_batch_and_nothing_behind_it(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        receipts = await fill(redis, keys, b"a", b"bb", b"ccc")
        await push(redis, keys, PARTITIONS, [(1, b"other")])
        await commit(log, lease, await read(log, lease, max_jobs=2))

        assert [entry.body for entry in await read(log, lease)] == [b"ccc"]
        assert await redis.xlen(keys.stream(1)) == 1
        assert await redis.hgetall(keys.backlog) == {b"jobs": b"2", b"bytes": b"8"}
        [(mark, _)] = await redis.xrange(keys.applied(0))
        assert mark.decode() == receipts[1].entry_id

    async def test_nothing_is_left_of_the_backlog_when_all_is_done(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"bb")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        await commit(log, lease, await read(log, lease))
        assert not await redis.exists(keys.backlog)

    async def test_dead_letters_count_as_what_is_stored(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"abc", b"de", b"f")
        batch = await read(log, lease, max_jobs=2)
        await commit(log, lease, batch, [dead(batch[0])])
        assert await redis.hgetall(keys.backlog) == {  # type: ignore[misc]
            b"jobs": b"1",
            b"bytes": b"1",
            b"dead": b"1",
            b"dead_bytes": b"3",
        }

    async def test_dead_letters_move_as_they_are(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, b"a", b"b")
        await redis.xadd(keys.stream(0), {"j": "c", "reason": "its own"})
        batch = await read(log, lease)

        await commit(log, lease, batch, [dead(batch[0], "first"), dead(batch[2], "third")])

        assert await redis.xlen(keys.stream(0)) == 0
        (first_id, first), (third_id, third) = await redis.xrange(keys.dead(0))
        assert (first_id.decode(), third_id.decode()) == (batch[0].entry_id, batch[2].entry_id)
        died_s = int(first.pop(b"at")) / 1000
        assert died_s == pytest.approx(time.time(), abs=60)
        version = str(CONTRACT_VERSION).encode()
        reason = {b"reason": b"refused", b"op": b"upsert", b"user_id": b"7"}
        assert first == {**reason, b"detail": b"first", b"v": version, b"j": b"a", b"r": b""}
        assert third.items() >= {**reason, b"detail": b"third", b"j": b"c"}.items()

    async def test_dead_letters_may_be_named_in_any_order(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        """A drain finds the malformed ones first, and only then those that Qdrant refuses."""
        await fill(redis, keys, b"a", b"b", b"c")
        batch = await read(log, lease)
        await commit(log, lease, batch, [dead(batch[2]), dead(batch[0])])
        dead_letters = [entry_id.decode() for entry_id, _ in await redis.xrange(keys.dead(0))]
        assert dead_letters == [batch[0].entry_id, batch[2].entry_id]
        assert await redis.xlen(keys.stream(0)) == 0

    async def test_a_lost_lease_changes_nothing(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease, everything: Everything
    ) -> None:
        await fill(redis, keys, b"a", b"b")
        batch = await read(log, lease)
        await redis.set(keys.lease(0), "a successor's", px=2_000)
        before = await everything()

        with pytest.raises(LeaseLost):
            await commit(log, lease, batch, [dead(batch[0])])

        assert await everything() == before
        assert await redis.pttl(keys.lease(0)) <= 2_000

    async def test_it_renews_the_lease(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, b"a", b"b")
        batch = await read(log, lease, max_jobs=1)
        lease.until -= 6
        await redis.pexpire(keys.lease(0), 2_000)
        assert await commit(log, lease, batch) == 1
        assert await redis.pttl(keys.lease(0)) > 7_000
        assert lease.lasts(7)
        assert lease.state is LeaseState.HELD

    async def test_with_the_last_entry_the_lease_is_given_back(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a")
        assert await commit(log, lease, await read(log, lease)) == 0
        assert lease.state is LeaseState.ENDED
        assert not await redis.exists(keys.lease(0))

    async def test_sent_twice_although_the_first_gave_the_lease_back(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease, everything: Everything
    ) -> None:
        await fill(redis, keys, b"a")
        batch = await read(log, lease)
        assert await commit(log, lease, batch) == 0
        before = await everything()
        assert await commit(log, lease, batch) == 0
        assert await everything() == before
        await fill(redis, keys, b"b")
        assert await commit(log, lease, batch) == 1

    async def test_several_at_once_and_one_of_them_in_vain(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b"), (1, b"c"), (2, b"d"), (2, b"e")])
        others = [await acquire_lease(redis, keys, number, ttl_s=8, partitions=PARTITIONS) for number in (1, 2)]
        leases = [lease, *(other for other in others if other is not None)]
        batches = [await read(log, one, max_jobs=1) for one in leases]
        await redis.delete(keys.lease(1))

        dones = [BatchCommit(lease=one, batch=batch) for one, batch in zip(leases, batches, strict=True)]
        assert await log.commit_all(dones, release=True) == [1, None, 1]

        assert [await redis.xlen(keys.stream(number)) for number in range(3)] == [1, 1, 1]
        assert await redis.hgetall(keys.backlog) == {b"jobs": b"3", b"bytes": b"3"}  # type: ignore[misc]
        assert [one.state for one in leases] == [LeaseState.ENDED, LeaseState.HELD, LeaseState.ENDED]
        assert not await redis.exists(*(keys.lease(number) for number in range(3)))

    async def test_sent_twice_because_its_reply_was_lost_it_counts_once(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"bb", b"ccc", b"dddd")
        log = JobLog(watched, keys, reading(keys))
        batch = await read(log, lease, max_jobs=2)
        await commit(log, lease, batch[:1])  # Redis has the script from here on
        redis_proxy.words()

        redis_proxy.lose_reply_to(b"EVALSHA")
        await commit(log, lease, batch[1:], [dead(batch[1])])

        assert redis_proxy.words().count("EVALSHA") == 2
        assert [entry.body for entry in await read(log, lease)] == [b"ccc", b"dddd"]
        counts = {b"jobs": b"2", b"bytes": b"7", b"dead": b"1", b"dead_bytes": b"2"}
        assert await redis.hgetall(keys.backlog) == counts
        assert await redis.xlen(keys.dead(0)) == 1
        await wait_applied(redis, keys, Receipt(0, batch[0].entry_id), timeout_s=1)

    async def test_a_mark_ahead_of_its_stream_begins_anew(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        """Somebody deleted the stream by hand, and Redis's clock went back since."""
        await redis.xadd(keys.applied(0), {"jobs": "1"}, id="99999999999999-0")
        [receipt] = await fill(redis, keys, b"a")
        await commit(log, lease, await read(log, lease))
        [(mark, _)] = await redis.xrange(keys.applied(0))
        assert mark.decode() == receipt.entry_id


class TestWaitApplied:
    async def test_applied_already(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        receipts = await fill(redis, keys, b"a", b"b")
        await commit(log, lease, await read(log, lease))
        for receipt in receipts:
            await wait_applied(redis, keys, receipt, timeout_s=0.001)

    async def test_it_blocks_in_one_call_until_then(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        first, second = await fill(redis, keys, b"a", b"b")
        waits = redis_proxy.seen(b"XREAD")
        waiting = asyncio.create_task(wait_applied(watched, keys, second, timeout_s=SIGNAL_TIMEOUT_S))
        await waits.wait()

        await commit(log, lease, await read(log, lease, max_jobs=1))
        await wait_applied(redis, keys, first, timeout_s=1)
        assert not waiting.done()
        await commit(log, lease, await read(log, lease))
        await waiting
        assert redis_proxy.words() == ["XREAD", "HMGET", "XRANGE"] * 2

    async def test_not_applied_in_time(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        first, second = await fill(redis, keys, b"a", b"b")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        started = time.monotonic()
        with pytest.raises(NotApplied, match=f"{second}.*0.05 s"):
            await wait_applied(redis, keys, second, timeout_s=0.05)
        assert 0.05 <= time.monotonic() - started < 2
        await wait_applied(redis, keys, first, timeout_s=1)

    async def test_dead(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        first, second = await fill(redis, keys, b"a", b"b")
        waiting = asyncio.create_task(wait_applied(redis, keys, first, timeout_s=SIGNAL_TIMEOUT_S))
        batch = await read(log, lease)
        await commit(log, lease, batch, [dead(batch[0], "it is ill")])
        with pytest.raises(DeadLettered, match="it is ill") as dead_letter:
            await waiting
        assert dead_letter.value.reason == "refused"
        await wait_applied(redis, keys, second, timeout_s=1)

    async def test_the_first_entry_of_a_millisecond(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await redis.hset(keys.since, "epoch", 5)
        await redis.xadd(keys.stream(0), {"v": "1", "j": "a"}, id="5-0")
        await redis.xadd(keys.stream(0), {"v": "1", "j": "b"}, id="6-0")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        await wait_applied(redis, keys, Receipt(0, "5-0"), timeout_s=0.05)
        with pytest.raises(NotApplied):
            await wait_applied(redis, keys, Receipt(0, "6-0"), timeout_s=0.05)

    async def test_a_whole_drain_later(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        [receipt] = await fill(redis, keys, b"a")
        await commit(log, lease, await read(log, lease))
        await fill(redis, keys, b"b")
        another = await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
        assert another is not None
        await commit(log, another, await read(log, another))
        await wait_applied(redis, keys, receipt, timeout_s=0.05)
