"""Random replays among newer jobs: no older job wins, and no replay is refused without a reason.

    pytest -n 0 tests/integration/test_replay_oracle.py --steps 100000 --seed 7

Jobs become dead letters, are replayed (one, all, or with force), dropped and purged, while new ones are pushed. The
points must be as if all applied jobs had been applied in the order of their first pushes. A forced replay counts as a
new push. Users overflow early, so that their jobs and dead letters are in both streams.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from memory_worker.contract import WriteJob, encode_job
from memory_worker.contract.errors import StoreRefused, Superseded, Unguarded
from memory_worker.contract.kinds import UserId
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.ingest.writer import LeasedWriter
from memory_worker.queue import replay_guard
from memory_worker.queue.dead_letters import DeadLetter, DeadLetters
from memory_worker.queue.lease import Lease
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.replay_guard import sort_key
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.dead_letters import all_dead_letters
from tests.integration.conftest import Contents
from tests.integration.kinds import WITHOUT_INDEX, insert, opened, read
from tests.touching import may_touch
from tests.unit.plan_world import LIMITS, Maker, World, in_order, stored

NAMES: dict[str, tuple[UserId, ...]] = {"memory": (1, 2, 3), "document": (1, 2, 3), "note": ("ann", "bob")}
REFUSED_PERCENT = 25
CHECK_EVERY = 40
MOST_JOBS = 200
MALFORMED = b"\x93never a job"
SUPERSEDED = "superseded"
FEW_SCOPES = 4


class Queue:
    """The queue, and all jobs by the position of their first push."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        store: VectorStore,
        chance: random.Random,
        before: World,
        stored: Callable[[], World],
    ) -> None:
        self.redis, self.keys, self.store, self.chance, self.stored = redis, keys, store, chance, stored
        self.makers = (Maker(chance, users=NAMES), Maker(chance, users=NAMES, moving=True))
        self.maker = self.makers[0]
        self.before = before
        """The points before the jobs: at first those that others wrote, later those after the forgotten jobs."""
        self.few_scopes = chance.random() < 0.5
        """Whether guards keep so few scopes that they are widened, and replays are refused without a reason."""
        self.dead = DeadLetters(redis, keys, 1)
        self.jobs: dict[str, WriteJob] = {}
        self.left: set[str] = set()
        """Positions of jobs that were dropped, or replayed with force."""
        self.refusals = 0
        """Seed of the refusals of Qdrant; 0: it refuses nothing."""
        self.done: Counter[str] = Counter()

    def is_refused(self, job: WriteJob) -> bool:
        """Return whether Qdrant refuses the job during this drain."""
        if not self.refusals:
            return False
        return random.Random(f"{self.refusals}/{encode_job(job).hex()}").randrange(100) < REFUSED_PERCENT

    async def push(self) -> None:
        if self.chance.random() < 0.02:  # for some time, so that few jobs touch all points
            self.maker = self.chance.choice(self.makers)
        jobs = self.maker.jobs(self.chance.choice((1, 1, 2, 4)))
        bodies = [(0, encode_job(job)) for job in jobs]
        if self.chance.random() < 0.02:
            await push(self.redis, self.keys, 1, [(0, MALFORMED)])
        receipts = await push(self.redis, self.keys, 1, bodies, users=[job.user_id for job in jobs])
        self.done["overflowed"] += sum(receipt.partition for receipt in receipts)
        self.jobs |= {receipt.entry_id: job for receipt, job in zip(receipts, jobs, strict=True)}

    async def drain(self, *, refusing: bool) -> None:
        """Apply jobs of one stream or of both."""
        for number in self.chance.choice(([0], [1], [1, 0], [0, 1])):
            await self._drain(number, refusing=refusing)

    async def _drain(self, number: int, *, refusing: bool) -> None:
        self.refusals = self.chance.randrange(1, 2**32) if refusing else 0
        options = DrainOptions(
            partitions=1,
            limits=LIMITS,
            slice_s=60,
            overflow_slice_s=60,
            settle_s=0,
            batch_max_jobs=self.chance.choice((1, 2, 3, 8, 64)),
        )
        result = await Drainer(self.redis, self.keys, self.store, options).drain(number)
        assert result.ending in ("empty", "behind")
        self.done["dead"] += result.dead

    async def dead_letters(self) -> list[DeadLetter]:
        return await all_dead_letters(self.redis, self.keys, 1)

    async def replay(self, dead_letter: DeadLetter) -> None:
        position = dead_letter.position
        try:
            await self.dead.replay(dead_letter.receipt)
            self.done["replayed"] += 1
        except Unguarded:
            assert dead_letter.body == MALFORMED
            self.done["unguarded"] += 1
        except Superseded:
            self.done["refused"] += 1
            self.check_reason(position)

    def check_reason(self, position: str) -> None:
        """A replay is refused only if a later job that is not a dead letter touched one of its points."""
        job = self.jobs[position]
        later = (other for at, other in self.jobs.items() if sort_key(at) > sort_key(position))
        reason = self.few_scopes or any(may_touch(job, other) for other in later)
        assert reason, f"{position} was refused without a reason: {job}"

    async def force(self, dead_letter: DeadLetter) -> None:
        receipt = await self.dead.replay(dead_letter.receipt, force=True)
        assert receipt is not None
        if dead_letter.body != MALFORMED:
            self.jobs[receipt.entry_id] = self.jobs[dead_letter.position]
            self.left.add(dead_letter.position)
        self.done["forced"] += 1

    async def drop(self, dead_letter: DeadLetter) -> None:
        assert await self.dead.drop([dead_letter.receipt]) == 1
        self.left.add(dead_letter.position)
        self.done["dropped"] += 1

    async def step(self) -> None:
        roll = self.chance.random()
        if roll < 0.45:
            return await self.push()
        if roll < 0.7:
            return await self.drain(refusing=True)
        dead_letters = await self.dead_letters()
        if not dead_letters:
            return await self.drain(refusing=False)
        chosen = self.chance.choice(dead_letters)
        if roll < 0.83:
            await self.replay(chosen)
        elif roll < 0.9:
            for dead_letter in sorted(dead_letters, key=lambda one: sort_key(one.position)):
                await self.replay(dead_letter)
            self.done["replayed all"] += 1
        elif roll < 0.93:
            await self.force(chosen)
        elif roll < 0.96:
            await self.drop(chosen)
        else:
            await self.drain(refusing=False)
        return None

    async def check(self) -> None:
        """Apply all waiting jobs, and compare the stored points with the applied jobs."""
        for number in (0, 1):
            await self._drain(number, refusing=False)
            assert await self.redis.xlen(self.keys.stream(number)) == 0
        dead_letters = await self.dead_letters()
        dead = {dead_letter.position for dead_letter in dead_letters}
        for dead_letter in dead_letters:
            if dead_letter.reason == SUPERSEDED and dead_letter.position in self.jobs:
                self.check_reason(dead_letter.position)
        # Dead letters that a purge removed count as applied before it, which makes no difference.
        applied = sorted(self.jobs.keys() - dead - self.left, key=sort_key)
        points = in_order(self.before, [self.jobs[position] for position in applied])
        found = await asyncio.to_thread(self.stored)
        assert found == stored(points)
        await self.forget(dead_letters)

    async def forget(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Forget the jobs before the oldest dead letter, because no replay can undo them."""
        if len(self.jobs) > MOST_JOBS and dead_letters:
            await self.drop(min(dead_letters, key=lambda one: sort_key(one.position)))
        oldest = min((sort_key(dead_letter.position) for dead_letter in await self.dead_letters()), default=(2**63, 0))
        settled = sorted((at for at in self.jobs if sort_key(at) < oldest), key=sort_key)
        self.before = in_order(self.before, [self.jobs[at] for at in settled if at not in self.left])
        self.jobs = {at: job for at, job in self.jobs.items() if sort_key(at) >= oldest}
        self.left &= self.jobs.keys()


@pytest.fixture
async def store(qdrant_url: str, qdrant_channel: grpc.Channel) -> AsyncIterator[VectorStore]:
    async with opened(qdrant_url, qdrant_channel) as found:
        yield found


@pytest.mark.timeout(0)
async def test_no_older_job_wins_over_a_newer_one(
    pytestconfig: pytest.Config,
    seed: int,
    redis: Redis,
    keys: Keys,
    store: VectorStore,
    engine: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(seed)
    start = Maker(chance, users=NAMES, odd=WITHOUT_INDEX).world()
    await insert(engine, store, start)
    await publish_meta(redis, keys, QueueMeta(partitions=1, user_burst=chance.choice((1, 2, 4))))
    world = Queue(redis, keys, store, chance, start, lambda: read(engine, store))
    if world.few_scopes:
        monkeypatch.setattr(replay_guard, "MAX_SCOPES", FEW_SCOPES)
    else:  # a refusal has a reason only if no scope is widened
        monkeypatch.setattr(replay_guard, "MAX_SCOPES", 10**6)
    write: Callable[..., Any] = LeasedWriter.write

    async def refuse_some(self: LeasedWriter, leases: Sequence[Lease], jobs: Sequence[WriteJob]) -> None:
        if any(world.is_refused(job) for job in jobs):
            raise StoreRefused("refused by the test")
        await write(self, leases, jobs)

    monkeypatch.setattr(LeasedWriter, "write", refuse_some)
    for number in range(int(pytestconfig.getoption("--steps"))):
        await world.step()
        if number % CHECK_EVERY == 0:
            await world.check()
    await world.check()
    print(dict(world.done))
    assert min(world.done[what] for what in ("dead", "replayed", "refused", "forced", "dropped", "overflowed")) > 0
