"""``memory-worker discard``: what waits in a paused queue is never applied, and every count and receipt stays right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from click.testing import Result
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Receipt, Upsert, partition_of
from memory_worker.contract.errors import DeadLettered, NotPaused
from memory_worker.queue import waiting as waiting_module
from memory_worker.queue.dead_letters import DeadLetters
from memory_worker.queue.discarding import Discarder
from memory_worker.queue.drain_jobs import rescue_partitions
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.pausing import pause_queue, resume_queue
from memory_worker.queue.positions import read_positions
from memory_worker.queue.scripts import scripts
from memory_worker.wire.clock import redis_time_ms
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.overflow import all_partitions
from tests.commands import invoked
from tests.integration.conftest import Everything, MakeDrainer, MakeSettings, Push, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis, memory
from tests.integration.leases import held_lease, waiting
from tests.integration.overflowing import Pusher, next_millisecond

Discard = Callable[..., Result]


@pytest.fixture
async def discard(redis: Redis, keys: Keys, redis_url: str) -> Discard:
    """Run the command in a thread."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS))

    def run(*options: str, given: str = "") -> Result:
        environment = {"REDIS_URL": redis_url, "QDRANT_URL": "http://x:1", "QUEUE_PREFIX": keys.prefix}
        return invoked("discard", *options, given=given, **environment)

    return run


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step have few entries."""
    monkeypatch.setattr(waiting_module.waiting_entries, "__kwdefaults__", {"last": "+", "page": 3})


async def paused(redis: Redis, keys: Keys) -> None:
    await pause_queue(redis, keys, by="ops")


async def discard_all(redis: Redis, keys: Keys, partitions: int = PARTITIONS) -> int:
    """Discard what waits now; return how many jobs."""
    steps: list[int] = []
    for number, position in enumerate(await read_positions(redis, keys, partitions)):
        if position.waiting:
            await Discarder(redis, keys, partitions).discard(number, position.last, steps.append)
    return sum(steps)


async def check_totals(redis: Redis, keys: Keys, partitions: int = PARTITIONS) -> int:
    """The totals are those of the streams, and a rescue corrects nothing. Return how many jobs wait."""
    jobs = size = 0
    for number in all_partitions(partitions):
        for _, fields in await redis.xrange(keys.stream(number)):
            jobs, size = jobs + 1, size + len(fields[b"j"])
    before = await redis.hgetall(keys.backlog)  # type: ignore[misc]
    assert (int(before.get(b"jobs", 0)), int(before.get(b"bytes", 0))) == (jobs, size)
    await rescue_partitions(redis, keys, partitions)
    assert await redis.hgetall(keys.backlog) == before  # type: ignore[misc]
    return jobs


async def test_it_needs_a_paused_queue_without_leases(
    discard: Discard, redis: Redis, keys: Keys, pushed: Push, everything: Everything
) -> None:
    await pushed(memory(1, 1), partitions=PARTITIONS)
    before = await everything()
    done = await asyncio.to_thread(discard, "--yes")
    assert (done.exit_code, "the queue is not paused; run `memory-worker pause` first" in done.stderr) == (1, True)
    assert await everything() == before
    await held_lease(redis, keys, 0)
    await paused(redis, keys)
    before = await everything()
    done = await asyncio.to_thread(discard, "--yes")
    assert (done.exit_code, "still in flight, in 1 partitions (0)" in done.stderr) == (1, True)
    [position, *_] = await read_positions(redis, keys, PARTITIONS)
    with pytest.raises(NotPaused) as raised:
        await Discarder(redis, keys, PARTITIONS).discard(0, position.last, print)
    assert raised.value.leased == [0]
    assert await everything() == before


async def test_it_shows_the_counts_and_asks(
    discard: Discard, redis: Redis, keys: Keys, pushed: Push, everything: Everything
) -> None:
    await pushed(memory(1, 1), memory(1, 2), b"malformed", partition=1, partitions=PARTITIONS)
    await pushed(Delete(user_id=2, point_ids=["mem_2_1"]), partition=6, partitions=PARTITIONS)
    await paused(redis, keys)
    before = await everything()
    done = await asyncio.to_thread(discard, given="n\n")
    assert done.exit_code == 1
    assert "4 jobs will never be applied" in done.stdout
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines() if "│" in line]
    assert rows == [["1", "1", "2"], ["6", "1"], ["all", "1", "1", "2"]]
    assert await everything() == before
    done = await asyncio.to_thread(discard, given="y\n")
    assert (done.exit_code, done.stdout.endswith("4 discarded\n")) == (0, True)
    assert await check_totals(redis, keys) == 0
    done = await asyncio.to_thread(discard)
    assert (done.exit_code, done.stdout) == (0, "nothing waits\n")


async def test_what_is_pushed_after_the_count_stays(
    redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, queue: MemoryQueue, small_steps: None
) -> None:
    await pushed(*(memory(1, number) for number in range(10)))
    await paused(redis, keys)
    [position, _] = await read_positions(redis, keys, 1)
    await next_millisecond(redis)
    later = await pushed(memory(1, 11), memory(1, 12))
    steps: list[int] = []
    await Discarder(redis, keys, 1).discard(0, position.last, steps.append)
    assert steps == [3, 3, 3, 1]
    assert await waiting(redis, keys) == later
    assert await check_totals(redis, keys, 1) == 2
    receipts = [Receipt(0, entry_id) for entry_id in later]
    assert [state.state for state in await queue.states(receipts)] == ["waiting", "waiting"]
    await resume_queue(redis, keys)
    assert (await drainer().drain(0)).jobs == 2
    assert [state.state for state in await queue.states(receipts)] == ["applied", "applied"]


async def test_receipts_of_discarded_jobs_never_look_applied(
    redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, queue: MemoryQueue, small_steps: None
) -> None:
    """Two discards with applied jobs between them. Records of steps that follow each other become one."""
    discarded: list[Receipt] = []
    for turn in range(3):
        await next_millisecond(redis)
        applied = [Receipt(0, entry_id) for entry_id in await pushed(memory(1, turn))]
        assert (await drainer().drain(0)).jobs == 1
        await next_millisecond(redis)
        discarded += [Receipt(0, entry_id) for entry_id in await pushed(*(memory(1, 9) for _ in range(7)))]
        await paused(redis, keys)
        assert await discard_all(redis, keys, 1) == 7
        assert await redis.zcard(keys.removed(0)) == turn + 1
        await resume_queue(redis, keys)
        await next_millisecond(redis)
    after = [Receipt(0, entry_id) for entry_id in await pushed(memory(1, 8))]
    assert (await drainer().drain(0)).jobs == 1
    states = await queue.states(discarded)
    assert {(state.state, state.reason) for state in states} == {("dead", "discarded")}
    assert [state.state for state in await queue.states([*applied, *after])] == ["unknown", "applied"]
    with pytest.raises(DeadLettered, match="discarded the job before it was applied"):
        await queue.wait_applied(discarded[-1])
    # A client of an older release reads no records of discarded jobs.
    known_from = int(await redis.hget(keys.since, "0"))  # type: ignore[misc]
    assert int(discarded[-1].entry_id.partition("-")[0]) < known_from <= await redis_time_ms(redis)


async def test_a_caller_that_waits_is_told_at_once(redis: Redis, keys: Keys, pushed: Push, queue: MemoryQueue) -> None:
    [entry_id] = await pushed(memory(1, 1))
    await paused(redis, keys)
    waits = asyncio.create_task(queue.wait_applied(Receipt(0, entry_id), timeout=60))
    await asyncio.sleep(0)
    assert await discard_all(redis, keys, 1) == 1
    with pytest.raises(DeadLettered):
        await asyncio.wait_for(waits, 20)
    [(mark, _)] = await redis.xrange(keys.applied(0))  # which ends the blocking command of the caller
    assert mark.decode() == entry_id


async def test_outcomes_and_replay_guards(
    redis: Redis, keys: Keys, pushed: Push, drainer: MakeDrainer, queue: MemoryQueue
) -> None:
    """A replay that is discarded is guarded no longer. The first receipt of its job follows it."""
    bad = Upsert(user_id=1, point_id="mem_1_1", vector=axis(0)[:8], payload={})
    [dead] = [Receipt(0, entry_id) for entry_id in await pushed(bad)]
    assert (await drainer().drain(0)).dead == 1
    assert await redis.exists(keys.guarded(0))
    replay = await DeadLetters(redis, keys, 1).replay(dead)
    await pushed(memory(1, 2), memory(1, 3), b"malformed")
    await paused(redis, keys)
    assert await discard_all(redis, keys, 1) == 4
    assert not await redis.exists(keys.guarded(0), keys.guarded_dead_letters(0, 1), keys.guarded_points(0, 1))
    found = await queue.outcomes(count=10)
    assert [(one.outcome, one.reason, one.receipt) for one in found][1:] == [
        ("replayed", "invalid", dead),
        ("dropped", "discarded", replay),
    ]
    [state] = await queue.states([dead])
    assert (state.state, state.reason, state.replay) == ("dead", "discarded", replay)
    assert await check_totals(redis, keys, 1) == 0


async def test_jobs_that_asked_for_their_outcome_get_it(
    redis: Redis, keys: Keys, queue: MemoryQueue, discard: Discard
) -> None:
    receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0), notify=True, ref="memory 1")
    await queue.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))
    await paused(redis, keys)
    assert (await asyncio.to_thread(discard, "--yes")).exit_code == 0
    [outcome] = await queue.outcomes(count=10)
    assert (outcome.receipt, outcome.outcome, outcome.reason, outcome.ref) == (
        receipt,
        "dropped",
        "discarded",
        "memory 1",
    )


async def test_overflow_streams_and_quarantine(redis: Redis, keys: Keys) -> None:
    """The users of an overflow stream go to the home stream again, and no attempt is left of the entries."""
    pusher = Pusher(redis, keys, burst=2)
    await pusher.publish()
    await pusher.of(1, 5)
    [receipt] = await pusher.of(1)
    assert receipt.partition == 1
    await redis.hset(keys.attempts(0), mapping={"head": "1-0", "last": "2-0", "tried": "0123"})  # type: ignore[misc]
    await paused(redis, keys)
    await next_millisecond(redis)
    assert await discard_all(redis, keys, 1) == 6
    assert not await redis.exists(keys.overflow_users(0), keys.attempts(0))
    [receipt] = await pusher.of(1)
    assert receipt.partition == 0
    assert await check_totals(redis, keys, 1) == 1


async def test_a_resume_in_between_stops_it(redis: Redis, keys: Keys, pushed: Push, small_steps: None) -> None:
    ids = await pushed(*(memory(1, number) for number in range(8)))
    await paused(redis, keys)
    [position, _] = await read_positions(redis, keys, 1)

    async def discard() -> None:
        async for entries in waiting_module.waiting_entries(redis, keys.stream(0), last=position.last, page=3):
            assert await Discarder(redis, keys, 1)._discard(0, entries) == 3
            await resume_queue(redis, keys)

    with pytest.raises(NotPaused):
        await discard()
    assert await waiting(redis, keys) == ids[3:]
    assert await check_totals(redis, keys, 1) == 5


async def test_a_repeated_step_removes_nothing(
    redis: Redis, keys: Keys, pushed: Push, everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply may be lost, or two commands may discard at once."""
    ids = await pushed(*(memory(1, number) for number in range(3)))
    await paused(redis, keys)
    run, calls = scripts.run, list[object]()

    async def twice(*arguments: object) -> object:
        result = await run(*arguments)  # type: ignore[arg-type]
        before = await everything()
        calls.append(await run(*arguments))  # type: ignore[arg-type]
        assert await everything() == before
        return result

    monkeypatch.setattr(scripts, "run", twice)
    await Discarder(redis, keys, 1).discard(0, ids[1], lambda _: None)
    assert calls == [0]
    assert await waiting(redis, keys) == ids[2:]


