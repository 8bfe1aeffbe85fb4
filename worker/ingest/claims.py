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


class ClaimBook:
    """The claims of a partition's dead letters, as one drain knows them: only drains add any.

    They are kept by user, so that a job is held against those of its user only, however many there are.
    """

    def __init__(self, claims: Mapping[str, Claim] | None = None, superseded: Iterable[str] = ()) -> None:
        self._by_user: dict[int, dict[str, Claim]] = {}
        self._stale = set(superseded)
        for letter_id, claim in (claims or {}).items():
            self._by_user.setdefault(claim.user_id, {})[letter_id] = claim

    def reckon(self, taken: Sequence[Entry], jobs: list[tuple[Entry, WriteJob]], dead: list[DeadEntry]) -> Reckoning:
        """Hold a batch against the claims; ``taken`` are its entries in order, each one of ``jobs`` or of ``dead``.

        The book itself is not changed: see `settle`.
        """
        if not (self._by_user or dead or any(entry.replay_of for entry in taken)):
            return Reckoning(jobs=jobs, dead=dead)
        users = {job.user_id for _, job in jobs}
        open_claims = {letter_id: claim for user in users for letter_id, claim in self._by_user.get(user, {}).items()}
        return _reckon(taken, jobs, dead, open_claims, set(self._stale))

    def settle(self, reckoning: Reckoning) -> None:
        """Note what has been committed."""
        self._stale.update(reckoning.superseded)
        for letter_id in (*reckoning.purged, *reckoning.settled):
            self._stale.discard(letter_id)
            for claims in self._by_user.values():
                claims.pop(letter_id, None)
        for letter in reckoning.dead:
            if letter.claim:
                claim = decode_claim(letter.claim)
                self._by_user.setdefault(claim.user_id, {})[letter.entry_id] = claim


def _reckon(
    taken: Iterable[Entry],
    jobs: Sequence[tuple[Entry, WriteJob]],
    dead: Sequence[DeadEntry],
    open_claims: dict[str, Claim],
    stale: set[str],
) -> Reckoning:
    reckoning = Reckoning(jobs=[], dead=[])
    job_of = {entry.entry_id: job for entry, job in jobs}
    letter_of = {letter.entry_id: letter for letter in dead}
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
    if not open_claims:
        return set()
    mine = claim_of(job)
    touched = [letter_id for letter_id, claim in open_claims.items() if touch(claim, mine)]
    if isinstance(job, Purge) and not job.is_narrowed:
        purged = {letter_id for letter_id in touched if open_claims[letter_id].point_ids}
        for letter_id in purged:
            del open_claims[letter_id]
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
