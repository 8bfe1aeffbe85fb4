from __future__ import annotations

import pytest

from memory_worker.contract import Delete, Purge, Upsert, WriteJob
from memory_worker.ingest.claims import Claim, ClaimBook, Reckoning, claim_of, decode_claim, encode_claim, touch
from memory_worker.queue.log import DeadEntry, Entry


def write(number: int, user: int = 1, namespace: str | None = None) -> Upsert:
    return Upsert(user_id=user, point_id=f"mem_{user}_{number}", vector=b"", namespace=namespace)


def chunk(number: int) -> Upsert:
    return Upsert(kind="document", user_id=1, point_id=f"doc_1_1_{number}", vector=b"")


def delete(*numbers: int) -> Delete:
    return Delete(user_id=1, point_ids=[f"mem_1_{number}" for number in numbers])


def entry(number: int, replay_of: str = "") -> Entry:
    return Entry(f"{number}-0", 1, b"", replay_of=replay_of)


def letter(number: int, job: WriteJob | None = None) -> DeadEntry:
    claim = b"" if job is None else encode_claim(claim_of(job))
    return DeadEntry(entry_id=f"{number}-0", reason="invalid", detail="", claim=claim)


@pytest.mark.parametrize("job", [write(1), chunk(1), delete(1, 2), Purge(user_id=1), Purge(user_id=1, kind="document")])
def test_a_claim_is_kept_as_it_is(job: WriteJob) -> None:
    assert decode_claim(encode_claim(claim_of(job))) == claim_of(job)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (write(1), write(1), True),
        (write(1), write(2), False),
        (write(1), write(1, user=2), False),
        (write(1), write(1, namespace="a"), False),
        (write(1), delete(2, 1), True),
        (write(1), delete(2, 3), False),
        (write(1), chunk(1), False),
        (write(1), Purge(user_id=1), True),
        (write(1), Purge(user_id=2), False),
        (write(1, namespace="a"), Purge(user_id=1, kind="memory"), True),
        (write(1, namespace="a"), Purge(user_id=1, kind="memory", namespace="b"), False),
        (write(1), Purge(user_id=1, kind="document"), False),
        (write(1), Purge(user_id=1, kind="memory", category="work"), True),
        (Purge(user_id=1), Purge(user_id=1, kind="memory", namespace="a"), True),
        (Purge(user_id=1, kind="document"), Purge(user_id=1, kind="memory"), False),
    ],
)
def test_touch(one: WriteJob, other: WriteJob, expected: bool) -> None:
    assert touch(claim_of(one), claim_of(other)) is expected
    assert touch(claim_of(other), claim_of(one)) is expected


OLD = "1-0"


def reckon(
    taken: list[Entry],
    jobs: list[tuple[Entry, WriteJob]],
    dead: list[DeadEntry],
    claims: dict[str, Claim],
    superseded: frozenset[str],
) -> Reckoning:
    return ClaimBook(claims, superseded).reckon(taken, jobs, dead)


def older(job: WriteJob) -> dict[str, Claim]:
    return {OLD: claim_of(job)}


def test_a_newer_job_of_the_point_supersedes_a_letter() -> None:
    batch = [(entry(5), write(1)), (entry(6), write(2))]
    found = reckon([e for e, _ in batch], batch, [], older(write(1)), frozenset())
    assert (found.jobs, found.superseded, found.purged, found.dead) == (batch, [OLD], [], [])


def test_an_untouched_letter_may_be_replayed() -> None:
    replay = (entry(7, replay_of=OLD), write(1))
    found = reckon([entry(6), replay[0]], [(entry(6), write(2)), replay], [], older(write(1)), frozenset())
    assert replay in found.jobs
    assert (found.settled, found.superseded, found.dead) == ([OLD], [], [])


def test_a_replay_behind_a_newer_job_in_the_same_batch_is_refused() -> None:
    newer, replay = (entry(6), delete(1)), (entry(7, replay_of=OLD), write(1))
    found = reckon([newer[0], replay[0]], [newer, replay], [], older(write(1)), frozenset())
    assert found.jobs == [newer]
    assert [(dead.entry_id, dead.reason) for dead in found.dead] == [("7-0", "superseded")]
    assert found.settled == [OLD]


def test_a_replay_of_what_was_superseded_before_is_refused() -> None:
    replay = (entry(7, replay_of=OLD), write(1))
    found = reckon([replay[0]], [replay], [], older(write(1)), frozenset({OLD}))
    assert found.jobs == []
    assert [dead.reason for dead in found.dead] == ["superseded"]


def test_a_replay_is_not_superseded_by_itself() -> None:
    replay = (entry(7, replay_of=OLD), write(1))
    found = reckon([replay[0]], [replay], [], older(write(1)), frozenset())
    assert (found.jobs, found.superseded) == ([replay], [])


def test_a_purge_takes_the_users_dead_writes_with_it() -> None:
    claims = {
        "1-0": claim_of(write(1)),
        "2-0": claim_of(write(1, user=2)),
        "3-0": claim_of(Purge(user_id=1, kind="memory")),
        "4-0": claim_of(chunk(1)),
    }
    purge = (entry(9), Purge(user_id=1, kind="memory"))
    found = reckon([purge[0]], [purge], [], claims, frozenset())
    assert found.purged == ["1-0"]
    assert found.superseded == ["3-0"]


def test_a_narrowed_purge_only_supersedes() -> None:
    purge = (entry(9), Purge(user_id=1, kind="memory", category="work"))
    found = reckon([purge[0]], [purge], [], older(write(1)), frozenset())
    assert (found.purged, found.superseded) == ([], [OLD])


def test_a_purge_reaches_letters_that_died_before_it_in_the_same_batch() -> None:
    before, after, unknown = letter(5, write(1)), letter(7, write(1)), letter(4)
    purge = (entry(6), Purge(user_id=1))
    found = reckon([entry(4), entry(5), purge[0], entry(7)], [purge], [unknown, before, after], {}, frozenset())
    assert found.dead == [unknown, after]
    assert found.purged == ["5-0"]


def test_a_letter_of_this_batch_is_superseded_by_a_later_job_of_it() -> None:
    job = (entry(6), write(1))
    found = reckon([entry(5), job[0]], [job], [letter(5, write(1))], {}, frozenset())
    assert found.superseded == ["5-0"]
    assert [dead.entry_id for dead in found.dead] == ["5-0"]


def test_a_book_knows_what_was_committed() -> None:
    book = ClaimBook()
    book.settle(Reckoning(jobs=[], dead=[letter(1, write(1)), letter(2, write(2)), letter(3)]))
    first = (entry(5), write(1))
    found = book.reckon([first[0]], [first], [])
    assert found.superseded == ["1-0"]
    book.settle(found)
    replay = (entry(6, replay_of="1-0"), write(1))
    assert [dead.reason for dead in book.reckon([replay[0]], [replay], []).dead] == ["superseded"]
    purge = (entry(7), Purge(user_id=1))
    found = book.reckon([purge[0]], [purge], [])
    assert sorted(found.purged) == ["1-0", "2-0"]
    book.settle(found)
    assert book.reckon([purge[0]], [purge], []) == Reckoning(jobs=[purge], dead=[])


def test_claims_of_others_cost_a_job_nothing() -> None:
    """A hundred thousand dead letters must not hold up the jobs of users who have none."""
    book = ClaimBook({f"{n}-0": claim_of(write(n, user=2 + n % 9)) for n in range(10_000)})
    batch = [(entry(20_000 + n), write(n)) for n in range(50)]
    assert book.reckon([e for e, _ in batch], batch, []) == Reckoning(jobs=batch, dead=[])
