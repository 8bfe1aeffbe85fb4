"""The replay guard: a dead letter is stale if a later job touched any of its points."""

from __future__ import annotations

import pytest

from memory_worker.contract import Delete, Purge, Upsert, WriteJob
from memory_worker.queue.replay_guard import MAX_SCOPES, PURGES_FIELD, Guard, decode_guarded_job, latest, sort_key

DEAD, LATER, EARLIER = "5-0", "6-0", "4-0"


def write(number: int = 1, *, namespace: str | None = None, **payload: str) -> Upsert:
    return Upsert(user_id=1, point_id=f"mem_1_{number}", vector=b"", namespace=namespace, payload=payload)


def chunk(number: int = 1, *, file_id: int = 1) -> Upsert:
    return Upsert(
        kind="document", user_id=1, point_id=f"doc_1_{file_id}_{number}", vector=b"", payload={"file_id": file_id}
    )


def delete(*numbers: int) -> Delete:
    return Delete(user_id=1, point_ids=[f"mem_1_{number}" for number in numbers])


def stored(guard: Guard) -> Guard:
    """Return the guard as it is read back from Redis."""
    fields, dead_letters, _ = guard.changes()
    reaches = fields.pop(PURGES_FIELD, "").encode()
    return Guard(fields, reaches, {at: decode_guarded_job(body.encode()) for at, body in dead_letters.items()})


def guarded(job: WriteJob, position: str = DEAD) -> Guard:
    guard = Guard()
    guard.add(job, position, position)
    return stored(guard)


TOUCHES: list[tuple[WriteJob, WriteJob, bool]] = [
    (write(1), write(1), True),
    (write(1), write(2), False),
    (write(1), write(1, namespace="a"), False),
    (write(1), delete(2, 1), True),
    (write(1), delete(2, 3), False),
    (delete(1, 2), write(2), True),
    (delete(1, 2), write(3), False),
    (write(1), chunk(1), False),
    (write(1), Purge(user_id=1), True),
    (write(1, namespace="a"), Purge(user_id=1, kind="memory"), True),
    (write(1, namespace="a"), Purge(user_id=1, kind="memory", namespace="a"), True),
    (write(1, namespace="a"), Purge(user_id=1, kind="memory", namespace="b"), False),
    (write(1), Purge(user_id=1, kind="memory", namespace="b"), False),
    (write(1), Purge(user_id=1, kind="document"), False),
    (write(1, category="work"), Purge(user_id=1, kind="memory", category="work"), True),
    (write(1, category="home"), Purge(user_id=1, kind="memory", category="work"), False),
    (chunk(1, file_id=6), Purge(user_id=1, kind="document", file_id=6), True),
    (chunk(1, file_id=6), Purge(user_id=1, kind="document", file_id=7), False),
    (delete(1), Purge(user_id=1, kind="memory", category="work"), True),  # what it deletes may be of that category
    (Purge(user_id=1), write(1), True),
    (Purge(user_id=1), Purge(user_id=1, kind="memory", namespace="a"), True),
    (Purge(user_id=1, kind="document"), Purge(user_id=1, kind="memory"), False),
    (Purge(user_id=1, kind="document"), write(1), False),
    (Purge(user_id=1, kind="document", file_id=6), chunk(1, file_id=6), True),
    (Purge(user_id=1, kind="document", file_id=6), chunk(1, file_id=7), False),
    (Purge(user_id=1, kind="document", file_id=6), Purge(user_id=1, kind="document", file_id=7), False),
    (Purge(user_id=1, kind="document", file_id=6), Purge(user_id=1, kind="document", group_key="A"), True),
]


@pytest.mark.parametrize(("dead_letter", "job", "touches"), TOUCHES)
def test_a_dead_letter_is_stale_if_a_later_job_touched_its_points(
    dead_letter: WriteJob, job: WriteJob, touches: bool
) -> None:
    guard = guarded(dead_letter)
    guard.record(job, LATER)
    assert guard.is_stale(dead_letter, DEAD) is touches
    assert stored(guard).is_stale(dead_letter, DEAD) is touches or not touches


@pytest.mark.parametrize(("dead_letter", "job"), [(dead_letter, job) for dead_letter, job, _ in TOUCHES])
def test_an_earlier_job_makes_no_dead_letter_stale(dead_letter: WriteJob, job: WriteJob) -> None:
    """The order of the first pushes counts, even if the earlier job was replayed later."""
    guard = guarded(dead_letter)
    guard.record(job, EARLIER)
    assert not guard.is_stale(dead_letter, DEAD)


def test_the_latest_job_that_touched_a_point_is_kept() -> None:
    guard = guarded(write(1))
    guard.record(write(1), "9-0")
    guard.record(write(1), LATER)
    guard.record(Purge(user_id=1, kind="memory"), "8-0")
    assert guard.is_stale(write(1), "8-5")


def test_positions_compare_as_numbers() -> None:
    assert sort_key("9-10") > sort_key("9-9")
    assert sort_key("10-0") > sort_key("9-99")
    assert latest("9-10", "9-9") == "9-10"


def test_a_guard_stores_nothing_for_points_without_dead_letters() -> None:
    guard = guarded(write(1))
    for number in range(2, 500):
        guard.record(write(number), LATER)
    assert guard.changes() == ({}, {}, [])


def test_very_many_purges_are_folded_into_wider_ones() -> None:
    guard = guarded(chunk(1, file_id=0))
    for file_id in range(1, 5 * MAX_SCOPES):
        guard.record(Purge(user_id=1, kind="document", file_id=file_id), LATER)
    assert len(guard.purges) <= MAX_SCOPES
    assert guard.is_stale(chunk(1, file_id=0), DEAD)
    assert not guard.is_stale(write(1), DEAD)


def test_very_many_dead_purges_are_folded_into_wider_ones() -> None:
    guard = Guard()
    for file_id in range(5 * MAX_SCOPES):
        guard.add(Purge(user_id=1, kind="document", file_id=file_id), DEAD, DEAD)
    guard = stored(guard)
    assert len(guard.dead_purges) <= MAX_SCOPES
    guard.record(chunk(1, file_id=0), LATER)
    assert guard.is_stale(Purge(user_id=1, kind="document", file_id=0), DEAD)


def test_only_a_purge_that_is_not_narrowed_removes_dead_letters() -> None:
    guard = Guard()
    older, newer = write(1), write(2)
    guard.add(older, EARLIER, EARLIER)
    guard.add(newer, LATER, LATER)
    guard.add(Purge(user_id=1), "3-0", "3-0")
    guard.add(chunk(1), "2-0", "2-0")
    assert set(guard.purged_by(Purge(user_id=1, kind="memory"), DEAD)) == {EARLIER}
    guard.record(Purge(user_id=1, kind="memory", category="work"), DEAD)
    assert not guard.is_purged(older, EARLIER)
    guard.record(Purge(user_id=1, kind="memory"), DEAD)
    assert guard.is_purged(older, EARLIER)
    assert not guard.is_purged(newer, LATER)


def test_dead_purges_of_different_reach_are_watched_separately() -> None:
    narrow, wide = Purge(user_id=1, kind="document", file_id=2), Purge(user_id=1, kind="document")
    guard = Guard()
    guard.add(wide, EARLIER, EARLIER)
    guard.add(narrow, DEAD, DEAD)
    guard.record(chunk(1, file_id=0), LATER)
    assert not guard.is_stale(narrow, DEAD)
    assert guard.is_stale(wide, EARLIER)