async def test_random_queues_stay_consistent(redis: Redis, keys: Keys, drainer: MakeDrainer, small_steps: None) -> None:
    """Pushes, drains and discards in any order: the totals are right, and nothing of a discarded job is applied."""
    chance = random.Random(5)
    pusher = Pusher(redis, keys, burst=3)
    await pusher.publish()
    for _ in range(12):
        jobs = [memory(user, chance.randrange(9)) for user in (1, 2, 3) for _ in range(chance.randrange(4))]
        if jobs:
            await pusher.jobs(*jobs)
        if chance.random() < 0.5:
            await drainer().drain_group([0, 1])
        else:
            await paused(redis, keys)
            left = await check_totals(redis, keys, 1)
            assert await discard_all(redis, keys, 1) == left
            await resume_queue(redis, keys)
        await check_totals(redis, keys, 1)


async def test_a_worker_goes_on_after_it(
    redis: Redis, keys: Keys, settings: MakeSettings, queue: MemoryQueue, discard: Discard
) -> None:
    async with running(settings()):
        await paused(redis, keys)
        for number in range(1, 20):
            await queue.upsert(user_id=number, point_id=f"mem_{number}_1", vector=axis(0))
        assert (await asyncio.to_thread(discard, "--yes")).exit_code == 0
        last = await queue.upsert(user_id=3, point_id="mem_3_2", vector=axis(0))
        assert last.partition == partition_of(3, PARTITIONS)
        await resume_queue(redis, keys)
        await queue.wait_applied(last, timeout=20)
        assert [await queue.count(user_id=number) for number in (2, 3)] == [0, 1]
