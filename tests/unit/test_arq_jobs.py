"""Writes by arq's own client become jobs, or entries from which a drain makes dead letters."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.contract import Limits, decode_write, partition_of
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.ingest.arq_jobs import new_entry
from memory_worker.ingest.decoding import decode_and_validate
from memory_worker.queue.arq_writes import ArqWrite, NewEntry
from memory_worker.queue.log import Entry
from memory_worker.wire.arq_records import is_json, is_pickled, job_of_arguments
from memory_worker.wire.meta import QueueMeta

META = QueueMeta(partitions=4, limits=Limits(dimension=2, max_job_bytes=2_000))
LIMITS = META.limits

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "op": st.sampled_from([*WRITE_OPS, "search"]),
    "user_id": st.integers(0, 9) | st.text(max_size=3),
    "point_id": st.sampled_from(["mem_1_1", "mem_2_1", "doc_1_8_0", ""]),
    "point_ids": st.lists(st.sampled_from(["mem_1_1", "mem_2_1"]), max_size=2),
    "vector": st.lists(st.floats(width=32), min_size=2, max_size=3) | st.sampled_from(["AACAPwAAAAA=", b"\0" * 8]),
    "kind": st.sampled_from(["memory", "document", "other"]),
    "file_id": st.integers(0, 9),
    "version": st.integers(0, 9),
    "payload": st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    "set": st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
}


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Return arq's record of a write whose job is right in some fields, in MessagePack or JSON."""
    job = draw(st.fixed_dictionaries({}, optional=FIELDS)) | draw(
        st.dictionaries(st.text(max_size=3), VALUES, max_size=1)
    )
    args, named = draw(st.sampled_from([([job], {}), ([], job), ([job], job)]))
    function = draw(st.sampled_from([*WRITE_OPS, "remember"]))
    record = {"t": None, "f": function, "a": args, "k": named, "et": draw(st.integers(-1, 2**40))}
    return draw(st.sampled_from([msgspec.msgpack.encode, msgspec.json.encode]))(record)


def entry_of(record: bytes, meta: QueueMeta = META) -> NewEntry:
    return new_entry(ArqWrite(b"id", b"1", len(record), record), meta)


def drained(entry: NewEntry) -> tuple[str, str]:
    """Return what a drain makes of an entry: a job or a dead letter, and the reason of the latter."""
    body = entry.body or entry.write.record
    stored = Entry("1-0", entry.version, body if len(body) <= LIMITS.max_job_bytes else b"", len(body))
    found = decode_and_validate([stored], LIMITS, partition=entry.partition, partitions=META.partitions)
    assert found.held is None
    return ("dead", found.dead[0].detail) if found.dead else ("job", "")


@given(records() | st.binary(max_size=50))
def test_a_drain_agrees_with_the_result(record: bytes) -> None:
    entry = entry_of(record)
    assert entry.result.reason != "internal"
    assert drained(entry)[0] == ("job" if entry.result.error is None else "dead")


def test_a_write_is_a_job_in_the_partition_of_its_user() -> None:
    job = {"user_id": 7, "point_id": "mem_7_1", "vector": [1, 0]}
    entry = entry_of(msgspec.json.encode({"t": None, "f": "upsert", "a": [job], "k": {}, "et": 5}))
    assert (entry.partition, entry.version, entry.result.error) == (partition_of(7, 4), 1, None)
    assert (entry.result.function, entry.result.enqueued_ms, entry.result.as_json) == ("upsert", 5, True)
    assert entry.body == msgspec.msgpack.encode(decode_write(entry.body))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_write_is_recognized_whatever_its_size(protocol: int) -> None:
    record = pickle.dumps({"t": None, "f": "upsert", "a": ({},), "k": {}, "et": 0}, protocol)
    for read in (record, record[:1]):  # of a large record only the first byte is read
        entry = new_entry(ArqWrite(b"id", b"1", len(record), read), META)
        assert (entry.result.reason, entry.body, entry.result.as_json) == ("pickled", b"", True)
    assert "job_serializer=msgspec.msgpack.encode" in drained(entry_of(record))[1]


def test_an_unknown_kind_becomes_a_dead_letter_and_holds_no_partition() -> None:
    record = {"t": None, "f": "delete", "a": [], "k": {"user_id": 1, "point_ids": ["x"], "kind": "other"}, "et": 0}
    entry = entry_of(msgspec.msgpack.encode(record))
    assert entry.result.error is not None
    assert "kind: 'other' is none of memory, document" in entry.result.error
    assert drained(entry) == (
        "dead",
        "job: is a write of arq's own client that was refused, for example because of its kind",
    )


class TestArguments:
    def test_one_map_or_named_arguments(self) -> None:
        assert job_of_arguments([{"a": 1}], {}) == {"a": 1}
        assert job_of_arguments([], {"a": 1}) == {"a": 1}
        assert job_of_arguments([], {}) == {}

    @pytest.mark.parametrize(("args", "named"), [([{}, {}], {}), ([{}], {"a": 1}), ([1, 2], {"a": 1})])
    def test_more_is_an_error(self, args: list[Any], named: dict[str, Any]) -> None:
        with pytest.raises(InvalidJob, match=f"got {len(args)} arguments and {len(named)} named ones"):
            job_of_arguments(args, named)


def test_the_first_byte_shows_the_encoding() -> None:
    record = {"t": None, "f": "x", "a": [], "k": {}, "et": 0}
    bodies = [msgspec.msgpack.encode(record), msgspec.json.encode(record), pickle.dumps(record), b""]
    assert [(is_json(body), is_pickled(body)) for body in bodies] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
