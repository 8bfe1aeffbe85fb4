"""The outcome of a batch: the jobs to apply, the new dead letters, and the older dead letters to delete.

A replayed job that would undo newer jobs becomes a dead letter again. For the rule see
`memory_worker.queue.replay_guard`. A purge of all points of a user also deletes older dead upserts, deletes and
patches of that user.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from memory_worker.contract import WriteJob
from memory_worker.contract.kinds import UserId
from memory_worker.ingest.decoding import DecodedBatch
from memory_worker.queue.log import DeadEntry, Entry, PurgedDeadLetter
from memory_worker.queue.replay_guard import Guard, GuardedJob, Position, is_full_purge


class Outcome(msgspec.Struct, kw_only=True):
    """The outcome of a batch.

    ``guards`` are the replay guards of users with dead letters, in their state after the commit. ``purged`` are older
    dead letters that a purge deletes. ``dropped`` are jobs of the batch that are neither applied nor dead letters,
    because a later purge of their user has made them needless.
    """

    jobs: list[tuple[Entry, WriteJob]]
    dead: list[DeadEntry]
    guards: dict[UserId, Guard]
    purged: list[PurgedDeadLetter]
    dropped: list[tuple[Entry, WriteJob]]


def decide(batch: DecodedBatch, guards: dict[UserId, Guard]) -> Outcome:
    """Return the outcome of ``batch``. ``guards`` are the replay guards of its users, and are changed in place."""
    outcome = Outcome(jobs=[], dead=[], guards=guards, purged=[], dropped=[])
    if not (guards or batch.dead or any(entry.replay_of for entry in batch.entries)):
        outcome.jobs = batch.jobs
        return outcome
    jobs = {entry.entry_id: job for entry, job in batch.jobs}
    dead_letters = {dead_letter.entry.entry_id: dead_letter for dead_letter in batch.dead}
    for entry in batch.entries:
        dead_letter = dead_letters.get(entry.entry_id)
        if dead_letter is not None:
            _add_dead_letter(dead_letter, outcome)
        elif not entry.replay_of:
            _apply(entry, jobs[entry.entry_id], outcome)
        else:
            _replay(entry, jobs[entry.entry_id], outcome)
    return outcome


def decoded_jobs(batch: DecodedBatch) -> Sequence[tuple[str, WriteJob]]:
    """Return the position and the job of each entry of ``batch`` that could be decoded."""
    alive = [(entry.position, job) for entry, job in batch.jobs]
    return alive + [
        (dead_letter.entry.position, dead_letter.job) for dead_letter in batch.dead if dead_letter.job is not None
    ]


def _add_dead_letter(dead_letter: DeadEntry, outcome: Outcome) -> None:
    outcome.dead.append(dead_letter)
    job, entry = dead_letter.job, dead_letter.entry
    if job is None:
        return
    guard = outcome.guards.get(job.user_id, Guard())
    if entry.replay_of and entry.position not in guard.dead_letters:
        return  # it cannot be guarded, because the newer jobs since its first push are not known
    guard.add(job, entry.position, entry.entry_id)
    outcome.guards[job.user_id] = guard


def _replay(entry: Entry, job: WriteJob, outcome: Outcome) -> None:
    guard = outcome.guards.get(job.user_id)
    if guard is None or entry.position not in guard.dead_letters:
        detail = f"it is not known what newer jobs the replay of {entry.position} would undo"
        outcome.dead.append(DeadEntry(entry=entry, reason="superseded", detail=detail, job=job))
    elif not guard.is_stale(job, entry.position):
        del guard.dead_letters[entry.position]
        _apply(entry, job, outcome)
    elif guard.is_purged(job, entry.position):
        del guard.dead_letters[entry.position]
        outcome.dropped.append((entry, job))
    else:
        detail = f"the replay of {entry.position} would undo a newer job of the same points"
        _add_dead_letter(DeadEntry(entry=entry, reason="superseded", detail=detail, job=job), outcome)


def _apply(entry: Entry, job: WriteJob, outcome: Outcome) -> None:
    outcome.jobs.append((entry, job))
    guard = outcome.guards.get(job.user_id)
    if guard is None:
        return
    guard.record(job, entry.position)
    if is_full_purge(job):
        _purge_dead_letters(job, guard, guard.purged_by(job, entry.position), outcome)


def _purge_dead_letters(job: WriteJob, guard: Guard, purged: dict[Position, GuardedJob], outcome: Outcome) -> None:
    new = {dead_letter.entry.entry_id for dead_letter in outcome.dead}
    of_this_batch = new.intersection(dead_letter.entry_id for dead_letter in purged.values())
    dead, outcome.dead = outcome.dead, []
    for dead_letter in dead:
        if dead_letter.entry.entry_id not in of_this_batch:
            outcome.dead.append(dead_letter)
        elif dead_letter.job is not None:
            outcome.dropped.append((dead_letter.entry, dead_letter.job))
    for position, guarded in purged.items():
        if guarded.entry_id in of_this_batch:
            del guard.dead_letters[position]
        else:  # if it is being replayed now, there is nothing to delete, and its replay will be refused
            outcome.purged.append(PurgedDeadLetter(str(job.user_id), position, guarded.entry_id))
