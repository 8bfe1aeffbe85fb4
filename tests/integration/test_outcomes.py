"""The outcomes of jobs: written once, in the step in which a job leaves its stream, and read behind the last one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Outcome, Purge, Receipt, Upsert, WriteJob
from memory_worker.contract.errors import InvalidJob, QueueUnavailable
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import BatchCommit, DeadEntry, Entry, JobLog
from memory_worker.wire.keys import Keys
from memory_worker.wire.outcomes import FIRST, read_outcomes
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Everything, MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import PARTITIONS, axis, chunk, memory
from tests.integration.leases import held_lease, reading
from tests.integration.proxies import UPDATE, QdrantProxy, RedisProxy, refusing

JOB = Upsert(user_id=7, point_id="mem_7_1", vector=b"", ref="r7", notify=True)


@pytest.fixture
async def lease(redis: Redis, keys: Keys) -> Lease:
    """The lease of partition 0."""
    return await held_lease(redis, keys)


@pytest.fixture
def dead_letters_of_one(redis: Redis, keys: Keys) -> DeadLetters:
    return DeadLetters(redis, keys, 1)


async def outcomes(redis: Redis, keys: Keys, after: str = FIRST, count: int = 1000) -> list[Outcome]:
    return await read_outcomes(redis, keys, after=after, count=count, timeout_s=0, patience_s=5)


async def summary(redis: Redis, keys: Keys) -> list[tuple[str, str, str | None]]:
    return [(found.outcome, found.reason, found.ref) for found in await outcomes(redis, keys)]


async def batch_of(log: JobLog, redis: Redis, keys: Keys, lease: Lease, count: int) -> list[Entry]:
    await push(redis, keys, PARTITIONS, [(0, b"x")] * count)
    return (await log.read(lease, max_jobs=count, max_bytes=2**30)).entries


def marked(job: WriteJob, ref: str, *, notify: bool = True) -> WriteJob:
    return type(job)(**{name: getattr(job, name) for name in job.__struct_fields__} | {"ref": ref, "notify": notify})


class TestCommit:
    async def test_an_outcome_is_written_once_if_the_reply_was_lost(
        self, redis: Redis, watched: Redis, redis_proxy: RedisProxy, keys: Keys, lease: Lease
    ) -> None:
        log = JobLog(watched, keys, reading(keys))
        first, second, third, _ = await batch_of(log, redis, keys, lease, 4)
        await log.commit(BatchCommit(lease=lease, batch=[first]))  # loads the script
        redis_proxy.words()
        redis_proxy.lose_reply_to(b"EVALSHA")
        dead = DeadEntry(entry=third, reason="refused", detail="why \ud800", job=JOB)
        await log.commit(BatchCommit(lease=lease, batch=[second, third], applied=[(second, JOB)], dead=[dead]))
        assert redis_proxy.words().count("EVALSHA") == 2
        applied, died = await outcomes(redis, keys)
        assert (applied.outcome, applied.receipt) == ("applied", Receipt(0, second.entry_id))
        assert (died.outcome, died.receipt) == ("dead", Receipt(0, third.entry_id))
        assert (died.reason, died.detail, died.ref) == ("refused", "why \\ud800", "r7")

    async def test_a_repeated_commit_writes_nothing_more(
        self, redis: Redis, keys: Keys, lease: Lease, everything: Everything
    ) -> None:
        log = JobLog(redis, keys, reading(keys))
        [entry] = await batch_of(log, redis, keys, lease, 1)
        commit = BatchCommit(lease=lease, batch=[entry], applied=[(entry, JOB)])
        assert await log.commit(commit) == 0
        before = await everything()
        assert await log.commit(commit) == 0
        assert await everything() == before
        assert len(await outcomes(redis, keys)) == 1

    async def test_a_commit_without_the_lease_writes_nothing(self, redis: Redis, keys: Keys, lease: Lease) -> None:
        log = JobLog(redis, keys, reading(keys))
        [entry] = await batch_of(log, redis, keys, lease, 1)
        await redis.set(keys.lease(0), "a successor's")
        commit = BatchCommit(lease=lease, batch=[entry], applied=[(entry, JOB)])
        assert await log.commit_all([commit]) == [None]
        assert not await redis.exists(keys.outcomes)

    async def test_all_fields_of_an_outcome(self, redis: Redis, keys: Keys, lease: Lease) -> None:
        log = JobLog(redis, keys, reading(keys))
        one, two, three = await batch_of(log, redis, keys, lease, 3)
        everywhere = Purge(user_id=7, notify=True)
        applied: list[tuple[Entry, WriteJob]] = [(two, everywhere), (one, JOB)]
        dead = DeadEntry(entry=three, reason="malformed", detail="no job")
        await log.commit(BatchCommit(lease=lease, batch=[one, two, three], applied=applied, dead=[dead]))
        first, second, third = await outcomes(redis, keys)  # in the order of the batch
        assert first == Outcome(
            id=first.id,
            receipt=Receipt(0, one.entry_id),
            position=one.entry_id,
            outcome="applied",
            at=first.at,
            op="upsert",
            user_id=7,
            kind="memory",
            ref="r7",
        )
        assert first.at == pytest.approx(time.time() * 1000, abs=60_000)
        assert (second.op, second.kind, second.namespace, second.ref) == ("purge", None, None, None)
        assert (third.op, third.user_id, third.reason, third.detail) == (None, None, "malformed", "no job")

    @pytest.mark.parametrize(("most", "least", "kept"), [(100, 100, 200), (1000, 500, 500), (0, 0, 0)])
    async def test_the_stream_is_bounded(
        self, redis: Redis, keys: Keys, lease: Lease, most: int, least: int, kept: int
    ) -> None:
        log = JobLog(redis, keys, reading(keys), outcomes_max=most)
        batch = await batch_of(log, redis, keys, lease, 500)
        await log.commit(BatchCommit(lease=lease, batch=batch, applied=[(entry, JOB) for entry in batch]))
        assert least <= await redis.xlen(keys.outcomes) <= kept
        assert not most or (await outcomes(redis, keys))[-1].receipt.entry_id == batch[-1].entry_id
        assert bool(await redis.exists(keys.outcomes)) == bool(most)


class TestDrain:
    async def test_only_dead_letters_and_jobs_with_notify_are_reported(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, dead_letters_of_one: DeadLetters
    ) -> None:
        await pushed(memory(1, 1), chunk(1, 5, 0))
        await drainer().drain(0)
        assert not await redis.exists(keys.outcomes)
        invalid = Upsert(user_id=1, point_id="mem_1_2", vector=b"", ref="bad")
        ids = await pushed(
            marked(memory(1, 1), "silent", notify=False), invalid, marked(chunk(1, 5, 0), "good"), b"\xc1"
        )
        await drainer().drain(0)
        assert await summary(redis, keys) == [
            ("dead", "invalid", "bad"),
            ("applied", "", "good"),
            ("dead", "malformed", None),
        ]
        header = await dead_letters_of_one.header(Receipt(0, ids[1]))
        assert header is not None
        assert header.ref == "bad"

    async def test_partitions_that_are_drained_together_report_their_own_jobs(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
    ) -> None:
        users = {0: 4, 1: 2, 2: 5, 3: 1}
        expected = set()
        for partition, user_id in users.items():
            job = marked(memory(user_id, 1), f"of {user_id}")
            [entry_id] = await pushed(job, partition=partition, partitions=PARTITIONS)
            expected.add((Receipt(partition, entry_id), f"of {user_id}"))
        await drainer(partitions=PARTITIONS).drain_group(list(users))
        assert {(found.receipt, found.ref) for found in await outcomes(redis, keys)} == expected

    async def test_a_replay_is_reported_until_its_end(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
        dead_letters_of_one: DeadLetters,
    ) -> None:
        qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
        [entry_id] = await pushed(marked(memory(1, 1), "mine", notify=False))
        await drainer().drain(0)
        qdrant_proxy.rules.clear()
        replay = await dead_letters_of_one.replay(Receipt(0, entry_id))
        await drainer().drain(0)
        died, replayed, applied = await outcomes(redis, keys)
        assert [found.outcome for found in (died, replayed, applied)] == ["dead", "replayed", "applied"]
        assert {(found.ref, found.op, found.user_id, found.kind) for found in (died, replayed, applied)} == {
            ("mine", "upsert", 1, "memory")
        }
        assert {found.position for found in (died, replayed, applied)} == {entry_id}
        assert (replayed.receipt, replayed.replay, replayed.reason) == (died.receipt, replay, "refused")
        assert applied.receipt == replay

    async def test_a_dropped_dead_letter_is_reported(
        self, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys, dead_letters_of_one: DeadLetters
    ) -> None:
        [entry_id] = await pushed(Upsert(user_id=1, point_id="mem_1_1", vector=b"", namespace="n", ref="bad"))
        await drainer().drain(0)
        assert await dead_letters_of_one.drop([Receipt(0, entry_id), Receipt(0, "5-5")]) == 1
        _, dropped = await outcomes(redis, keys)
        assert (dropped.outcome, dropped.reason, dropped.ref, dropped.replay) == ("dropped", "invalid", "bad", None)
        assert (dropped.receipt, dropped.namespace) == (Receipt(0, entry_id), "n")

    async def test_jobs_that_a_purge_makes_needless_are_reported_as_dropped(
        self,
        drainer: MakeDrainer,
        pushed: Push,
        qdrant_proxy: QdrantProxy,
        redis: Redis,
        keys: Keys,
        dead_letters_of_one: DeadLetters,
    ) -> None:
        """A replay always, a dead letter of the batch of the purge only if it has ``notify``."""
        qdrant_proxy.rules[UPDATE] = refusing("mem_1_1")
        [entry_id] = await pushed(marked(memory(1, 1), "replay", notify=False))
        await drainer().drain(0)
        qdrant_proxy.rules.clear()
        await pushed(Purge(user_id=1))
        await dead_letters_of_one.replay(Receipt(0, entry_id))
        await drainer(batch_max_jobs=1).drain(0)
        assert await summary(redis, keys) == [
            ("dead", "refused", "replay"),
            ("replayed", "refused", "replay"),
            ("dropped", "purged", "replay"),
        ]
        seen = (await outcomes(redis, keys))[-1].id
        invalid: dict[str, Any] = {"user_id": 1, "point_id": "mem_1_2", "vector": b""}
        await pushed(Upsert(**invalid, ref="silent"), Upsert(**invalid, ref="told", notify=True), Purge(user_id=1))
        await drainer().drain(0)
        found = await outcomes(redis, keys, seen)
        assert [(one.outcome, one.reason, one.ref) for one in found] == [("dropped", "purged", "told")]


class TestClient:
    async def test_outcomes_are_read_behind_the_last_one(
        self, settings: MakeSettings, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        assert await queue.outcomes() == []
        async with running(settings(), role="ingest"):
            waiting = asyncio.create_task(queue.outcomes(timeout=SIGNAL_TIMEOUT_S))
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0), ref="first", notify=True)
            [first] = await waiting
            assert (first.receipt, first.ref, first.outcome, first.gap) == (receipt, "first", "applied", False)
            for number in range(4):
                await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(0), ref=str(number), notify=True)
            await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_9"))
        read, last = list[str | None](), first.id
        while found := await queue.outcomes(after=last, count=3):
            read += [outcome.ref for outcome in found]
            assert not any(outcome.gap for outcome in found)
            last = found[-1].id
        assert read == ["0", "1", "2", "3"]
        assert await queue.outcomes(after=last, timeout=0.01) == []
        assert len(await queue.outcomes()) == 5

    async def test_lost_outcomes_are_a_gap(self, queue: MemoryQueue, redis: Redis, keys: Keys, lease: Lease) -> None:
        log = JobLog(redis, keys, reading(keys), outcomes_max=100)
        batch = await batch_of(log, redis, keys, lease, 500)
        await log.commit(BatchCommit(lease=lease, batch=batch[:50], applied=[(entry, JOB) for entry in batch[:50]]))
        read = (await queue.outcomes())[-1].id
        await log.commit(BatchCommit(lease=lease, batch=batch[50:], applied=[(entry, JOB) for entry in batch[50:]]))
        first, second, *_ = await queue.outcomes(after=read)
        assert (first.gap, second.gap) == (True, False)
        assert [entry.entry_id for entry in batch].index(first.receipt.entry_id) > 50
        assert [one.gap for one in await queue.outcomes(after=first.id, count=1)] == [False]
        assert [one.gap for one in await queue.outcomes(count=1)] == [False]

        await redis.delete(keys.outcomes)
        assert await queue.outcomes(after=read) == []

    async def test_wrong_arguments_are_refused(self, queue: MemoryQueue) -> None:
        wrong: list[tuple[str, list[Any]]] = [
            ("after", [5, b"1-0", "", "0", "0-0", "-", "$", "1-0\n", f"1-{2**64}", Receipt(0, "1-0")]),
            ("count", [0, -1, 1001, True, "5", 1.0, None]),
            ("timeout", [-1, 3601, None, "1", True]),
        ]
        for name, values in wrong:
            for value in values:
                with pytest.raises(InvalidJob) as refused:
                    await queue.outcomes(**{name: value})
                assert refused.value.field == name, value

    async def test_without_a_redis_it_fails_in_time(self, redis_proxy: RedisProxy, keys: Keys) -> None:
        async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix, timeout_s=1) as queue:
            assert await queue.outcomes() == []
            redis_proxy.hang()
            for work in (queue.outcomes(), queue.outcomes(timeout=0.1), queue.states([Receipt(0, "1-0")])):
                with pytest.raises(QueueUnavailable):
                    await asyncio.wait_for(work, 5)
            redis_proxy.go_on()
