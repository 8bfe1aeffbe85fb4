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
    checked_read,
)
from memory_worker.errors import InvalidJob
from memory_worker.ingest.claims import Claim, ClaimBook, claim_of, decode_claim, encode_claim
from memory_worker.ingest.intake import take_in
from memory_worker.queue.codec import decode_arq
from memory_worker.queue.log import DeadEntry, Entry

LIMITS = Limits(dimension=2)
VECTOR = struct.pack("<2f", 1, 2)
MEMORY = Upsert(user_id=1, point_id="mem_1_1", vector=VECTOR)
IDS = tuple(f"mem_1_{number}" for number in range(1000))


def entry(number: int, body: bytes = b"", replay_of: str = "") -> Entry:
    return Entry(f"{number}-0", CONTRACT_VERSION, body, replay_of=replay_of)


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
    intake = take_in([entry(1, body)], LIMITS, partition=0, partitions=1)
    assert time.thread_time() - started < 3
    assert [letter.detail for letter in intake.dead] == [
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


# Jobs held against claims one by one: 2,000 dead letters of one user held a batch of the same user for 6 to 11 seconds,
# and its commit named half a million letters, each of them 256 times.


@pytest.mark.parametrize("writes", [True, False], ids=["the same point", "other points"])
def test_thousands_of_claims_of_one_user_cost_little(writes: bool) -> None:
    book = ClaimBook({f"{number}-0": Claim(1, "memory", None, IDS) for number in range(2_000)})
    others = Delete(user_id=1, point_ids=[f"mem_1_x{number}" for number in range(1000)])
    batch: list[tuple[Entry, WriteJob]] = [(entry(10_000 + n), MEMORY if writes else others) for n in range(256)]
    started = time.thread_time()
    found = book.reckon([e for e, _ in batch], batch, [])
    assert time.thread_time() - started < 1
    assert (len(found.superseded), len(set(found.superseded))) == ((2_000, 2_000) if writes else (0, 0))


def test_thousands_of_purged_claims_among_thousands_of_users_cost_little() -> None:
    claims = {f"{number}-0": Claim(1, "memory", None, ("mem_1_1",)) for number in range(9_000)}
    claims |= {f"{user}-1": Claim(user, "memory", None, (f"mem_{user}_1",)) for user in range(2, 10_000)}
    book = ClaimBook(claims)
    found = book.reckon([entry(10_000)], [(entry(10_000), Purge(user_id=1))], [])
    assert len(found.purged) == 9_000
    started = time.thread_time()
    book.settle(found)
    assert time.thread_time() - started < 1


def test_a_letter_that_is_superseded_already_is_not_named_again() -> None:
    batch: list[tuple[Entry, WriteJob]] = [(entry(5), MEMORY), (entry(6), MEMORY), (entry(7), Purge(user_id=1))]
    older = {"1-0": claim_of(MEMORY), "2-0": Claim(1, None, None), "3-0": claim_of(MEMORY)}
    found = ClaimBook(older, ["3-0"]).reckon([e for e, _ in batch], batch, [])
    assert sorted(found.superseded) == ["1-0", "2-0"]
    assert found.purged == ["1-0", "3-0"]


# The replay of a dead letter that waited behind a purge of its user was applied: what was purged came back.


def test_a_replay_behind_a_purge_in_the_same_batch_is_refused() -> None:
    purge, replay = (entry(5), Purge(user_id=1)), (entry(6, replay_of="1-0"), MEMORY)
    found = ClaimBook({"1-0": claim_of(MEMORY)}).reckon([purge[0], replay[0]], [purge, replay], [])
    assert found.jobs == [purge]
    assert [(letter.entry_id, letter.reason) for letter in found.dead] == [("6-0", "superseded")]


def test_a_replay_behind_a_purge_in_a_later_batch_is_refused() -> None:
    book = ClaimBook({"1-0": claim_of(MEMORY)})
    book.settle(book.reckon([entry(5)], [(entry(5), Purge(user_id=1))], []))
    replay = entry(6, replay_of="1-0")
    found = book.reckon([replay], [(replay, MEMORY)], [])
    assert [(letter.entry_id, letter.reason) for letter in found.dead] == [("6-0", "superseded")]
    assert (found.jobs, found.settled) == ([], ["1-0"])


# A refused replay became a letter without a claim: no purge of the user ever found it.


def test_a_purge_takes_refused_replays_with_it() -> None:
    book = ClaimBook({"1-0": claim_of(MEMORY)}, ["1-0"])
    replay = entry(6, replay_of="1-0")
    refused = book.reckon([replay], [(replay, MEMORY)], [])
    assert [letter.claim for letter in refused.dead] == [encode_claim(claim_of(MEMORY))]
    book.settle(refused)
    assert book.reckon([entry(7)], [(entry(7), Purge(user_id=1))], []).purged == ["6-0"]


def test_a_letter_of_another_user_than_the_batch_is_of_leaves_its_claim_for_later() -> None:
    book = ClaimBook()
    letter = DeadEntry(entry_id="1-0", reason="invalid", detail="", claim=encode_claim(claim_of(MEMORY)))
    other = (entry(2), Purge(user_id=2))
    book.settle(book.reckon([entry(1), other[0]], [other], [letter]))
    assert book.reckon([entry(3)], [(entry(3), MEMORY)], []).superseded == ["1-0"]


# Exceptions other than those promised.


@pytest.mark.parametrize(
    "body",
    [b"\x81\xa1a" + b"\x91" * 5_000, b'{"a":' + b"[" * 5_000, b"\x81\xa1\xff\x01", b'{"a":"\xff"}'],
    ids=["deep MessagePack", "deep JSON", "no UTF-8 in MessagePack", "no UTF-8 in JSON"],
)
def test_arqs_records_fail_as_decode_errors_only(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_arq(body)


def test_claims_fail_as_decode_errors_only() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_claim(b"\x94\x01\xa6memory\xa1\xff\x90")


@pytest.mark.parametrize("category", ["\ud800", object(), {1: [object()]}], ids=["surrogate", "object", "map"])
def test_a_search_that_cannot_be_encoded_is_an_invalid_job(category: Any) -> None:
    with pytest.raises(InvalidJob):
        checked_read(Search(user_id=1, vector=[1, 2], category=category), LIMITS)


def test_a_get_that_cannot_be_encoded_is_an_invalid_job() -> None:
    with pytest.raises(InvalidJob):
        checked_read(Get(user_id=1, point_ids=[object()]), LIMITS)  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["1/0-0", f"1/{2**64}-0", f"1/1-{2**64}", "1/99999999999999999999-1"])
def test_a_receipt_is_an_id_that_redis_can_give(text: str) -> None:
    with pytest.raises(InvalidJob):
        Receipt.parse(text)
    assert Receipt.parse(f"1/{2**64 - 1}-{2**64 - 1}") == Receipt(1, f"{2**64 - 1}-{2**64 - 1}")
