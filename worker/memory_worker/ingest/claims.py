"""Claims: what a dead letter would touch if it were replayed, kept so that a replay never undoes newer jobs.

A dead letter of which a job could be read leaves a claim. Every later job of the partition is held against the claims:
one that touches the same points supersedes the letter, and its replay is refused. A purge of all of a user's points
takes the user's dead upserts and deletes with it. A replayed entry names the letter it came from, and is judged when
its turn comes: by then all that was pushed before it has been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from memory_worker.contract import Purge, Upsert, WriteJob
from memory_worker.kinds import KindName
from memory_worker.queue.log import DeadEntry, Entry


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
    """Return the claim kept as ``body``; raises ``msgspec.DecodeError``."""
    try:
        return _decoder.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error


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
        open_claims = _OpenClaims(claim_of(job) for _, job in jobs)
        for user_id in {job.user_id for _, job in jobs}:
            for letter_id, claim in self._by_user.get(user_id, {}).items():
                open_claims.add(letter_id, claim)
        return _reckon(taken, jobs, dead, open_claims, set(self._stale))

    def settle(self, reckoning: Reckoning) -> None:
        """Note what has been committed."""
        # The replay of a purged letter may wait already: it must be refused in its turn.
        self._stale.update(reckoning.superseded, reckoning.purged)
        self._stale.difference_update(reckoning.settled)
        gone = {*reckoning.purged, *reckoning.settled}
        for claims in self._by_user.values() if gone else ():
            for letter_id in claims.keys() & gone:
                del claims[letter_id]
        for letter in reckoning.dead:
            if letter.claim:
                claim = decode_claim(letter.claim)
                self._by_user.setdefault(claim.user_id, {})[letter.entry_id] = claim


def _reckon(
    taken: Iterable[Entry],
    jobs: Sequence[tuple[Entry, WriteJob]],
    dead: Sequence[DeadEntry],
    open_claims: _OpenClaims,
    stale: set[str],
) -> Reckoning:
    reckoning = Reckoning(jobs=[], dead=[])
    job_of = {entry.entry_id: job for entry, job in jobs}
    letter_of = {letter.entry_id: letter for letter in dead}
    for entry in taken:
        if entry.replay_of:
            open_claims.remove(entry.replay_of)
            reckoning.settled.append(entry.replay_of)
        letter = letter_of.get(entry.entry_id)
        if letter is None and entry.replay_of in stale:
            letter = _superseded(entry, job_of[entry.entry_id])
        if letter is not None:
            reckoning.dead.append(letter)
            if letter.claim:
                open_claims.add(letter.entry_id, decode_claim(letter.claim))
            continue
        job = job_of[entry.entry_id]
        reckoning.jobs.append((entry, job))
        _supersede(job, open_claims, stale, reckoning)
    return reckoning


def _supersede(job: WriteJob, open_claims: _OpenClaims, stale: set[str], reckoning: Reckoning) -> None:
    """Note what ``job`` does to the dead letters before it; those that must not be replayed any more are ``stale``."""
    touched = open_claims.touched_by(claim_of(job))
    if isinstance(job, Purge) and not job.is_narrowed:
        purged = {letter_id for letter_id in touched if open_claims.of[letter_id].point_ids}
        for letter_id in purged:
            open_claims.remove(letter_id)
        stale |= purged
        reckoning.dead = [letter for letter in reckoning.dead if letter.entry_id not in purged]
        reckoning.purged += sorted(purged)
        touched = [letter_id for letter_id in touched if letter_id not in purged]
    reckoning.superseded += [letter_id for letter_id in touched if letter_id not in stale]
    stale.update(touched)


class _OpenClaims:
    """The claims that jobs of this batch may touch, found by point: a partition may hold thousands of them."""

    def __init__(self, of_jobs: Iterable[Claim]) -> None:
        self.of: dict[str, Claim] = {}
        """By letter; claims that no job of the batch may touch are left out."""
        self._of_user: dict[int, dict[str, Claim]] = {}
        self._of_purges: dict[int, dict[str, Claim]] = {}
        self._wanted: dict[_Scope, set[str]] = {}
        self._at: dict[tuple[_Scope, str], list[str]] = {}
        for mine in of_jobs:
            self._of_user.setdefault(mine.user_id, {})
            self._wanted.setdefault(_scope(mine), set()).update(mine.point_ids)

    def add(self, letter_id: str, claim: Claim) -> None:
        of_user = self._of_user.get(claim.user_id)
        if of_user is None:
            return
        self.of[letter_id] = of_user[letter_id] = claim
        if not claim.point_ids:
            self._of_purges.setdefault(claim.user_id, {})[letter_id] = claim
            return
        scope = _scope(claim)
        for point_id in self._wanted.get(scope, set()).intersection(claim.point_ids):
            self._at.setdefault((scope, point_id), []).append(letter_id)

    def remove(self, letter_id: str) -> None:
        claim = self.of.pop(letter_id, None)
        if claim is not None:
            del self._of_user[claim.user_id][letter_id]
            self._of_purges.get(claim.user_id, {}).pop(letter_id, None)

    def touched_by(self, mine: Claim) -> list[str]:
        """Return the letters that a job of the batch touches; by their points they are found only once."""
        if not mine.point_ids:
            return [letter_id for letter_id, claim in self._of_user[mine.user_id].items() if touch(claim, mine)]
        scope, purges = _scope(mine), self._of_purges.get(mine.user_id, {})
        found = [letter_id for letter_id, claim in purges.items() if touch(claim, mine)]
        # Once touched they are stale: what touches them again changes nothing.
        writes = {letter_id: None for point_id in mine.point_ids for letter_id in self._at.pop((scope, point_id), ())}
        return [*found, *(letter_id for letter_id in writes if letter_id in self.of)]


_Scope: TypeAlias = tuple[int, KindName | None, str | None]


def _scope(claim: Claim) -> _Scope:
    return claim.user_id, claim.kind, claim.namespace


def _superseded(entry: Entry, job: WriteJob) -> DeadEntry:
    return DeadEntry(
        entry_id=entry.entry_id,
        reason="superseded",
        detail=f"the replay of {entry.replay_of} would undo a newer job of the same points",
        op=str(type(job).__struct_config__.tag),
        user_id=str(job.user_id),
        claim=encode_claim(claim_of(job)),  # so that a purge of the user still finds it
    )


def _is_everywhere(claim: Claim) -> bool:
    return not claim.point_ids and claim.namespace is None
