"""Random deaths and replays, with the guards in memory: replays never undo a newer job.

    pytest -n 0 --no-cov tests/unit/test_replay_model.py --steps 200000 --seed 7

Few jobs of few points die, and are replayed in any order among newer jobs. The points must be as if all applied jobs
had been applied in the order of their first pushes. `tests/integration/test_replay_oracle.py` does the same with Redis
and an engine.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from memory_worker.contract import WriteJob
from memory_worker.contract.kinds import UserId
from memory_worker.ingest.decoding import DecodedBatch
from memory_worker.ingest.outcome import decide
from memory_worker.queue import replay_guard
from memory_worker.queue.log import DeadEntry, Entry
from memory_worker.queue.replay_guard import Guard, sort_key
from tests.unit.plan_world import NEW, REFS, Maker, World, apply, in_order, stored

MOST_JOBS = 7
USERS: dict[str, tuple[UserId, ...]] = {"memory": (1,), "document": (1,), "note": ("ann",)}


class Partition:
    """A partition whose jobs are applied one by one, or die."""

    def __init__(self, world: World) -> None:
        self.before = world
        self.world = in_order(world, ())
        self.jobs: dict[str, WriteJob] = {}
        self.dead: dict[str, str] = {}
        """The ids of dead letters by their positions."""
        self._guards: dict[UserId, Guard] = {}
        self._number = 0

    def push(self, job: WriteJob, *, dies: bool) -> None:
        entry = self._entry()
        self.jobs[entry.position] = job
        self._process(entry, job, dies=dies)

    def replay(self, position: str, *, dies: bool) -> bool:
        """Replay a dead letter. Return whether it is one again."""
        del self.dead[position]
        self._process(self._entry(position), self.jobs[position], dies=dies)
        return position in self.dead

    def expected(self) -> World:
        """Return the points after all applied jobs, in order. Dead letters that purges deleted make no difference."""
        applied = sorted(self.jobs.keys() - self.dead.keys(), key=sort_key)
        return in_order(self.before, [self.jobs[position] for position in applied])

    def _entry(self, replay_of: str = "") -> Entry:
        self._number += 1
        return Entry(f"{self._number}-0", 2, b"", 0, replay_of)

    def _process(self, entry: Entry, job: WriteJob, *, dies: bool) -> None:
        dead = [DeadEntry(entry=entry, reason="refused", detail="", job=job)] if dies else []
        found = decide(DecodedBatch([entry], [] if dies else [(entry, job)], dead), self._guards)
        for _, applied in found.jobs:
            apply(self.world, applied)
        self.dead |= {one.entry.position: one.entry.entry_id for one in found.dead}
        for purged in found.purged:
            del self.dead[purged.position]
            self._guards[job.user_id].dead_letters.pop(purged.position, None)
        self._guards = {user_id: guard for user_id, guard in found.guards.items() if guard.dead_letters}


@pytest.mark.timeout(0)
def test_a_replay_never_undoes_a_newer_job(
    pytestconfig: pytest.Config, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    for number in range(int(pytestconfig.getoption("--steps"))):
        chance = random.Random(f"{seed}/{number}")
        monkeypatch.setattr(replay_guard, "MAX_SCOPES", chance.choice((1, 2, 64)))
        refs = chance.choice(((REFS[0],), (REFS[2],), (REFS[0], REFS[1], NEW), (REFS[3],)))
        maker = Maker(chance, refs, USERS, odd=(), moving=chance.random() < 0.5)
        partition = Partition(maker.world())
        for job in maker.jobs(chance.randint(2, MOST_JOBS)):
            partition.push(job, dies=chance.random() < 0.4)
            if partition.dead and chance.random() < 0.3:
                again = partition.replay(chance.choice(list(partition.dead)), dies=chance.random() < 0.2)
                done["replayed again" if again else "replayed"] += 1
        for position in chance.sample(list(partition.dead), len(partition.dead)):
            if position in partition.dead:  # else a replayed purge has deleted it
                done["refused" if partition.replay(position, dies=False) else "replayed"] += 1
        assert stored(partition.world) == stored(partition.expected()), f"--seed {seed}, number {number}"
    print(dict(done))
    assert done["replayed"] > done["refused"] / 10
