"""Claims: what a dead letter would touch if it were replayed, kept so that a replay never undoes newer jobs.

A dead letter of which a job could be read leaves a claim. Every later job of the partition is held against the claims:
one that touches the same points supersedes the letter, and its replay is refused. A purge of all of a user's points
takes the user's dead upserts and deletes with it. A replayed entry names the letter it came from, and is judged when
its turn comes: by then all that was pushed before it has been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from worker.contract import Purge, Upsert, WriteJob
from worker.kinds import KindName
from worker.queue.log import DeadEntry, Entry


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """The points that a job touches; no ids: all points of the user in its reach (a purge)."""

    user_id: int
    kind: KindName | None
    namespace: str | None
    point_ids: tuple[str, ...] = ()


class Reckoning(msgspec.Struct, kw_only=True):
    """A batch held against the claims: what to apply, what is dead, and what becomes of older dead letters.

    ``superseded`` letters must not be replayed any more, ``purged`` ones are to be forgotten with their contents, and
    the claims of ``settled`` ones are done with: their replay stands in this batch.
    """

    jobs: list[tuple[Entry, WriteJob]]
    dead: list[DeadEntry]
    superseded: list[str] = []
    purged: list[str] = []
    settled: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Claim)


def claim_of(job: WriteJob) -> Claim:
    """Return what ``job`` touches."""
    match job:
        case Purge():
            return Claim(job.user_id, job.kind, job.namespace)
        case Upsert():
            return Claim(job.user_id, job.kind, job.namespace, (job.point_id,))
    return Claim(job.user_id, job.kind, job.namespace, tuple(job.point_ids))


def encode_claim(claim: Claim) -> bytes:
    """Return a claim as it is kept."""
    return _encoder.encode(claim)


def decode_claim(body: bytes) -> Claim:
    """Return the claim kept as ``body``."""
    return _decoder.decode(body)


def touch(one: Claim, other: Claim) -> bool:
    """Say whether two jobs may touch a point in common; what a purge spares by its category is not looked at."""
    if one.user_id != other.user_id or (one.kind != other.kind and None not in (one.kind, other.kind)):
        return False
    if not (one.namespace == other.namespace or _is_everywhere(one) or _is_everywhere(other)):
        return False
    return not one.point_ids or not other.point_ids or not set(one.point_ids).isdisjoint(other.point_ids)


def reckon(
    taken: Iterable[Entry],
    jobs: Sequence[tuple[Entry, WriteJob]],
    dead: Sequence[DeadEntry],
    claims: Mapping[str, Claim],
    superseded: frozenset[str],
) -> Reckoning:
    """Hold a batch against the ``claims`` of older dead letters, those ``superseded`` before among them.

    ``taken`` are the batch's entries in order, each of which is one of ``jobs`` or ``dead``.
    """
    reckoning = Reckoning(jobs=[], dead=[])
    job_of = {entry.entry_id: job for entry, job in jobs}
    letter_of = {letter.entry_id: letter for letter in dead}
    open_claims = dict(claims)
    stale = set(superseded)
    for entry in taken:
        if entry.replay_of:
            open_claims.pop(entry.replay_of, None)
            reckoning.settled.append(entry.replay_of)
        letter = letter_of.get(entry.entry_id)
        if letter is None and entry.replay_of in stale:
            letter = _superseded(entry, job_of[entry.entry_id])
        if letter is not None:
            reckoning.dead.append(letter)
            if letter.claim:
                open_claims[letter.entry_id] = decode_claim(letter.claim)
            continue
        job = job_of[entry.entry_id]
        reckoning.jobs.append((entry, job))
        stale |= _supersede(job, open_claims, reckoning)
    return reckoning


def _supersede(job: WriteJob, open_claims: dict[str, Claim], reckoning: Reckoning) -> set[str]:
    """Note what ``job`` does to the dead letters before it; return those that it supersedes."""
    mine = claim_of(job)
    touched = [letter_id for letter_id, claim in open_claims.items() if touch(claim, mine)]
    if isinstance(job, Purge) and not job.is_narrowed:
        purged = {letter_id for letter_id in touched if open_claims.pop(letter_id).point_ids}
        reckoning.dead = [letter for letter in reckoning.dead if letter.entry_id not in purged]
        reckoning.purged += sorted(purged)
        touched = [letter_id for letter_id in touched if letter_id not in purged]
    reckoning.superseded += touched
    return set(touched)


def _superseded(entry: Entry, job: WriteJob) -> DeadEntry:
    return DeadEntry(
        entry_id=entry.entry_id,
        reason="superseded",
        detail=f"the replay of {entry.replay_of} would undo a newer job of the same points",
        op=str(type(job).__struct_config__.tag),
        user_id=str(job.user_id),
    )


def _is_everywhere(claim: Claim) -> bool:
    return not claim.point_ids and claim.namespace is None
