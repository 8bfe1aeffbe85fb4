from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from memory_worker.contract import (
    CONTRACT_VERSION,
    Delete,
    Limits,
    Purge,
    Upsert,
    WriteJob,
    encode_job,
    op_of,
    partition_of,
)
from memory_worker.contract.errors import StoreRefused
from memory_worker.ingest.decoding import DecodedBatch, decode_and_validate, refused
from memory_worker.queue.held import Held
from memory_worker.queue.log import DeadEntry, Entry

PARTITIONS, USER = 8, 1730
HOME = partition_of(USER, PARTITIONS)
LIMITS = Limits(dimension=2, max_job_bytes=500)
GOOD = Purge(user_id=USER, kind="memory")
UPSERT = Upsert(user_id=USER, point_id="mem_1730_1", vector=struct.pack("<2f", 1, 2), payload={"category": "work"})


def entry(job: Any, n: int = 1, version: int = CONTRACT_VERSION) -> Entry:
    body = job if isinstance(job, bytes) else encode_job(job)
    return Entry(f"{n}-0", version, body, len(body))


def take(*entries: Entry) -> DecodedBatch:
    return decode_and_validate(entries, LIMITS, partition=HOME, partitions=PARTITIONS)


def test_entries_become_checked_jobs_in_order() -> None:
    entries = [entry(UPSERT, 1), entry(Delete(user_id=USER, point_ids=["mem_1730_1"]), 2), entry(GOOD, 3)]
    decoded = take(*entries)
    assert list(decoded.entries) == entries
    assert [found for found, _ in decoded.jobs] == entries
    assert [type(job) for _, job in decoded.jobs] == [Upsert, Delete, Purge]
    assert decoded.jobs[0][1].payload["_point_id"] == "mem_1730_1"
    assert (decoded.dead, decoded.held) == ([], None)
    assert take() == DecodedBatch((), [], [])


DEAD: dict[str, tuple[Any, str, str, str, str]] = {
    "no job": (b"", "malformed", "is neither MessagePack nor JSON", "", ""),
    "garbage": (b"\xc1\x00", "malformed", "is neither MessagePack nor JSON", "", ""),
    "unknown op": (b'{"op":"drop"}', "malformed", "op: invalid value 'drop'", "", ""),
    "no user": (b'{"op":"purge"}', "malformed", "user_id: ", "", ""),
    "wrong dimension": (msgspec.structs.replace(UPSERT, vector=b""), "invalid", "vector: ", "upsert", "1730"),
    "another user's point": (
        Delete(user_id=USER, point_ids=["mem_1_1"]),
        "invalid",
        "point_ids[0]: ",
        "delete",
        "1730",
    ),
    "purge too narrow": (Purge(user_id=USER, category="work"), "invalid", "category: ", "purge", "1730"),
    "too large": (
        msgspec.structs.replace(UPSERT, payload={"text": "x" * 500}),
        "invalid",
        "job: at most 500 bytes are allowed",
        "upsert",
        "1730",
    ),
    "foreign partition": (
        Purge(user_id=1),
        "invalid",
        f"user_id: 1 belongs to partition {partition_of(1, PARTITIONS)}, but the job is in {HOME}",
        "purge",
        "1",
    ),
}


@pytest.mark.parametrize(("job", "reason", "detail", "op", "user_id"), DEAD.values(), ids=DEAD)
def test_a_bad_entry_becomes_a_dead_letter_and_the_others_become_jobs(
    job: Any, reason: str, detail: str, op: str, user_id: str
) -> None:
    entries = [entry(GOOD, 1), entry(job, 2), entry(GOOD, 3)]
    decoded = take(*entries)
    assert [found.entry_id for found, _ in decoded.jobs] == ["1-0", "3-0"]
    (dead_letter,) = decoded.dead
    assert (dead_letter.entry.entry_id, dead_letter.reason, dead_letter.op) == ("2-0", reason, op)
    assert ("" if dead_letter.job is None else str(dead_letter.job.user_id)) == user_id
    assert detail in dead_letter.detail
    assert list(decoded.entries) == entries
    assert not decoded.held


def test_an_entry_that_was_too_large_to_be_read_becomes_a_dead_letter() -> None:
    (dead_letter,) = take(Entry("1-0", CONTRACT_VERSION, b"", 110_000_000)).dead
    assert (dead_letter.reason, dead_letter.job) == ("invalid", None)
    assert dead_letter.detail == "job: at most 500 bytes are allowed, got 110,000,000"


def test_the_detail_of_a_dead_letter_is_short() -> None:
    (dead_letter,) = take(entry(b'{"op":"' + b"x" * 490 + b'"}')).dead
    assert len(dead_letter.detail) == 500


@pytest.mark.parametrize("version", [CONTRACT_VERSION + 1, 999_999_999])
def test_an_entry_of_a_newer_contract_holds_all_entries_behind_it(version: int) -> None:
    entries = [entry(GOOD, 1), entry(b"", 2), entry(b"", 3, version), entry(GOOD, 4)]
    decoded = take(*entries)
    assert list(decoded.entries) == entries[:2]
    assert [found.entry_id for found, _ in decoded.jobs] == ["1-0"]
    assert [dead_letter.entry.entry_id for dead_letter in decoded.dead] == ["2-0"]
    assert decoded.held == Held("3-0", f"contract version {version}")


@pytest.mark.parametrize(
    "job",
    [
        Upsert(kind="note", user_id=USER, point_id="anything", vector=b"\x00\x00\x80?"),
        Delete(kind="note", user_id=USER, point_ids=["anything"]),
        Purge(kind="note", user_id=USER),
    ],
    ids=op_of,
)
def test_an_entry_of_an_unknown_kind_holds_all_entries_behind_it(job: WriteJob) -> None:
    entries = [entry(GOOD, 1), entry(job, 2), entry(GOOD, 3)]
    decoded = take(*entries)
    assert [found.entry_id for found, _ in decoded.jobs] == ["1-0"]
    assert (decoded.dead, decoded.held) == ([], Held("2-0", "kind 'note'"))


def test_an_entry_without_a_version_is_decoded() -> None:
    decoded = take(entry(GOOD, 1, version=0), entry(b"", 2, version=0))
    assert [job for _, job in decoded.jobs] == [GOOD]
    assert [dead_letter.reason for dead_letter in decoded.dead] == ["malformed"]


def test_a_refused_job_keeps_the_message_of_qdrant() -> None:
    dead_letter = refused(entry(UPSERT), UPSERT, StoreRefused("no such thing"))
    assert dead_letter == DeadEntry(entry=entry(UPSERT), reason="refused", detail="no such thing", job=UPSERT)
    assert dead_letter.op == "upsert"
