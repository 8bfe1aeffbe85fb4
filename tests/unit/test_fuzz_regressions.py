"""Faults that the fuzzer found, each reduced to a small example. Costs are counted in bytecode instructions."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from memory_worker.contract import (
    CONTRACT_VERSION,
    MAX_PAYLOAD_VALUES,
    Delete,
    Get,
    Limits,
    Prune,
    Purge,
    Receipt,
    Search,
    Upsert,
    WriteJob,
    checked,
    normalize_job,
)
from memory_worker.contract.errors import InvalidJob
from memory_worker.ingest.cuts import Cuts
from memory_worker.ingest.decoding import decode_and_validate
from memory_worker.ingest.plan import plan
from memory_worker.queue.log import Entry
from memory_worker.queue.replay_guard import Guard
from tests.tools import instructions
from tests.unit.plan_world import KINDS

LIMITS = Limits(dimension=2)
VECTOR = struct.pack("<2f", 1, 2)
MEMORY = Upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
IDS = tuple(f"mem_1_{number}" for number in range(1000))


def entry(number: int, body: bytes = b"", replay_of: str = "") -> Entry:
    return Entry(f"{number}-0", CONTRACT_VERSION, body, len(body), replay_of)


def upsert(payload: bytes) -> bytes:
    start = b"\x85\xa2op\xa6upsert\xa7user_id\x01\xa8point_id\xa7mem_1_1\xa6vector\xc4\x08" + VECTOR
    return start + b"\xa7payload" + payload


# Payloads with very many small values: a batch of four jobs of 1 MiB blocked the event loop for 8 s, as long as a lease
# lasts.


@pytest.mark.parametrize("value", [b"\x80", b"\x90", b"\xc0"], ids=["maps", "lists", "nulls"])
def test_a_payload_of_a_million_values_is_refused_without_looking_at_each(value: bytes) -> None:
    count = 1_048_000
    body = upsert(b"\x81\xa1a\xdd" + struct.pack(">I", count) + value * count)
    details = []

    def decode() -> None:
        decoded = decode_and_validate([entry(1, body)], LIMITS, partition=0, partitions=1)
        details.extend(dead_letter.detail for dead_letter in decoded.dead)

    assert instructions(decode) < count / 10
    assert details == ["payload: at most 4,096 values are allowed, those in lists and maps included"]


def payload_of_values(count: int) -> dict[str, Any]:
    """Return a payload of so many values, half of them in lists of one value."""
    lists = (count - 1) // 2
    return {"a": [[number] for number in range(lists)] + [0] * (count - 1 - 2 * lists)}


@pytest.mark.parametrize("more", [0, 1])
def test_nested_values_of_a_payload_are_counted(more: int) -> None:
    for payload in (
        payload_of_values(MAX_PAYLOAD_VALUES + more),
        {"a": {str(number): None for number in range(MAX_PAYLOAD_VALUES - 1 + more)}},
    ):
        job = msgspec.structs.replace(MEMORY, payload=payload)
        if more:
            with pytest.raises(InvalidJob, match="4,096 values"):
                checked(job, LIMITS)
        else:
            checked(job, LIMITS)


# Jobs compared with dead letters one by one: 2,000 dead letters of a user delayed a batch of that user for 6 to 11 s.


@pytest.mark.parametrize("job", [MEMORY, Delete(user_id=1, point_ids=list(IDS)), Purge(user_id=1, category="work")])
def test_the_cost_of_a_job_does_not_grow_with_the_dead_letters_of_its_user(job: WriteJob) -> None:
    def steps(dead_letters: int) -> int:
        guard = Guard({f"memory  mem_1_{number}": "0-0" for number in range(dead_letters)}, dead_letters={})
        return instructions(lambda: guard.record(job, "9-0"))

    few = max(steps(5_000) for _ in range(3))  # Python may need fewer once it has specialized the code
    assert steps(50_000) <= few


# Other exceptions than those that are documented.


@pytest.mark.parametrize("value", ["\ud800", object(), {1: [object()]}], ids=["surrogate", "object", "map"])
def test_a_read_that_cannot_be_encoded_is_an_invalid_job(value: Any) -> None:
    for job in (Search(user_id=1, vector=[1, 2], category=value), Get(user_id=1, point_ids=[value])):
        with pytest.raises(InvalidJob):
            checked(normalize_job(job), LIMITS)


@pytest.mark.parametrize("text", ["1/0-0", f"1/{2**64}-0", f"1/1-{2**64}", "1/99999999999999999999-1"])
def test_a_receipt_must_be_an_id_that_redis_can_assign(text: str) -> None:
    with pytest.raises(InvalidJob):
        Receipt.parse(text)
    assert Receipt.parse(f"1/{2**64 - 1}-{2**64 - 1}") == Receipt(1, f"{2**64 - 1}-{2**64 - 1}")


@pytest.mark.parametrize("value", ["2026", True, [1], {"a": 1}, None])
def test_a_prune_or_a_purge_by_age_compares_values_of_any_type(value: Any) -> None:
    """A kind from a file need not type ``_version`` and ``created``; comparing text with a number is no crash."""
    chunk = Upsert(
        kind="note",
        user_id="ann",
        point_id="note_ann_1",
        vector=b"",
        payload={"user_id": "ann", "file_id": 7, "_version": value, "created": value},
    )
    prune = Prune(kind="note", user_id="ann", file_id=7, version=5)
    cuts = Cuts()
    assert not cuts.must_end_before(prune)
    assert cuts.must_end_before(chunk) is (value in (None, [1]))
    assert plan([chunk, prune, Purge(user_id="ann", before=5)], kinds=KINDS)
