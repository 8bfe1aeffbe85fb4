"""What the fuzzer found, each reduced to the least that shows it. Times are of this thread, with room to spare."""

from __future__ import annotations

import struct
import time
from typing import Any

import msgspec
import pytest

from memory_worker.contract import (
    CONTRACT_VERSION,
    MAX_PAYLOAD_VALUES,
    Delete,
    Get,
    Limits,
    Purge,
    Receipt,
    Search,
    Upsert,
    WriteJob,
    checked,
    normalize_job,
)
from memory_worker.contract.errors import InvalidJob
from memory_worker.ingest.decoding import decode_and_validate
from memory_worker.queue.log import Entry
from memory_worker.queue.replay_guard import Guard
from memory_worker.wire.arq_records import decode_arq
from tests.instructions import instructions

LIMITS = Limits(dimension=2)
VECTOR = struct.pack("<2f", 1, 2)
MEMORY = Upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
IDS = tuple(f"mem_1_{number}" for number in range(1000))


def entry(number: int, body: bytes = b"", replay_of: str = "") -> Entry:
    return Entry(f"{number}-0", CONTRACT_VERSION, body, len(body), replay_of)


def upsert(payload: bytes) -> bytes:
    start = b"\x85\xa2op\xa6upsert\xa7user_id\x01\xa8point_id\xa7mem_1_1\xa6vector\xc4\x08" + VECTOR
    return start + b"\xa7payload" + payload


# A payload of very many very small values: four jobs of 1 MiB, one batch, held the event loop for 8 seconds, which is
# as long as a lease lives.


@pytest.mark.parametrize("value", [b"\x80", b"\x90", b"\xc0"], ids=["maps", "lists", "nulls"])
def test_a_payload_of_a_million_values_is_refused_soon(value: bytes) -> None:
    count = 1_048_000
    body = upsert(b"\x81\xa1a\xdd" + struct.pack(">I", count) + value * count)
    started = time.thread_time()
    decoded = decode_and_validate([entry(1, body)], LIMITS, partition=0, partitions=1)
    assert time.thread_time() - started < 3
    assert [dead_letter.detail for dead_letter in decoded.dead] == [
        "payload: at most 4,096 values are allowed, those in lists and maps included"
    ]


def payload_of_values(count: int) -> dict[str, Any]:
    """As many values, half of them in lists of one."""
    lists = (count - 1) // 2
    return {"a": [[number] for number in range(lists)] + [0] * (count - 1 - 2 * lists)}


@pytest.mark.parametrize("more", [0, 1])
def test_the_values_of_a_payload_are_counted_wherever_they_stand(more: int) -> None:
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


# Jobs held against dead letters one by one: 2,000 of one user held a batch of the same user for 6 to 11 seconds.


@pytest.mark.parametrize("job", [MEMORY, Delete(user_id=1, point_ids=list(IDS)), Purge(user_id=1, category="work")])
def test_what_a_job_costs_does_not_grow_with_the_letters_of_its_user(job: WriteJob) -> None:
    def steps(dead_letters: int) -> int:
        guard = Guard({f"memory  mem_1_{number}": "0-0" for number in range(dead_letters)}, dead_letters={})
        return instructions(lambda: guard.record(job, "9-0"))

    few = max(steps(5_000) for _ in range(3))  # Python may need fewer once it has seen the code often enough
    assert steps(50_000) <= few


# Exceptions other than those promised.


@pytest.mark.parametrize(
    "body",
    [b"\x81\xa1a" + b"\x91" * 5_000, b'{"a":' + b"[" * 5_000, b"\x81\xa1\xff\x01", b'{"a":"\xff"}'],
    ids=["deep MessagePack", "deep JSON", "no UTF-8 in MessagePack", "no UTF-8 in JSON"],
)
def test_arqs_records_fail_as_decode_errors_only(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_arq(body)


@pytest.mark.parametrize("category", ["\ud800", object(), {1: [object()]}], ids=["surrogate", "object", "map"])
def test_a_search_that_cannot_be_encoded_is_an_invalid_job(category: Any) -> None:
    with pytest.raises(InvalidJob):
        checked(normalize_job(Search(user_id=1, vector=[1, 2], category=category)), LIMITS)


def test_a_get_that_cannot_be_encoded_is_an_invalid_job() -> None:
    with pytest.raises(InvalidJob):
        checked(normalize_job(Get(user_id=1, point_ids=[object()])), LIMITS)  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["1/0-0", f"1/{2**64}-0", f"1/1-{2**64}", "1/99999999999999999999-1"])
def test_a_receipt_is_an_id_that_redis_can_give(text: str) -> None:
    with pytest.raises(InvalidJob):
        Receipt.parse(text)
    assert Receipt.parse(f"1/{2**64 - 1}-{2**64 - 1}") == Receipt(1, f"{2**64 - 1}-{2**64 - 1}")
