"""The job log: drains read and remove entries, and callers wait until an entry was applied."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from memory_worker.contract import CONTRACT_VERSION, Receipt, Upsert
from memory_worker.contract.errors import DeadLettered, LeaseLost, NotApplied
from memory_worker.queue.lease import Lease, LeaseState
from memory_worker.queue.log import BatchCommit, DeadEntry, Entry, JobLog
from memory_worker.wire import applied as applied_module
from memory_worker.wire.applied import wait_applied
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Everything
from tests.integration.jobs import PARTITIONS
from tests.integration.leases import commit, held_lease, reading
from tests.integration.proxies import RedisProxy

NO_LIMIT = 2**30


@pytest.fixture
def log(redis: Redis, keys: Keys) -> JobLog:
    return JobLog(redis, keys, reading(keys))


@pytest.fixture
async def lease(redis: Redis, keys: Keys) -> Lease:
    """The lease of partition 0."""
    return await held_lease(redis, keys)


async def fill(redis: Redis, keys: Keys, *bodies: bytes) -> list[Receipt]:
    return await push(redis, keys, PARTITIONS, [(0, body) for body in bodies])


async def read(log: JobLog, lease: Lease, max_jobs: int = 1000, max_bytes: int = NO_LIMIT) -> list[Entry]:
    return (await log.read(lease, max_jobs=max_jobs, max_bytes=max_bytes)).entries


def dead(entry: Entry, detail: str = "for a test") -> DeadEntry:
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"")
    return DeadEntry(entry=entry, reason="refused", detail=detail, job=job)


class TestRead:
    async def test_entries_are_read_from_the_head_up_to_a_count(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        bodies = [b"%d" % number for number in range(150)]
        receipts = await fill(redis, keys, *bodies)
        for count in (1, 64, 65, 128, 149, 150, 151):  # a script's page is 64
            entries = await read(log, lease, max_jobs=count)
            assert [entry.body for entry in entries] == bodies[:count]
            assert [entry.entry_id for entry in entries] == [receipt.entry_id for receipt in receipts[:count]]
        assert {entry.version for entry in entries} == {CONTRACT_VERSION}
        assert await redis.xlen(keys.stream(0)) == 150

    @pytest.mark.parametrize(("most", "read_"), [(1, 1), (99, 1), (100, 1), (199, 1), (200, 2), (350, 3)])
    async def test_entries_are_read_up_to_a_size_but_at_least_one(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease, most: int, read_: int
    ) -> None:
        await fill(redis, keys, *[b"x" * 100] * 5)
        assert len(await read(log, lease, max_bytes=most)) == read_

    async def test_a_small_entry_does_not_overtake_one_that_does_not_fit(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"x" * 100, b"b")
        assert [entry.body for entry in await read(log, lease, max_bytes=50)] == [b"a"]

    async def test_entries_are_read_behind_an_entry(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, *[b"%d" % number for number in range(100)])
        first = await read(log, lease, max_jobs=10)
        behind = (await log.read(lease, max_jobs=70, max_bytes=NO_LIMIT, after=first[-1])).entries
        assert [entry.body for entry in behind] == [b"%d" % number for number in range(10, 80)]
        last = await read(log, lease)
        assert (await log.read(lease, max_jobs=70, max_bytes=NO_LIMIT, after=last[-1])).entries == []

    async def test_missing_fields_are_empty_and_other_fields_are_ignored(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        stream = keys.stream(0)
        assert await read(log, lease) == []
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

    async def test_a_read_renews_the_lease(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        lease.until -= 6
        await redis.pexpire(keys.lease(0), 2_000)
        await read(log, lease)
        assert await redis.pttl(keys.lease(0)) > 7_000
        assert lease.lasts(7)

    async def test_a_read_without_the_lease_fails(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, b"a")
        await redis.set(keys.lease(0), "a successor's", px=2_000)
        with pytest.raises(LeaseLost):
            await read(log, lease)
        assert await redis.pttl(keys.lease(0)) <= 2_000


class TestCommit:
    async def test_a_commit_removes_its_batch_only(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        receipts = await fill(redis, keys, b"a", b"bb", b"ccc")
        await push(redis, keys, PARTITIONS, [(1, b"other")])
        await commit(log, lease, await read(log, lease, max_jobs=2))

        assert [entry.body for entry in await read(log, lease)] == [b"ccc"]
        assert await redis.xlen(keys.stream(1)) == 1
        assert await redis.hgetall(keys.backlog) == {b"jobs": b"2", b"bytes": b"8"}
        [(mark, _)] = await redis.xrange(keys.applied(0))
        assert mark.decode() == receipts[1].entry_id

    async def test_the_backlog_is_removed_with_the_last_entry(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"bb")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        await commit(log, lease, await read(log, lease))
        assert not await redis.exists(keys.backlog)

    async def test_dead_letters_are_counted_with_their_bytes(
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

    async def test_a_dead_letter_keeps_its_job_and_gets_a_reason(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
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
        reason = {b"reason": b"refused", b"op": b"upsert", b"user_id": b"7", b"kind": b"memory", b"namespace": b""}
        assert first == {**reason, b"ref": b"", b"detail": b"first", b"v": version, b"j": b"a", b"r": b""}
        assert third.items() >= {**reason, b"detail": b"third", b"j": b"c"}.items()

    async def test_dead_letters_may_be_given_in_any_order(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        """A drain finds malformed entries first, and later those that Qdrant refuses."""
        await fill(redis, keys, b"a", b"b", b"c")
        batch = await read(log, lease)
        await commit(log, lease, batch, [dead(batch[2]), dead(batch[0])])
        dead_letters = [entry_id.decode() for entry_id, _ in await redis.xrange(keys.dead(0))]
        assert dead_letters == [batch[0].entry_id, batch[2].entry_id]
        assert await redis.xlen(keys.stream(0)) == 0

    async def test_a_commit_without_the_lease_changes_nothing(
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

    async def test_a_commit_renews_the_lease(self, redis: Redis, keys: Keys, log: JobLog, lease: Lease) -> None:
        await fill(redis, keys, b"a", b"b")
        batch = await read(log, lease, max_jobs=1)
        lease.until -= 6
        await redis.pexpire(keys.lease(0), 2_000)
        assert await commit(log, lease, batch) == 1
        assert await redis.pttl(keys.lease(0)) > 7_000
        assert lease.lasts(7)
        assert lease.state is LeaseState.HELD

    async def test_the_commit_of_the_last_entry_gives_the_lease_back(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a")
        assert await commit(log, lease, await read(log, lease)) == 0
        assert lease.state is LeaseState.ENDED
        assert not await redis.exists(keys.lease(0))

    async def test_a_repeated_commit_changes_nothing_after_the_lease_was_given_back(
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

    async def test_a_lost_lease_does_not_prevent_the_commits_of_others(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b"), (1, b"c"), (2, b"d"), (2, b"e")])
        leases = [lease, *[await held_lease(redis, keys, number) for number in (1, 2)]]
        batches = [await read(log, one, max_jobs=1) for one in leases]
        await redis.delete(keys.lease(1))

        dones = [BatchCommit(lease=one, batch=batch) for one, batch in zip(leases, batches, strict=True)]
        assert await log.commit_all(dones, release=True) == [1, None, 1]

        assert [await redis.xlen(keys.stream(number)) for number in range(3)] == [1, 1, 1]
        assert await redis.hgetall(keys.backlog) == {b"jobs": b"3", b"bytes": b"3"}  # type: ignore[misc]
        assert [one.state for one in leases] == [LeaseState.ENDED, LeaseState.HELD, LeaseState.ENDED]
        assert not await redis.exists(*(keys.lease(number) for number in range(3)))

    async def test_a_commit_whose_reply_was_lost_counts_once(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys, lease: Lease
    ) -> None:
        await fill(redis, keys, b"a", b"bb", b"ccc", b"dddd")
        log = JobLog(watched, keys, reading(keys))
        batch = await read(log, lease, max_jobs=2)
        await commit(log, lease, batch[:1])  # loads the script
        redis_proxy.words()

        redis_proxy.lose_reply_to(b"EVALSHA")
        await commit(log, lease, batch[1:], [dead(batch[1])])

        assert redis_proxy.words().count("EVALSHA") == 2
        assert [entry.body for entry in await read(log, lease)] == [b"ccc", b"dddd"]
        counts = {b"jobs": b"2", b"bytes": b"7", b"dead": b"1", b"dead_bytes": b"2"}
        assert await redis.hgetall(keys.backlog) == counts
        assert await redis.xlen(keys.dead(0)) == 1
        await wait_applied(redis, keys, Receipt(0, batch[0].entry_id), timeout_s=1)

    async def test_a_mark_ahead_of_its_stream_is_replaced(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        """The stream was deleted by hand, and the clock of Redis was set back."""
        await redis.xadd(keys.applied(0), {"jobs": "1"}, id="99999999999999-0")
        [receipt] = await fill(redis, keys, b"a")
        await commit(log, lease, await read(log, lease))
        [(mark, _)] = await redis.xrange(keys.applied(0))
        assert mark.decode() == receipt.entry_id


class TestWaitApplied:
    async def test_a_wait_for_an_applied_entry_returns_at_once(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        receipts = await fill(redis, keys, b"a", b"b")
        await commit(log, lease, await read(log, lease))
        for receipt in receipts:
            await wait_applied(redis, keys, receipt, timeout_s=0.001)

    async def test_a_wait_is_one_blocking_command(
        self,
        redis: Redis,
        watched: Redis,
        redis_proxy: RedisProxy,
        keys: Keys,
        log: JobLog,
        lease: Lease,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(applied_module, "_FIRST_WAIT_S", SIGNAL_TIMEOUT_S)
        loading, first, second = await fill(redis, keys, b"0", b"a", b"b")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        await wait_applied(redis, keys, loading, timeout_s=1)  # Redis loads the script
        waits = redis_proxy.seen(b"XREAD")
        waiting = asyncio.create_task(wait_applied(watched, keys, second, timeout_s=SIGNAL_TIMEOUT_S))
        await waits.wait()

        await commit(log, lease, await read(log, lease, max_jobs=1))
        await wait_applied(redis, keys, first, timeout_s=1)
        assert not waiting.done()
        await commit(log, lease, await read(log, lease))
        await waiting
        assert redis_proxy.words() == ["XREAD", "EVALSHA"]

    async def test_an_entry_that_is_not_applied_in_time_is_an_error(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        first, second = await fill(redis, keys, b"a", b"b")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        with pytest.raises(NotApplied, match=f"{second}.*0.05 s"):
            await wait_applied(redis, keys, second, timeout_s=0.05)
        await wait_applied(redis, keys, first, timeout_s=1)

    async def test_a_wait_for_a_dead_letter_raises_its_reason(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        first, second = await fill(redis, keys, b"a", b"b")
        waiting = asyncio.create_task(wait_applied(redis, keys, first, timeout_s=SIGNAL_TIMEOUT_S))
        batch = await read(log, lease)
        await commit(log, lease, batch, [dead(batch[0], "a bad point")])
        with pytest.raises(DeadLettered, match="a bad point") as dead_letter:
            await waiting
        assert dead_letter.value.reason == "refused"
        await wait_applied(redis, keys, second, timeout_s=1)

    async def test_the_first_entry_of_a_millisecond_can_be_waited_for(
        self, redis: Redis, keys: Keys, log: JobLog, lease: Lease
    ) -> None:
        await redis.hset(keys.since, "epoch", 5)
        await redis.xadd(keys.stream(0), {"v": "1", "j": "a"}, id="5-0")
        await redis.xadd(keys.stream(0), {"v": "1", "j": "b"}, id="6-0")
        await commit(log, lease, await read(log, lease, max_jobs=1))
        await wait_applied(redis, keys, Receipt(0, "5-0"), timeout_s=0.05)
        with pytest.raises(NotApplied):
            await wait_applied(redis, keys, Receipt(0, "6-0"), timeout_s=0.05)
