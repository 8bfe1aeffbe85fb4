"""The outcome of a batch that has dead letters and replays."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract import Delete, Patch, Purge, Upsert, WriteJob
from memory_worker.contract.kinds import UserId
from memory_worker.ingest.decoding import DecodedBatch
from memory_worker.ingest.outcome import Outcome, decide, decoded_jobs
from memory_worker.queue.log import DeadEntry, Entry
from memory_worker.queue.replay_guard import MAX_SCOPES, Guard

OLD = "1-0"


def write(number: int = 1, user: int = 1) -> Upsert:
    return Upsert(user_id=user, point_id=f"mem_{user}_{number}", vector=b"")


DELETE = Delete(user_id=1, point_ids=["mem_1_1"])


def entry(number: int, replay_of: str = "") -> Entry:
    return Entry(f"{number}-0", 1, b"", 0, replay_of)


def batch(*pairs: tuple[Entry, WriteJob], dead: tuple[tuple[Entry, WriteJob | None], ...] = ()) -> DecodedBatch:
    dead_letters = [DeadEntry(entry=entry, reason="invalid", detail="", job=job) for entry, job in dead]
    taken = sorted([one for one, _ in (*pairs, *dead)], key=lambda one: int(one.entry_id.split("-")[0]))
    return DecodedBatch(taken, list(pairs), dead_letters)


def older(*jobs: WriteJob) -> dict[UserId, Guard]:
    """Return the guards of these dead letters, at 1-0, 2-0 and so on."""
    guards: dict[UserId, Guard] = {}
    for number, job in enumerate(jobs, start=1):
        guards.setdefault(job.user_id, Guard()).add(job, f"{number}-0", f"{number}-0")
    return {user_id: Guard(guard.points, b"", guard.dead_letters) for user_id, guard in guards.items()}


def dead_of(outcome: Outcome) -> list[tuple[str, str]]:
    return [(dead_letter.entry.entry_id, dead_letter.reason) for dead_letter in outcome.dead]


def positions(outcome: Outcome, user_id: int = 1) -> set[str]:
    return set(outcome.guards[user_id].dead_letters)


def test_a_batch_without_dead_letters_is_not_changed() -> None:
    taken = batch((entry(5), write()), (entry(6), DELETE))
    found = decide(taken, {})
    assert found.jobs is taken.jobs
    assert (found.dead, found.guards, found.purged) == ([], {}, [])


def test_a_replay_is_applied_if_no_newer_job_touched_its_point() -> None:
    pairs = [(entry(6), write(2)), (entry(7, OLD), write(1))]
    found = decide(batch(*pairs), older(write(1)))
    assert found.jobs == pairs
    assert found.guards[1].changes()[2] == [OLD]


def test_a_replay_after_a_newer_job_in_the_same_batch_is_refused_and_still_guarded() -> None:
    newer = (entry(6), DELETE)
    found = decide(batch(newer, (entry(7, OLD), write(1))), older(write(1)))
    assert found.jobs == [newer]
    assert dead_of(found) == [("7-0", "superseded")]
    assert positions(found) == {OLD}
    assert found.guards[1].dead_letters[OLD].entry_id == "7-0"


def test_a_replay_before_a_newer_job_in_the_same_batch_is_applied() -> None:
    pairs = [(entry(6, OLD), write(1)), (entry(7), DELETE)]
    assert decide(batch(*pairs), older(write(1))).jobs == pairs


def test_replays_among_themselves_keep_the_order_of_their_first_push() -> None:
    first, second = (entry(6, "1-0"), write(1)), (entry(7, "2-0"), DELETE)
    assert decide(batch(first, second), older(write(1), DELETE)).jobs == [first, second]
    swapped = [(entry(6, "2-0"), DELETE), (entry(7, "1-0"), write(1))]
    found = decide(batch(*swapped), older(write(1), DELETE))
    assert found.jobs == swapped[:1]
    assert dead_of(found) == [("7-0", "superseded")]


def test_a_replay_that_dies_again_keeps_its_position() -> None:
    found = decide(batch(dead=((entry(9, OLD), write(1)),)), older(write(1)))
    assert positions(found) == {OLD}
    found = decide(batch((entry(12), write(1)), (entry(13, OLD), write(1))), found.guards)
    assert dead_of(found) == [("13-0", "superseded")]


def test_a_replay_without_a_guard_becomes_a_dead_letter_again() -> None:
    found = decide(batch((entry(7, OLD), write(1))), {})
    assert found.jobs == []
    assert dead_of(found) == [("7-0", "superseded")]
    assert found.dead[0].op == "upsert"
    assert found.guards == {}


@pytest.mark.parametrize("dead", [(entry(7, OLD), write(1)), (entry(7), None)], ids=["replay", "cannot be decoded"])
def test_a_dead_letter_without_a_known_job_or_position_is_not_guarded(dead: tuple[Entry, WriteJob | None]) -> None:
    found = decide(batch(dead=(dead,)), {})
    assert dead_of(found) == [("7-0", "invalid")]
    assert found.guards == {}


def test_a_purge_removes_older_dead_letters_of_its_user() -> None:
    guards = older(write(1), write(1, user=2), Purge(user_id=1, kind="memory"))
    found = decide(batch((entry(9), Purge(user_id=1, kind="memory"))), guards)
    assert [(gone.user_id, gone.position, gone.entry_id) for gone in found.purged] == [("1", "1-0", "1-0")]


def test_a_narrowed_purge_removes_no_dead_letter() -> None:
    found = decide(batch((entry(9), Purge(user_id=1, kind="memory", category="work"))), older(write(1)))
    assert found.purged == []


def test_a_purge_removes_dead_letters_of_its_own_batch_that_are_older() -> None:
    dead: Any = ((entry(4), None), (entry(5), write(1)), (entry(7), write(1)))
    found = decide(batch((entry(6), Purge(user_id=1)), dead=dead), {})
    assert dead_of(found) == [("4-0", "invalid"), ("7-0", "invalid")]
    assert (positions(found), found.purged) == ({"7-0"}, [])
    assert found.dropped == [(entry(5), write(1))]


def test_a_replay_after_a_newer_purge_is_removed() -> None:
    purge = (entry(6), Purge(user_id=1))
    found = decide(batch(purge, (entry(7, OLD), write(1))), older(write(1)))
    assert (found.jobs, found.dead, found.dropped) == ([purge], [], [(entry(7, OLD), write(1))])
    assert found.guards[1].changes()[2] == [OLD]


def test_a_replayed_purge_keeps_dead_letters_that_are_newer_than_its_first_push() -> None:
    """A replay counts from the position of its first push."""
    guards = older(Purge(user_id=1, kind="memory"), write(1))
    found = decide(batch((entry(9, "1-0"), Purge(user_id=1, kind="memory"))), guards)
    assert found.purged == []
    assert positions(found) == {"2-0"}
    assert not found.guards[1].is_stale(write(1), "2-0")


def test_narrowed_purges_never_remove_a_replay_however_many_they_are() -> None:
    """After `MAX_SCOPES` of them, their scopes are widened. The replay is refused, and is a dead letter again."""
    old = Upsert(user_id=1, point_id="mem_1_1", vector=b"", payload={"category": "work"})
    purges = [(entry(6 + n), Purge(user_id=1, kind="memory", category=f"c{n}")) for n in range(MAX_SCOPES + 1)]
    found = decide(batch(*purges, (entry(999, OLD), old)), older(old))
    assert found.jobs == purges
    assert dead_of(found) == [("999-0", "superseded")]
    assert positions(found) == {OLD}


EVERYWHERE = (
    Delete(user_id=1, namespace="*", point_ids=["mem_1_1"]),
    Patch(user_id=1, namespace="*", point_ids=["mem_1_1"], set={"category": "a"}),
)


@pytest.mark.parametrize("dead", EVERYWHERE, ids=["delete", "patch"])
def test_a_purge_of_one_namespace_keeps_a_dead_letter_of_every_namespace(dead: WriteJob) -> None:
    purge = (entry(9), Purge(user_id=1, kind="memory", namespace="a"))
    found = decide(batch(purge), older(dead))
    assert (found.purged, positions(found)) == ([], {OLD})
    found = decide(batch(purge, (entry(10, OLD), dead)), older(dead))  # it would touch newer points of other namespaces
    assert (found.jobs, dead_of(found)) == ([purge], [("10-0", "superseded")])
    found = decide(batch((entry(9), Purge(user_id=1, kind="memory"))), older(dead))
    assert [gone.position for gone in found.purged] == [OLD]


def test_a_purge_of_a_user_of_text_removes_older_dead_letters() -> None:
    dead = Upsert(user_id="ann", kind="note", point_id="note_ann_1", vector=b"")
    found = decide(batch((entry(9), Purge(user_id="ann"))), older(dead))
    assert [(gone.user_id, gone.position) for gone in found.purged] == [("ann", OLD)]


def test_a_replayed_move_is_refused_if_its_new_group_was_purged() -> None:
    """In order, the purge would have deleted what the patch moves."""
    move = Patch(user_id=1, kind="document", group_key="P", set={"group_key": "Q"})
    purge = (entry(6), Purge(user_id=1, kind="document", group_key="Q"))
    guard = Guard()
    guard.add(move, OLD, OLD)
    found = decide(batch(purge, (entry(7, OLD), move)), {1: guard})
    assert (found.jobs, dead_of(found)) == ([purge], [("7-0", "superseded")])


def test_touching_returns_decoded_jobs_by_their_positions() -> None:
    taken = batch((entry(6, OLD), write(1)), dead=((entry(7), DELETE), (entry(8), None)))
    assert list(decoded_jobs(taken)) == [(OLD, write(1)), ("7-0", DELETE)]
