"""The replay guard: a dead letter is stale if a later job touched any of its points."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract import Delete, Patch, Prune, Purge, Upsert, WriteJob
from memory_worker.queue.replay_guard import MAX_SCOPES, PURGES_FIELD, Guard, decode_guarded_job, latest, sort_key

DEAD, LATER, EARLIER = "5-0", "6-0", "4-0"


def write(number: int = 1, *, namespace: str | None = None, **payload: Any) -> Upsert:
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


def patch(*numbers: int, namespace: str | None = None, **options: Any) -> Patch:
    """Return a patch of memories. Without their numbers, ``category`` selects them."""
    target = {"point_ids": [f"mem_1_{number}" for number in numbers]} if numbers else {}
    return Patch(user_id=1, namespace=namespace, **{"set": {"key": "k"}, **target, **options})


def move(*, unset: tuple[str, ...] = (), **options: Any) -> Patch:
    """Return a patch of the documents that ``file_id`` or ``of`` (a group) selects. It sets the other options."""
    target = {"file_id": options.pop("file_id")} if "file_id" in options else {"group_key": options.pop("of")}
    return Patch(user_id=1, kind="document", set=options, unset=list(unset), **target)


def prune(file_id: int = 6, version: int = 5) -> Prune:
    return Prune(user_id=1, file_id=file_id, version=version)


def run(version: int | None, file_id: int = 6) -> Upsert:
    """Return a chunk that a run of a file wrote."""
    payload = {"file_id": file_id} if version is None else {"file_id": file_id, "_version": version}
    return Upsert(kind="document", user_id=1, point_id=f"doc_1_{file_id}_1", vector=b"", payload=payload)


def everywhere(*numbers: int) -> Delete:
    return Delete(user_id=1, namespace="*", point_ids=[f"mem_1_{number}" for number in numbers])


def documents(**options: Any) -> Purge:
    return Purge(user_id=1, kind="document", **options)


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
    # every namespace
    (write(1), everywhere(1), True),
    (write(1, namespace="a"), everywhere(2, 1), True),
    (write(1, namespace="a"), everywhere(2), False),
    (chunk(1), everywhere(1), False),
    (everywhere(1), write(1), True),
    (everywhere(1), write(1, namespace="a"), True),
    (everywhere(1), write(2, namespace="a"), False),
    (everywhere(1), everywhere(1), True),
    (everywhere(1), Purge(user_id=1, kind="memory", namespace="a"), True),
    (everywhere(1), Purge(user_id=1, kind="document"), False),
    (patch(1, namespace="*"), delete(1), True),
    (delete(1), patch(1, namespace="*"), True),
    (Purge(user_id=1, kind="memory", namespace="a"), everywhere(1), True),
    (Purge(user_id=1, kind="memory", category="work"), everywhere(1), True),
    # patches by ids
    (write(1), patch(1), True),
    (write(1), patch(2), False),
    (patch(1), write(1), True),
    (patch(1), patch(2), False),
    (patch(1), patch(1, namespace="a"), False),
    (patch(1), Purge(user_id=1, kind="memory", category="work"), True),  # the point may be of that category
    (Purge(user_id=1, kind="memory", category="work"), patch(1), True),
    (patch(1), Purge(user_id=1, kind="document"), False),
    # patches by payload
    (write(1, category="work"), patch(category="work"), True),
    (write(1, category="home"), patch(category="work"), False),
    (patch(category="work"), write(1, category="work"), True),
    (patch(category="work"), write(1, category="home"), False),
    (patch(category="work"), patch(category="home"), False),
    (patch(category="work"), patch(category="work"), True),
    (patch(category="work", namespace="a"), patch(category="work"), False),
    (patch(category="work"), delete(1), True),
    (documents(group_key="Q"), move(file_id=6, group_key="Q"), True),
    (documents(group_key="Q"), move(of="P", group_key="Q"), True),
    (documents(group_key="R"), move(of="P", group_key="Q"), False),
    (documents(group_key="P"), move(of="P", group_key="Q"), True),
    (move(of="P", group_key="Q"), documents(group_key="Q"), True),  # in order, the purge deletes what was moved
    (move(of="P", group_key="Q"), documents(group_key="R"), False),
    (move(of="P", group_key="Q"), move(of="Q", text="x"), True),
    (move(of="P", unset=("group_key",)), documents(group_key="Q"), True),  # not known: nothing stands for "no group"
    (move(file_id=6, group_key="Q"), documents(group_key="Q"), True),
    (move(file_id=6, group_key="Q"), documents(file_id=7), False),
    # prunes, and purges of old points and of other models
    (run(4), prune(), True),
    (run(None), prune(), True),
    (run(5), prune(), False),
    (run(4, file_id=7), prune(), False),
    (prune(), run(4), True),
    (prune(), run(5), False),
    (prune(), prune(version=9), True),
    (prune(), prune(file_id=7), False),
    (prune(), move(file_id=6, group_key="Q"), True),
    (prune(), move(file_id=7, file_type=1), False),
    (prune(), documents(group_key="Q"), True),
    (write(1, created=3), Purge(user_id=1, before=4), True),
    (write(1, created=4), Purge(user_id=1, before=4), False),
    (write(1), Purge(user_id=1, before=4), False),
    (Purge(user_id=1, before=4), write(1, created=4), False),
    (Purge(user_id=1, before=4), write(1, created=3), True),
    (write(1, embedding_model_id=1), Purge(user_id=1, other_than_model=2), True),
    (write(1, embedding_model_id=2), Purge(user_id=1, other_than_model=2), False),
    (documents(before=4), Purge(user_id=1, kind="memory", before=4), False),
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


def test_dead_purges_with_different_scopes_are_guarded_separately() -> None:
    narrow, wide = Purge(user_id=1, kind="document", file_id=2), Purge(user_id=1, kind="document")
    guard = Guard()
    guard.add(wide, EARLIER, EARLIER)
    guard.add(narrow, DEAD, DEAD)
    guard.record(chunk(1, file_id=0), LATER)
    assert not guard.is_stale(narrow, DEAD)
    assert guard.is_stale(wide, EARLIER)


def test_widened_purges_never_count_as_purges_of_everything() -> None:
    """Else a replay would be removed although no purge deleted its point."""
    guard = guarded(write(1, category="home"))
    for number in range(2 * MAX_SCOPES):
        guard.record(Purge(user_id=1, kind="memory", category=f"c{number}"), LATER)
        guard.record(Purge(user_id=1, before=number + 1), LATER)
    guard = stored(guard)
    assert len(guard.purges) <= MAX_SCOPES
    assert guard.is_stale(write(1, category="home"), DEAD)
    assert not guard.is_purged(write(1, category="home"), DEAD)
    guard.record(Purge(user_id=1, kind="memory"), LATER)
    assert guard.is_purged(write(1, category="home"), DEAD)


def test_purges_of_very_many_namespaces_are_bounded() -> None:
    guard = guarded(write(1, namespace="n7"))
    for number in range(3 * MAX_SCOPES):
        guard.record(Purge(user_id=1, kind="memory", namespace=f"n{number}"), LATER)
    assert len(stored(guard).purges) <= MAX_SCOPES
    assert stored(guard).is_stale(write(1, namespace="n7"), DEAD)


def test_a_scope_that_was_widened_and_is_guarded_again_keeps_its_last_position() -> None:
    guard, first = Guard(), documents(file_id=0)
    for file_id in range(MAX_SCOPES):
        guard.add(documents(file_id=file_id), DEAD, DEAD)
    guard.record(chunk(1, file_id=0), LATER)
    guard.add(documents(file_id=MAX_SCOPES), DEAD, DEAD)  # now all are widened
    guard.add(first, "7-0", "7-0")
    assert stored(guard).is_stale(first, DEAD)
    assert not stored(guard).is_stale(first, "7-0")


@pytest.mark.parametrize("dead_letter", [everywhere(1), patch(1, namespace="*")], ids=["delete", "patch"])
def test_a_purge_of_one_namespace_keeps_dead_letters_of_every_namespace(dead_letter: WriteJob) -> None:
    guard = guarded(dead_letter)
    assert guard.purged_by(Purge(user_id=1, kind="memory", namespace="a"), LATER) == {}
    guard.record(Purge(user_id=1, kind="memory", namespace="a"), LATER)
    assert not guard.is_purged(dead_letter, DEAD)
    assert set(guard.purged_by(Purge(user_id=1, kind="memory"), LATER)) == {DEAD}
    guard.record(Purge(user_id=1), LATER)
    assert guard.is_purged(dead_letter, DEAD)


def test_a_purge_of_everything_deletes_dead_patches_but_no_dead_prune() -> None:
    guard = Guard()
    for number, job in enumerate((patch(1), move(file_id=6, group_key="Q"), prune(), documents(before=3))):
        guard.add(job, f"1-{number}", f"1-{number}")
    assert set(guard.purged_by(Purge(user_id=1), DEAD)) == {"1-0", "1-1"}
    guard.record(Purge(user_id=1), DEAD)
    assert guard.is_purged(patch(1), "1-0")
    assert not guard.is_purged(prune(), "1-2")


def test_a_patch_whose_points_moved_is_guarded_before_and_after_the_move() -> None:
    dead_letter = move(of="P", group_key="Q")
    guard = guarded(dead_letter)
    guard.record(chunk(1), LATER)  # in no group
    assert not guard.is_stale(dead_letter, DEAD)
    guard.record(documents(group_key="Q"), LATER)
    assert guard.is_stale(dead_letter, DEAD)


def test_values_that_cannot_select_are_not_part_of_a_scope() -> None:
    """A kind may have fields of any type under the names by which other kinds select."""
    job = Patch(user_id="ann", kind="note", category="a", set={"category": "b", "group_key": [1], "file_id": True})
    guard = Guard()
    guard.add(job, DEAD, DEAD)
    assert not stored(guard).is_stale(job, DEAD)


# The guards of the release before, as they stand in Redis.

OLD_POINTS = {"memory  mem_1_1": "0-0", "memory a mem_1_2": "0-0"}
OLD_PURGES = (
    b'[[[["memory",null,[["category","home"]]],"6-0"],[["memory",null,[]],"4-0"]],'
    b'[[["document",null,[["file_id",7]]],"0-0"],[["document",null,[["file_id",8]]],"6-1"]]]'
)
OLD_DEAD_LETTERS = {
    "5-0": b'["5-0","upsert",["memory","",[]]]',
    "5-1": b'["5-1","delete",["memory","a",[]]]',
    "5-2": b'["5-2","purge",["document",null,[["file_id",7]]]]',
}


def old() -> Guard:
    dead_letters = {position: decode_guarded_job(body) for position, body in OLD_DEAD_LETTERS.items()}
    return Guard(OLD_POINTS, OLD_PURGES, dead_letters)


def test_a_guard_of_the_release_before_is_read() -> None:
    assert old().changes() == ({}, {}, [])
    assert old().is_stale(write(1, category="home"), "5-0")
    assert not old().is_stale(write(1, category="work"), "5-0")
    assert not old().is_stale(documents(file_id=7), "5-2")
    assert old().is_stale(documents(file_id=8), "5-3")
    assert set(old().purged_by(Purge(user_id=1), "7-0")) == {"5-0", "5-1"}
    guard = old()
    guard.record(write(1, category="work"), "7-0")
    guard.record(chunk(1, file_id=7), "7-1")
    assert guard.is_stale(write(1, category="work"), "5-0")
    assert stored(guard).is_stale(documents(file_id=7), "5-2")


def test_a_purge_that_the_release_before_may_have_widened_is_no_purge_of_everything() -> None:
    assert old().is_stale(write(1), "3-0")
    assert not old().is_purged(write(1), "3-0")
