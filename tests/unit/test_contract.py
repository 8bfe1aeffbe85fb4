from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from itertools import count, islice
from types import MappingProxyType
from typing import Any, get_args
from uuid import UUID
from zlib import crc32

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_worker.contract import (
    MAX_KEY_CHARACTERS,
    MAX_PAYLOAD_DEPTH,
    MAX_PAYLOAD_FIELDS,
    MAX_POINT_IDS,
    Condition,
    Delete,
    Get,
    Info,
    Limits,
    Patch,
    Prune,
    Purge,
    ReadJob,
    Receipt,
    Reply,
    Search,
    SearchMany,
    Upsert,
    WriteJob,
    check_size,
    checked,
    convert_read,
    decode_write,
    encode_job,
    encode_write,
    json_schema,
    normalize_job,
    partition_of,
)
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    NARROWING,
)

LIMITS = Limits(dimension=2, max_job_bytes=10_000)
PACKED = struct.pack("<2f", 1, 2)
UPSERT = {"op": "upsert", "user_id": 1730, "point_id": "mem_1730_1", "vector": PACKED}
DOCUMENT = {**UPSERT, "kind": "document", "point_id": "doc_1730_9_0"}
DELETE = {"op": "delete", "user_id": 1730, "point_ids": ["mem_1730_1"]}
PURGE = {"op": "purge", "user_id": 1730}
PATCH = {"op": "patch", "user_id": 1730, "point_ids": ["mem_1730_1"], "set": {"category": "work"}}
MOVE = {"op": "patch", "user_id": 1730, "kind": "document", "file_id": 9, "set": {"group_key": "WORK"}}
PRUNE = {"op": "prune", "user_id": 1730, "file_id": 9, "version": 5}


def take(document: Any) -> WriteJob:
    """Return the job that a worker decodes from a pushed map."""
    given = {name: value for name, value in document.items() if value is not msgspec.UNSET}
    return checked(decode_write(msgspec.msgpack.encode(given)), LIMITS)


def pushed(job: WriteJob, limits: Limits) -> bytes:
    """Return the bytes that a producer stores for a job."""
    return encode_write(normalize_job(job), limits)


def called(job: Any, limits: Limits) -> Any:
    """Return a read job as a producer sends it."""
    return checked(normalize_job(job), limits)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# The wire form. These literals are the contract with producers in other languages: they never change.

GOLDEN: dict[str, tuple[WriteJob | ReadJob, bytes, bytes]] = {
    "upsert": (
        Upsert(user_id=1730, point_id="mem_1730_12345", vector=PACKED, payload={"category": "personal"}),
        b"\x85\xa2op\xa6upsert\xa7user_id\xcd\x06\xc2\xa8point_id\xaemem_1730_12345"
        b"\xa6vector\xc4\x08\x00\x00\x80?\x00\x00\x00@\xa7payload\x81\xa8category\xa8personal",
        b'{"op":"upsert","user_id":1730,"point_id":"mem_1730_12345","vector":"AACAPwAAAEA=",'
        b'"payload":{"category":"personal"}}',
    ),
    "delete": (
        Delete(user_id=1730, point_ids=["doc_1730_9_0"], kind="document"),
        b"\x84\xa2op\xa6delete\xa4kind\xa8document\xa7user_id\xcd\x06\xc2\xa9point_ids\x91\xacdoc_1730_9_0",
        b'{"op":"delete","kind":"document","user_id":1730,"point_ids":["doc_1730_9_0"]}',
    ),
    "purge": (
        Purge(user_id=1730, kind="memory", namespace="feedback_positive", category="work"),
        b"\x85\xa2op\xa5purge\xa4kind\xa6memory\xa9namespace\xb1feedback_positive\xa7user_id\xcd\x06\xc2"
        b"\xa8category\xa4work",
        b'{"op":"purge","kind":"memory","namespace":"feedback_positive","user_id":1730,"category":"work"}',
    ),
    "patch": (
        Patch(user_id=1730, kind="document", file_id=9, set={"group_key": "WORK"}, unset=["note"], ref="r"),
        b"\x87\xa2op\xa5patch\xa4kind\xa8document\xa7user_id\xcd\x06\xc2\xa7file_id\x09"
        b"\xa3set\x81\xa9group_key\xa4WORK\xa5unset\x91\xa4note\xa3ref\xa1r",
        b'{"op":"patch","kind":"document","user_id":1730,"file_id":9,"set":{"group_key":"WORK"},"unset":["note"],'
        b'"ref":"r"}',
    ),
    "prune": (
        Prune(user_id=1730, file_id=9, version=5, notify=True),
        b"\x85\xa2op\xa5prune\xa7user_id\xcd\x06\xc2\xa7file_id\x09\xa7version\x05\xa6notify\xc3",
        b'{"op":"prune","user_id":1730,"file_id":9,"version":5,"notify":true}',
    ),
    "search": (
        Search(user_id=1730, vector=PACKED, limit=3, min_score=0.5, category="personal", timeout_ms=250),
        b"\xde\x00\x07\xa2op\xa6search\xa7user_id\xcd\x06\xc2\xa6vector\xc4\x08\x00\x00\x80?\x00\x00\x00@\xa5limit\x03"
        b"\xa9min_score\xcb?\xe0\x00\x00\x00\x00\x00\x00\xa8category\xa8personal\xaatimeout_ms\xcc\xfa",
        b'{"op":"search","user_id":1730,"vector":"AACAPwAAAEA=","limit":3,"min_score":0.5,"category":"personal",'
        b'"timeout_ms":250}',
    ),
    "get": (
        Get(user_id=1730, point_ids=["mem_1730_1"]),
        b"\x83\xa2op\xa3get\xa7user_id\xcd\x06\xc2\xa9point_ids\x91\xaamem_1730_1",
        b'{"op":"get","user_id":1730,"point_ids":["mem_1730_1"]}',
    ),
    "info": (Info(), b"\x81\xa2op\xa4info", b'{"op":"info"}'),
}
WRITES = ("upsert", "delete", "purge", "patch", "prune")
golden = pytest.mark.parametrize("op", GOLDEN)


@golden
def test_the_wire_form_is_fixed(op: str) -> None:
    job, as_msgpack, as_json = GOLDEN[op]
    assert encode_job(job) == as_msgpack
    assert msgspec.json.encode(job) == as_json


@golden
def test_both_wire_forms_are_decoded(op: str) -> None:
    job, as_msgpack, as_json = GOLDEN[op]
    if op in WRITES:
        assert decode_write(as_msgpack) == decode_write(as_json) == job
    else:
        assert convert_read(msgspec.msgpack.decode(as_msgpack), type(job)) == job
        assert convert_read(json.loads(as_json), type(job)) == job


@pytest.mark.parametrize("space", [b"", b" ", b"\n\t", b"\r\n"], ids=["none", "space", "newline-tab", "crlf"])
def test_json_may_begin_with_white_space(space: bytes) -> None:
    assert decode_write(space + GOLDEN["delete"][2]) == GOLDEN["delete"][0]


def test_a_vector_is_accepted_in_every_form_of_each_wire_form() -> None:
    for vector in (PACKED, [1.0, 2.0], [1, 2]):
        assert take({**UPSERT, "vector": vector}).vector == PACKED
    for vector in (base64.b64encode(PACKED).decode(), [1.0, 2.0], [1, 2]):
        body = json.dumps({**UPSERT, "vector": vector}).encode()
        assert checked(decode_write(body), LIMITS).vector == PACKED


def test_the_payload_of_a_checked_upsert_is_complete() -> None:
    assert take({**UPSERT, "payload": {"category": "work", "mine": [1, {"x": None}]}}).payload == {
        "active": True,
        "category": "work",
        "mine": [1, {"x": None}],
        "user_id": 1730,
        "_point_id": "mem_1730_1",
    }
    assert take({**UPSERT, "payload": {"active": False}}).payload["active"] is False
    assert take({**UPSERT, "payload": {"active": None}}).payload["active"] is True  # else no search would find it
    assert take(DOCUMENT).payload == {"user_id": 1730, "_point_id": "doc_1730_9_0"}


def test_the_user_id_in_the_payload_becomes_an_integer() -> None:
    job = take({**UPSERT, "user_id": 1, "point_id": "mem_1_a", "payload": {"user_id": True}})
    assert type(job.payload["user_id"]) is int


# Refused jobs, and the field that the error names.

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no op": ({"user_id": 1}, "op", "missing required field `op`"),
    "unknown op": ({"op": "drop"}, "op", "invalid value 'drop'"),
    "read op": ({"op": "search"}, "op", "invalid value 'search'"),
    "no user": ({"op": "purge"}, "user_id", "missing required field `user_id`"),
    "no point_id": ({k: v for k, v in UPSERT.items() if k != "point_id"}, "point_id", "missing required field"),
    "no vector": ({k: v for k, v in UPSERT.items() if k != "vector"}, "vector", "missing required field"),
    "no point_ids": ({"op": "delete", "user_id": 1}, "point_ids", "missing required field"),
    "unknown field": ({**PURGE, "colour": 1}, "colour", "unknown field `colour`"),
    "unknown odd field": ({**PURGE, "a-b c": 1}, "a-b c", "unknown field `a-b c`"),
    "field not a string": ({**PURGE, 1: 1}, "job", "a field name: expected text, got an integer"),
    "user text": ({**PURGE, "user_id": "1730"}, "user_id", "no kind has text user ids"),
    "user float": ({**PURGE, "user_id": 1.5}, "user_id", "expected an integer or text"),
    "user bool": ({**PURGE, "user_id": True}, "user_id", "expected an integer or text, got a boolean"),
    "user null": ({**PURGE, "user_id": None}, "user_id", "expected an integer or text"),
    "user zero": ({**PURGE, "user_id": 0}, "user_id", ">= 1"),
    "user huge": ({**PURGE, "user_id": 2**63}, "user_id", "<= 9223372036854775807"),
    "kind unknown": ({**UPSERT, "kind": "image"}, "kind", "'image' is none of memory, document"),
    "kind null": ({**UPSERT, "kind": None}, "kind", "expected text, got null"),
    "point_id int": ({**UPSERT, "point_id": 1}, "point_id", "expected text, got an integer"),
    "point_id of another": ({**UPSERT, "point_id": "mem_1731_1"}, "point_id", "must start with 'mem_1730_'"),
    "point_id of a longer user": ({**UPSERT, "point_id": "mem_17301_1"}, "point_id", "must start with 'mem_1730_'"),
    "point_id other kind": ({**UPSERT, "point_id": "doc_1730_1"}, "point_id", "must start with 'mem_1730_'"),
    "point_id no tail": ({**UPSERT, "point_id": "mem_1730_"}, "point_id", "1 to 200 characters"),
    "point_id long": ({**UPSERT, "point_id": "mem_1730_" + "x" * 201}, "point_id", "1 to 200 characters"),
    "point_id space": ({**UPSERT, "point_id": "mem_1730_a b"}, "point_id", "A-Z a-z 0-9 _ . : -"),
    "point_id newline": ({**UPSERT, "point_id": "mem_1730_a\n"}, "point_id", "A-Z a-z 0-9 _ . : -"),
    "point_id digits of another script": ({**UPSERT, "point_id": "mem_1730_٣"}, "point_id", "0-9"),
    "delete of another": ({**DELETE, "point_ids": ["mem_1730_1", "mem_1_1"]}, "point_ids[1]", "does not belong"),
    "delete nothing": ({**DELETE, "point_ids": []}, "point_ids", "must not be empty"),
    "delete many": ({**DELETE, "point_ids": ["mem_1730_1"] * (MAX_POINT_IDS + 1)}, "point_ids", "at most 1,000"),
    "delete one id": ({**DELETE, "point_ids": "mem_1730_1"}, "point_ids", "expected a list, got text"),
    "delete ints": ({**DELETE, "point_ids": [1]}, "point_ids[0]", "expected text"),
    "namespace capitals": ({**UPSERT, "namespace": "Feedback"}, "namespace", "1 to 64 characters a-z 0-9 _ -"),
    "namespace empty": ({**UPSERT, "namespace": ""}, "namespace", "1 to 64 characters"),
    "namespace long": ({**UPSERT, "namespace": "x" * 65}, "namespace", "1 to 64 characters"),
    "namespace path": ({**UPSERT, "namespace": "../x"}, "namespace", "1 to 64 characters"),
    "namespace newline": ({**UPSERT, "namespace": "x\n"}, "namespace", "1 to 64 characters"),
    "namespace of documents": ({**DOCUMENT, "namespace": "x"}, "namespace", "kind 'document' has no namespaces"),
    "vector text": ({**UPSERT, "vector": "AACAPwAAAEA="}, "vector", "got text"),
    "vector map": ({**UPSERT, "vector": {"0": 1}}, "vector", "got a map"),
    "vector null": ({**UPSERT, "vector": None}, "vector", "expected bytes or a list"),
    "vector of text": ({**UPSERT, "vector": [1.0, "2"]}, "vector[1]", "expected a float, got text"),
    "vector short": ({**UPSERT, "vector": PACKED[:4]}, "vector", "expected 2 dimensions (8 bytes), got 1 (4 bytes)"),
    "vector torn": ({**UPSERT, "vector": PACKED[:7]}, "vector", "got 1.75 (7 bytes)"),
    "vector long": ({**UPSERT, "vector": [1.0] * 3}, "vector", "got 3 (12 bytes)"),
    "vector empty": ({**UPSERT, "vector": b""}, "vector", "got 0 (0 bytes)"),
    "vector NaN": ({**UPSERT, "vector": [0.0, math.nan]}, "vector[1]", "must be a finite number"),
    "vector infinite": ({**UPSERT, "vector": struct.pack("<2f", -math.inf, 0)}, "vector[0]", "must be a finite number"),
    "vector too large for float32": ({**UPSERT, "vector": [0.0, 1e39]}, "vector[1]", "within the range of float32"),
    "vector of zeros": ({**UPSERT, "vector": [0.0, -0.0]}, "vector", "all numbers are zero"),
    "vector too long for its norm": ({**UPSERT, "vector": [3e38, 3e38]}, "vector", "from 0.000488 to 9.22e+18"),
    "vector too short for its norm": ({**UPSERT, "vector": [1e-30, 0.0]}, "vector", "got 1e-30"),
    "payload list": ({**UPSERT, "payload": []}, "payload", "expected a map, got a list"),
    "payload null": ({**UPSERT, "payload": None}, "payload", "expected a map"),
    "payload key int": ({**UPSERT, "payload": {1: 1}}, "payload", "a field name: expected text, got an integer"),
    "payload key empty": ({**UPSERT, "payload": {"": 1}}, "payload", "1 to 256 characters"),
    "payload key long": ({**UPSERT, "payload": {"k" * 257: 1}}, "payload", "1 to 256 characters"),
    "payload nested key int": ({**UPSERT, "payload": {"a": {"b": {7: 1}}}}, "payload.a.b", "must be a string"),
    "payload nested key null": ({**UPSERT, "payload": {"a": [{None: 1}]}}, "payload.a[0]", "must be a string"),
    "payload nested key long": ({**UPSERT, "payload": {"a": {"k" * 257: 1}}}, "payload.a", "1 to 256 characters"),
    "payload many fields": (
        {**UPSERT, "payload": {str(i): i for i in range(MAX_PAYLOAD_FIELDS + 1)}},
        "payload",
        "at most 256 fields are allowed, got 257",
    ),
    "payload deep": ({**UPSERT, "payload": {"a": nested(MAX_PAYLOAD_DEPTH)}}, "payload.a" + "[0]" * 15, "16 levels"),
    "payload bytes": ({**UPSERT, "payload": {"a": [b"x"]}}, "payload.a[0]", "type bytes cannot be stored"),
    "payload time": ({**UPSERT, "payload": {"a": datetime(2026, 1, 1, tzinfo=UTC)}}, "payload.a", "datetime cannot"),
    "payload ext": ({**UPSERT, "payload": {"a": msgspec.msgpack.Ext(5, b"")}}, "payload.a", "Ext cannot be stored"),
    "payload int": ({**UPSERT, "payload": {"a": {"b": 2**63}}}, "payload.a.b", "must fit 64 bits"),
    "payload NaN": ({**UPSERT, "payload": {"a": [math.nan]}}, "payload.a[0]", "must be finite"),
    "payload infinite": ({**UPSERT, "payload": {"a": math.inf}}, "payload.a", "must be finite"),
    "payload category": ({**UPSERT, "payload": {"category": 1}}, "payload.category", "expected text, got an integer"),
    "payload active": ({**UPSERT, "payload": {"active": 1}}, "payload.active", "expected a boolean, got an integer"),
    "payload created": ({**UPSERT, "payload": {"created": True}}, "payload.created", "an integer, got a boolean"),
    "payload file_id": ({**DOCUMENT, "payload": {"file_id": "9"}}, "payload.file_id", "expected an integer, got text"),
    "payload of another user": ({**UPSERT, "payload": {"user_id": 1}}, "payload.user_id", "differs from the job"),
    "payload of another point": ({**UPSERT, "payload": {"_point_id": "mem_1730_2"}}, "payload._point_id", "differs"),
    "payload of no user": ({**UPSERT, "payload": {"user_id": None}}, "payload.user_id", "differs from the job's 1730"),
    "purge category of both": ({**PURGE, "category": "work"}, "category", "needs a kind"),
    "purge category of documents": (
        {**PURGE, "kind": "document", "category": "work"},
        "category",
        "needs another kind than 'document'",
    ),
    "purge group of memories": ({**PURGE, "kind": "memory", "group_key": "g"}, "group_key", "needs another kind"),
    "purge file of both": ({**PURGE, "file_id": 1}, "file_id", "needs a kind"),
    "purge file huge": ({**PURGE, "kind": "document", "file_id": 2**63}, "file_id", "<= 9223372036854775807"),
    "purge kind null": ({**PURGE, "kind": None}, "kind", "must not be null: leave it out to delete more"),
    "purge namespace of both": ({**PURGE, "namespace": "x"}, "namespace", "needs a kind"),
    "purge namespace of documents": ({**PURGE, "kind": "document", "namespace": "x"}, "namespace", "no namespaces"),
    "purge all namespaces": ({**PURGE, "kind": "memory", "namespace": "*"}, "namespace", "'*': 1 to 64 characters a-z"),
    "purge before text": ({**PURGE, "before": "1"}, "before", "expected an integer, got text"),
    "purge before zero": ({**PURGE, "before": 0}, "before", ">= 1"),
    "purge before the end": ({**PURGE, "before": 2**53 + 1}, "before", "<= 9007199254740992"),
    "purge before null": ({**PURGE, "before": None}, "before", "must not be null: leave it out"),
    "purge model text": ({**PURGE, "other_than_model": "42"}, "other_than_model", "expected an integer, got text"),
    "purge model huge": ({**PURGE, "other_than_model": 2**63}, "other_than_model", "<= 9223372036854775807"),
    "purge model null": ({**PURGE, "other_than_model": None}, "other_than_model", "must not be null: leave it out"),
    "upsert all namespaces": ({**UPSERT, "namespace": "*"}, "namespace", "'*': 1 to 64 characters a-z 0-9 _ -"),
    "delete all namespaces of documents": (
        {**DELETE, "kind": "document", "point_ids": ["doc_1730_1"], "namespace": "*"},
        "namespace",
        "kind 'document' has no namespaces",
    ),
    "delete two namespaces": ({**DELETE, "namespace": "**"}, "namespace", "1 to 64 characters"),
    "patch no target": ({**PATCH, "point_ids": msgspec.UNSET}, "point_ids", "give exactly one of point_ids, category"),
    "patch two targets": ({**PATCH, "category": "a"}, "category", "exactly one of point_ids, category, group_key"),
    "patch two fields": ({**MOVE, "group_key": "a"}, "file_id", "got group_key and file_id"),
    "patch ids null": ({**PATCH, "point_ids": None}, "point_ids", "expected a list, got null"),
    "patch category null": (
        {**PATCH, "point_ids": msgspec.UNSET, "category": None}, "category", "must not be null: leave it out"
    ),
    "patch no ids": ({**PATCH, "point_ids": []}, "point_ids", "must not be empty"),
    "patch many ids": ({**PATCH, "point_ids": ["mem_1730_1"] * 1001}, "point_ids", "at most 1,000 are allowed"),
    "patch of another": ({**PATCH, "point_ids": ["mem_1730_1", "mem_1_1"]}, "point_ids[1]", "does not belong"),
    "patch group of memories": (
        {**PATCH, "point_ids": msgspec.UNSET, "group_key": "g"}, "group_key", "needs another kind than 'memory'"
    ),
    "patch category of documents": (
        {**MOVE, "file_id": msgspec.UNSET, "category": "c"}, "category", "needs another kind than 'document'"
    ),
    "patch all namespaces by category": (
        {**PATCH, "point_ids": msgspec.UNSET, "category": "a", "namespace": "*"}, "namespace", "'*': 1 to 64 characters"
    ),
    "patch all namespaces of documents": (
        {**MOVE, "file_id": msgspec.UNSET, "point_ids": ["doc_1730_1"], "namespace": "*"}, "namespace", "no namespaces"
    ),
    "patch nothing": ({**PATCH, "set": {}}, "set", "give at least one field in set or unset"),
    "patch nothing at all": ({**PATCH, "set": msgspec.UNSET}, "set", "give at least one field"),
    "patch many fields": ({**PATCH, "set": {f"f{n}": n for n in range(65)}}, "set", "at most 64 fields are allowed"),
    "patch unset many": ({**PATCH, "unset": [f"f{n}" for n in range(65)]}, "unset", "at most 64 are allowed"),
    "patch set list": ({**PATCH, "set": ["category"]}, "set", "expected a map, got a list"),
    "patch set null": ({**PATCH, "set": None}, "set", "expected a map"),
    "patch set to null": ({**PATCH, "set": {"category": None}}, "set.category", "name the field in unset"),
    "patch set type": ({**PATCH, "set": {"category": 1}}, "set.category", "expected text, got an integer"),
    "patch set file text": ({**MOVE, "set": {"file_id": "9"}}, "set.file_id", "expected an integer, got text"),
    "patch set name empty": ({**PATCH, "set": {"": 1}}, "set", "1 to 256 characters"),
    "patch set name long": ({**PATCH, "set": {"k" * 257: 1}}, "set", "1 to 256 characters"),
    "patch set NaN": ({**PATCH, "set": {"a": [math.nan]}}, "set.a[0]", "must be finite"),
    "patch set huge": ({**PATCH, "set": {"a": 2**63}}, "set.a", "must fit 64 bits"),
    "patch set deep": ({**PATCH, "set": {"a": nested(MAX_PAYLOAD_DEPTH)}}, "set.a" + "[0]" * 15, "16 levels"),
    "patch unset text": ({**PATCH, "unset": "key"}, "unset", "expected a list, got text"),
    "patch unset int": ({**PATCH, "unset": [1]}, "unset[0]", "expected text"),
    "patch unset path": ({**PATCH, "unset": ["key", "a.b"]}, "unset[1]", "1 to 256 characters A-Z a-z 0-9 _ -"),
    "patch unset part": ({**PATCH, "unset": ["a[0]"]}, "unset[0]", "1 to 256 characters A-Z a-z 0-9 _ -"),
    "patch unset empty": ({**PATCH, "unset": [""]}, "unset[0]", "1 to 256 characters"),
    "patch unset long": ({**PATCH, "unset": ["k" * 257]}, "unset[0]", "1 to 256 characters"),
    "patch unset default": ({**PATCH, "unset": ["active"]}, "unset[0]", "'active' has a default in kind 'memory'"),
    "patch both": ({**PATCH, "unset": ["category"]}, "unset[0]", "'category' is in set, too"),
    **{
        f"patch set {name}": ({**MOVE, "set": {name: 1730}}, f"set.{name}", "a patch cannot change this field")
        for name in ("user_id", "_point_id", "_tenant", "_version")
    },
    **{
        f"patch unset {name}": ({**MOVE, "unset": [name]}, "unset[0]", f"a patch cannot remove '{name}'")
        for name in ("user_id", "_point_id", "_tenant", "_version")
    },
    "patch vector": ({**PATCH, "vector": PACKED}, "vector", "unknown field `vector`"),
    "prune no file": ({**PRUNE, "file_id": msgspec.UNSET}, "file_id", "missing required field `file_id`"),
    "prune file null": ({**PRUNE, "file_id": None}, "file_id", "expected an integer, got null"),
    "prune kind null": ({**PRUNE, "kind": None}, "kind", "expected text, got null"),
    "null of no op": ({"op": 1, "user_id": 1, "kind": None}, "op", "expected text, got an integer"),
    "prune file text": ({**PRUNE, "file_id": "9"}, "file_id", "expected an integer, got text"),
    "prune no version": ({**PRUNE, "version": msgspec.UNSET}, "version", "missing required field `version`"),
    "prune version zero": ({**PRUNE, "version": 0}, "version", ">= 1"),
    "prune version huge": ({**PRUNE, "version": 2**53 + 1}, "version", "<= 9007199254740992"),
    "prune version float": ({**PRUNE, "version": 1.5}, "version", "expected an integer, got a float"),
    "prune memories": ({**PRUNE, "kind": "memory"}, "file_id", "needs another kind than 'memory'"),
    "prune namespace": ({**PRUNE, "namespace": "x"}, "namespace", "kind 'document' has no namespaces"),
    "prune another user": ({**PRUNE, "user_id": "ann"}, "user_id", "kind 'document' has integer user ids, got 'ann'"),
    **{
        f"ref of {job['op']}: {problem}": ({**job, "ref": ref}, "ref", problem)
        for job in (UPSERT, DELETE, PURGE, PATCH, PRUNE)
        for ref, problem in (("", "must not be empty"), ("r" * 129, "at most 128 characters"), (1, "got an integer"))
    },
    "notify": ({**PURGE, "notify": 1}, "notify", "expected a boolean, got an integer"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "field", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field_and_the_limit(document: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        take(document)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert str(caught.value) == f"{field}: {caught.value.problem}"


@pytest.mark.parametrize(
    "name", ["kind", "namespace", "category", "group_key", "file_id", "before", "other_than_model"]
)
def test_an_explicit_null_is_refused_in_every_wire_form(name: str) -> None:
    purge = {"op": "purge", "user_id": 1, name: None}
    for body in (json.dumps(purge).encode(), msgspec.msgpack.encode(purge)):
        with pytest.raises(InvalidJob, match=f"{name}: must not be null: leave it out to delete more"):
            decode_write(body)
    if name in NARROWING:
        search = {"op": "search", "user_id": 1, "vector": "AACAPwAAAEA=", name: None}
        for document in (search, msgspec.json.decode(msgspec.json.encode(search))):
            with pytest.raises(InvalidJob, match=f"{name}: must not be null: leave it out to find more"):
                convert_read(document, Search)


def test_a_field_that_is_left_out_does_not_narrow_and_is_not_encoded() -> None:
    purge = Purge(user_id=1)
    assert (purge.only_kind, purge.only_namespace, purge.narrowing, purge.is_narrowed) == (None, None, (), False)
    assert msgspec.msgpack.decode(pushed(purge, LIMITS)) == {"op": "purge", "user_id": 1}
    narrow = Purge(user_id=1, kind="document", group_key="g", file_id=0)
    assert (narrow.only_kind, narrow.narrowing) == ("document", (Condition("group_key", "g"), Condition("file_id", 0)))
    assert Search(user_id=1, vector=PACKED, category="").narrowing == (Condition("category", ""),)


def test_the_schema_allows_no_null_where_the_contract_does_not() -> None:
    definitions = json_schema()["$defs"]
    for of, names in (("Purge", ("kind", "namespace", *NARROWING)), ("Search", NARROWING)):
        for name in names:
            described = definitions[of]["properties"][name]
            assert described.get("type") in ("string", "integer") or described["enum"] == ["document", "memory"]
    assert {"type": "null"} in definitions["Upsert"]["properties"]["namespace"]["anyOf"]


ALLOWED: dict[str, dict[str, Any]] = {
    "largest user": {**PURGE, "user_id": 2**63 - 1},
    "longest point_id": {**UPSERT, "point_id": "mem_1730_" + "x" * 200},
    "all characters of point_id": {**UPSERT, "point_id": "mem_1730_aZ09_.:-"},
    "most point_ids": {**DELETE, "point_ids": ["mem_1730_1"] * MAX_POINT_IDS},
    "longest namespace": {**UPSERT, "namespace": "a0_-" * 16},
    "deepest payload": {**UPSERT, "payload": {"a": nested(MAX_PAYLOAD_DEPTH - 1)}},
    "most fields": {**UPSERT, "payload": {str(i): i for i in range(MAX_PAYLOAD_FIELDS)}},
    "longest key": {**UPSERT, "payload": {"k" * MAX_KEY_CHARACTERS: {"k" * MAX_KEY_CHARACTERS: 1}}},
    "ends of int64": {**UPSERT, "payload": {"a": [-(2**63), 2**63 - 1]}},
    "null fields": {**UPSERT, "payload": {"category": None, "message_id": None}},
    "largest norm": {**UPSERT, "vector": struct.pack("<2f", 2.0**63, 0)},
    "smallest norm": {**UPSERT, "vector": struct.pack("<2f", 1e-45, -(2.0**-11))},
    "namespace null": {**UPSERT, "namespace": None},
    "purge of both": PURGE,
    "purge of a category": {**PURGE, "kind": "memory", "category": ""},
    "purge of a namespace": {**PURGE, "kind": "memory", "namespace": "feedback_positive", "category": "c"},
    "purge of a file": {**PURGE, "kind": "document", "group_key": "g", "file_id": 2**63 - 1},
    "purge of old points of both": {**PURGE, "before": 2**53, "other_than_model": -(2**63)},
    "delete in all namespaces": {**DELETE, "namespace": "*"},
    "patch in all namespaces": {**PATCH, "namespace": "*"},
    "patch in one": {**PATCH, "namespace": "feedback_positive"},
    "patch of a category": {**PATCH, "point_ids": msgspec.UNSET, "category": ""},
    "patch of a group": {**MOVE, "file_id": msgspec.UNSET, "group_key": "g", "unset": ["group_key"], "set": {}},
    "most ids of a patch": {**PATCH, "point_ids": ["mem_1730_1"] * MAX_POINT_IDS},
    "most fields of a patch": {
        **PATCH,
        "set": {f"f{n}": n for n in range(64)},
        "unset": [f"g{n}" for n in range(63)] + ["k" * 256],
    },
    "any name in set": {**PATCH, "set": {"a.b[0] é": {"c": [None, 1.5]}}},
    "patch of a default": {**PATCH, "set": {"active": False}},
    "ends of a prune": {**PRUNE, "file_id": -(2**63), "version": 2**53},
    "longest ref": {**PRUNE, "ref": "r" * 128, "notify": True},
}


@pytest.mark.parametrize("document", ALLOWED.values(), ids=ALLOWED)
def test_a_value_at_the_limit_is_allowed(document: dict[str, Any]) -> None:
    assert take(document).user_id == document["user_id"]


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" \n",
    "torn msgpack": GOLDEN["upsert"][1][:-1],
    "torn json": GOLDEN["upsert"][2][:-1],
    "msgpack and more": GOLDEN["purge"][1] + b"\x00",
    "json and more": GOLDEN["purge"][2] + b"{}",
    "a list of 4 G": b"\xdd\xff\xff\xff\xff",
    "a map of 4 G": b"\xdf\xff\xff\xff\xff",
    "a vector of 4 G": b"\x82\xa2op\xa6upsert\xa6vector\xdd\xff\xff\xff\xff",
    "bytes of 4 G": b"\x82\xa2op\xa6upsert\xa6vector\xc6\xff\xff\xff\xff",
    "deep msgpack": b"\x82\xa2op\xa6upsert\xa7payload\x81\xa1a" + b"\x91" * 200_000,
    "deep json": b'{"op":"upsert","payload":{"a":' + b"[" * 200_000,
    "a number of 5,000 digits": b'{"op":"purge","user_id":' + b"1" * 5000 + b"}",
    "a field of 5,000 digits": b'{"op":"upsert","user_id":1,"payload":{"a":' + b"1" * 5000 + b"}}",
    "a number beyond floats": b'{"op":"upsert","user_id":1,"payload":{"a":1e999}}',
    "base64 that is none": b'{"op":"upsert","vector":"!!!"}',
    "a lone surrogate in json": b'{"op":"purge","user_id":1,"kind":"memory","category":"\\ud800"}',
    "a lone surrogate as a key": b'{"op":"upsert","user_id":1,"payload":{"\\ud800":1}}',
    "a raw surrogate in json": b'{"op":"purge","user_id":1,"kind":"memory","category":"\xed\xa0\x80"}',
    "a raw surrogate in msgpack": b"\x82\xa2op\xa5purge\xa8category\xa3\xed\xa0\x80",
    "bad utf-8 as a field": b"\x82\xa2op\xa5purge\xa1\xff\x01",
    "a map as a key": b"\x82\xa2op\xa6upsert\xa7payload\x81\xa1a\x81\x80\x01",
    "an impossible time": b"\x82\xa2op\xa6upsert\xa7payload\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a byte order mark": b"\xef\xbb\xbf" + GOLDEN["purge"][2],
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_bytes_are_an_invalid_job(body: bytes) -> None:
    with pytest.raises(InvalidJob):
        decode_write(body)


SECRET = "zebra in the bathtub " * 100
QUOTED: list[tuple[Any, str]] = [
    (SECRET, "created user_id _point_id active"),
    ([SECRET], "value category created user_id _point_id active"),
    ({SECRET: {SECRET: msgspec.msgpack.Ext(1, SECRET.encode())}}, "value category created user_id _point_id active x"),
]


@pytest.mark.parametrize(("value", "fields"), QUOTED, ids=["text", "list", "map"])
def test_a_refusal_does_not_quote_the_payload(value: Any, fields: str) -> None:
    for field in fields.split():
        with pytest.raises(InvalidJob) as caught:
            take({**UPSERT, "payload": {field: value}})
        assert "zebra" not in str(caught.value)
        assert len(str(caught.value)) < 200


def test_a_job_of_the_largest_size_is_allowed() -> None:
    check_size(LIMITS.max_job_bytes, LIMITS)
    with pytest.raises(InvalidJob, match=r"job: at most 10,000 bytes are allowed, got 10,001"):
        check_size(LIMITS.max_job_bytes + 1, LIMITS)


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


UNSTORABLE: dict[str, tuple[Any, str, str]] = {
    "an object": (object(), "payload.a", "type object cannot be stored"),
    "an object inside": ({"b": [0, {"c": object()}]}, "payload.a.b[1].c", "type object cannot be stored"),
    "bytes": ([b"x"], "payload.a[0]", "type bytes cannot be stored"),
    "a huge int": ([0, 2**64], "payload.a[1]", "must fit 64 bits"),
    "a lone surrogate": (["ok", "\ud800"], "payload.a[1]", "half of a surrogate pair"),
    "a lone surrogate as a key": ({"b": {"\ud800": 1}}, "payload.a.b", "half of a surrogate pair"),
    "a cycle": (looped(), "payload", "at most 4,096 values"),
    "deep": (nested(MAX_PAYLOAD_DEPTH), "payload.a" + "[0]" * 15, "at most 16 levels"),
    "a complex number": (1j, "payload.a", "type complex cannot be stored"),
    "NaN": ((1.0, math.nan), "payload.a[1]", "must be finite"),
    "a number of NumPy": (
        [np.float64(1)],
        "payload.a[0]",
        "type numpy.float64 cannot be stored: make it text, a number",
    ),
    "an array of NumPy": (np.ones(2), "payload.a", "type numpy.ndarray cannot be stored"),
    "text of NumPy": (np.str_("x"), "payload.a", "type numpy.str_ cannot be stored"),
    "a time span": (timedelta(1), "payload.a", "type datetime.timedelta cannot be stored"),
    "a generator": ((n for n in [1]), "payload.a", "type generator cannot be stored"),
    "a struct": (Info(), "payload.a", "Info cannot be stored"),
    "a name that may be data": ({"Ключ-1": {"x@y.z": {"a b": [1j]}}}, "payload.a.Ключ-1.?.?[0]", "type complex"),
    "a set with an object": ({1j}, "payload.a[0]", "type complex cannot be stored"),
    "a key of 5,000 digits": ({10**5000: 1}, "payload.a", "got an integer"),
    "a number of 5,000 digits": ([10**5000], "payload.a[0]", "must fit 64 bits"),
    "a key of NumPy": ({np.str_("k"): 1}, "payload.a", "a field name must be a string"),
}


@pytest.mark.parametrize(("value", "field", "problem"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_value_that_cannot_be_stored_is_refused_by_its_path(value: Any, field: str, problem: str) -> None:
    job = Upsert(user_id=1730, point_id="mem_1730_1", vector=PACKED, payload={"ok": "", "a": value})
    with pytest.raises(InvalidJob) as caught:
        pushed(job, LIMITS)
    assert caught.value.field == field
    assert problem in caught.value.problem


class Mood(StrEnum):
    GOOD = "good"


class Level(IntEnum):
    HIGH = 3


STORED: dict[str, tuple[Any, Any]] = {
    "a time with a zone": (datetime(2026, 5, 1, 12, tzinfo=UTC), "2026-05-01T12:00:00+00:00"),
    "a time without": (datetime(2026, 5, 1, 12), "2026-05-01T12:00:00"),
    "a day": (date(2026, 5, 1), "2026-05-01"),
    "a time of day": (time(12, 30), "12:30:00"),
    "a UUID": (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "a decimal": (Decimal("1.10"), "1.10"),
    "enums": ([Mood.GOOD, Level.HIGH], ["good", 3]),
    "an enum as a key": ({Mood.GOOD: 1}, {"good": 1}),
    "a set": ({"x"}, ["x"]),
    "a tuple": (("x", (1,)), ["x", [1]]),
    "other maps": (MappingProxyType({"x": OrderedDict(y=1)}), {"x": {"y": 1}}),
    "text of all planes": ("a\x00 ü 👩‍👩‍👧 \U0010ffff", "a\x00 ü 👩‍👩‍👧 \U0010ffff"),
}


@pytest.mark.parametrize(("value", "stored"), STORED.values(), ids=STORED)
def test_a_value_of_python_is_stored_in_a_form_that_all_languages_have(value: Any, stored: Any) -> None:
    for payload in ({"a": value}, MappingProxyType({"a": [value]})):
        job = Upsert(user_id=1730, point_id="mem_1730_1", vector=PACKED, payload=payload)  # type: ignore[arg-type]
        body = pushed(job, LIMITS)
        assert msgspec.msgpack.decode(body)["payload"]["a"] == (stored if isinstance(payload, dict) else [stored])
        checked(decode_write(body), LIMITS)


def test_a_typed_field_accepts_values_that_become_its_type() -> None:
    payload = {"category": Mood.GOOD, "created": Level.HIGH, "indexed_at": datetime(2026, 5, 1, tzinfo=UTC)}
    job = decode_write(pushed(Upsert(user_id=1, point_id="mem_1_1", vector=PACKED, payload=payload), LIMITS))
    assert isinstance(job, Upsert)
    assert job.payload == {"category": "good", "created": 3, "indexed_at": "2026-05-01T00:00:00+00:00"}


TYPES: dict[Any, type[Any]] = {"upsert": Upsert, "delete": Delete, "purge": Purge}


def in_python(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments that make this job in Python, or ``None`` if Python cannot make it."""
    of = TYPES.get(document.get("op"))
    arguments = {name: value for name, value in document.items() if name != "op"}
    required = {field.name for field in msgspec.structs.fields(of) if field.required} if of else set()
    return arguments if of and required <= arguments.keys() <= set(of.__struct_fields__) else None


PYTHON_ONLY = {"payload time"}  # MessagePack's own time is refused; Python's becomes text
PUSHED = {
    name: document
    for name, (document, _, _) in REFUSED.items()
    if in_python(document) is not None and name not in PYTHON_ONLY
}


@pytest.mark.parametrize("document", PUSHED.values(), ids=PUSHED)
def test_a_push_refuses_what_a_worker_refuses(document: dict[str, Any]) -> None:
    job = TYPES[document["op"]](**in_python(document) or {})
    with pytest.raises(InvalidJob):
        pushed(job, LIMITS)


def test_a_push_refuses_a_job_that_is_too_large() -> None:
    job = Upsert(user_id=1730, point_id="mem_1730_1", vector=PACKED, payload={"text": "x" * 10_000})
    with pytest.raises(InvalidJob, match="at most 10,000 bytes"):
        pushed(job, LIMITS)


REFUSED_READS: dict[str, tuple[type[Any], Any, str]] = {
    "not a map": (Search, 5, "job"),
    "of another op": (Search, {"op": "get", "user_id": 1, "vector": PACKED}, "op"),
    "no user": (Get, {"point_ids": ["mem_1_1"]}, "user_id"),
    "another user's point": (Get, {"user_id": 1, "point_ids": ["mem_1_1", "mem_2_1"]}, "point_ids[1]"),
    "limit zero": (Search, {"user_id": 1, "vector": PACKED, "limit": 0}, "limit"),
    "limit large": (Search, {"user_id": 1, "vector": PACKED, "limit": 201}, "limit"),
    "score large": (Search, {"user_id": 1, "vector": PACKED, "min_score": 1.1}, "min_score"),
    "score NaN": (Search, {"user_id": 1, "vector": PACKED, "min_score": math.nan}, "min_score"),
    "file huge": (Search, {"user_id": 1, "vector": PACKED, "kind": "document", "file_id": 2**63}, "file_id"),
    "category of files": (Search, {"user_id": 1, "vector": PACKED, "kind": "document", "category": "c"}, "category"),
    "group of memories": (Search, {"user_id": 1, "vector": PACKED, "group_key": "g"}, "group_key"),
    "vector short": (Search, {"user_id": 1, "vector": [1]}, "vector"),
    "namespace": (Search, {"user_id": 1, "vector": PACKED, "namespace": "A"}, "namespace"),
    "time zero": (Info, {"timeout_ms": 0}, "timeout_ms"),
    "time long": (Info, {"timeout_ms": 60_001}, "timeout_ms"),
    "unknown field": (Info, {"verbose": True}, "verbose"),
    "no user of a search": (SearchMany, {"searches": [{}]}, "searches[0].user_id"),
    "unknown field of a search": (SearchMany, {"searches": [{"user_id": 1, "colour": 1}]}, "searches[0].colour"),
    "condition": (Search, {"user_id": 1, "where": {"key": "k", "created": {"any": []}}}, "where.created.any"),
    "test": (Search, {"user_id": 1, "where": {"created": {"gt": 1}}}, "where.created.gt"),
    "test of a search": (
        SearchMany,
        {"searches": [{"user_id": 1}, {"user_id": 1, "where": {"a-b c": {"lte": "5"}}}]},
        "searches[1].where.a-b c.lte",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("of", "document", "field"), REFUSED_READS.values(), ids=REFUSED_READS)
def test_a_wrong_read_is_refused_by_its_field(of: type[Any], document: Any, field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        checked(convert_read(document, of), LIMITS)
    assert caught.value.field == field


def test_a_read_made_in_python_is_checked_and_packed() -> None:
    assert called(Search(user_id=1, vector=(1, 2)), LIMITS).vector == PACKED  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="limit"):
        called(Search(user_id=1, vector=PACKED, limit=1000), LIMITS)


# NumPy numbers and enums in the fields of jobs made in Python.


def test_numpy_scalars_and_enums_are_accepted() -> None:
    upsert = Upsert(user_id=np.int64(1), point_id=np.str_("mem_1_1"), vector=[np.float32(1), np.int8(2)])  # type: ignore[arg-type, list-item]
    assert decode_write(pushed(upsert, LIMITS)) == Upsert(user_id=1, point_id="mem_1_1", vector=PACKED)
    delete = Delete(user_id=np.uint8(1), point_ids=np.array(["mem_1_1"]))  # type: ignore[arg-type]
    assert decode_write(pushed(delete, LIMITS)) == Delete(user_id=1, point_ids=["mem_1_1"])
    search = Search(user_id=1, vector=PACKED, limit=np.int64(3), min_score=np.float32(0.5), category=Mood.GOOD)  # type: ignore[arg-type]
    assert called(search, LIMITS) == Search(user_id=1, vector=PACKED, limit=3, min_score=0.5, category="good")


class Thing:
    """An object of another type, with the same text in every process."""

    def __repr__(self) -> str:
        return "a thing"


WRONG: list[Any] = [
    *(None, "1", b"1", True, np.True_, 1.0, math.nan, math.inf, UUID(int=1), Decimal(1), [1], {}, Thing()),
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["user_id", "file_id"])
def test_an_integer_field_accepts_nothing_else(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        pushed(Purge(**{"user_id": 1, "kind": "document", "file_id": 1, name: value}), LIMITS)
    assert caught.value.field == name


TEXTS: list[Any] = [None, 1, b"x", True, 1.0, UUID(int=1), date(2026, 1, 1), Decimal(1), ["x"], {}, Thing(), "\ud800"]


@pytest.mark.parametrize("value", TEXTS, ids=ascii)
@pytest.mark.parametrize("name", ["category", "namespace", "kind"])
def test_a_text_field_accepts_nothing_else(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        pushed(Purge(**{"user_id": 1, "kind": "memory", name: value}), LIMITS)
    assert caught.value.field == name


@pytest.mark.parametrize("value", ["mem_1_1", b"mem_1_1", {"mem_1_1": 1}, None, 5, Thing()], ids=repr)
@pytest.mark.parametrize("of", [Delete, Get])
def test_point_ids_must_be_a_list(of: type[Any], value: Any) -> None:
    with pytest.raises(InvalidJob, match="point_ids: expected a list of point ids, got"):
        called(of(user_id=1, point_ids=value), LIMITS)


@pytest.mark.parametrize(
    "value", [None, 5, b"x", np.int64(1), ["mem_1_2"], UUID(int=1), "mem_2_1", "\ud800"], ids=ascii
)
def test_a_wrong_id_is_named_by_its_position(value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        pushed(Delete(user_id=1, point_ids=["mem_1_1", value]), LIMITS)
    assert caught.value.field == "point_ids[1]"


@pytest.mark.parametrize("payload", [None, "text", b"x", 5, [("a", 1)], ["a"], {"a"}, Thing()], ids=repr)
def test_a_payload_must_be_a_map(payload: Any) -> None:
    with pytest.raises(InvalidJob, match="payload: expected a map"):
        pushed(Upsert(user_id=1, point_id="mem_1_1", vector=PACKED, payload=payload), LIMITS)


def test_point_ids_may_be_an_iterator_even_without_an_end() -> None:
    ids = (f"mem_1_{number}" for number in count())
    assert len(called(Get(user_id=1, point_ids=islice(ids, 3)), LIMITS).point_ids) == 3  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="at most 1,000 are allowed"):
        called(Get(user_id=1, point_ids=ids), LIMITS)  # type: ignore[arg-type]


# Properties.

users = st.integers(1, 2**63 - 1)
tails = st.text("abcXYZ019_.:-", min_size=1, max_size=20)
absent = st.just(msgspec.UNSET)
names = st.text("abz09_-", min_size=1, max_size=64)
namespaces, named_namespaces = st.none() | names, absent | names
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
keys = st.text(min_size=1, max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
vectors = st.lists(st.floats(-(2.0**62), 2.0**62, width=32), min_size=2, max_size=2).filter(
    lambda numbers: math.hypot(*numbers) >= 2.0**-11
)


@st.composite
def upserts(draw: st.DrawFn) -> Upsert:
    user, kind = draw(users), draw(st.sampled_from(["memory", "document"]))
    payload = draw(st.dictionaries(keys.map("x_{}".format), values, max_size=4))
    return Upsert(
        user_id=user,
        point_id=f"{kind[:3]}_{user}_{draw(tails)}",
        vector=struct.pack("<2f", *draw(vectors)),
        payload=payload,
        kind=kind,
        namespace=draw(namespaces) if kind == "memory" else None,
    )


@st.composite
def deletes(draw: st.DrawFn) -> Delete:
    user = draw(users)
    ids = [f"mem_{user}_{tail}" for tail in draw(st.lists(tails, min_size=1, max_size=4))]
    return Delete(user_id=user, point_ids=ids, namespace=draw(namespaces))


purges = (
    st.builds(Purge, user_id=users)
    | st.builds(Purge, user_id=users, kind=st.just("memory"), namespace=named_namespaces, category=absent | st.text())
    | st.builds(
        Purge,
        user_id=users,
        kind=st.just("document"),
        group_key=absent | st.text(),
        file_id=absent | st.integers(-(2**63), 2**63 - 1),
    )
)
write_jobs = upserts() | deletes() | purges


@given(write_jobs)
def test_every_job_survives_both_wire_forms(job: WriteJob) -> None:
    assert decode_write(encode_job(job)) == job
    assert decode_write(msgspec.json.encode(job)) == job


@given(write_jobs)
def test_a_worker_accepts_what_a_push_accepts(job: WriteJob) -> None:
    taken = checked(decode_write(pushed(job, Limits(dimension=2))), LIMITS)
    if isinstance(job, Upsert):
        kept = {name: value for name, value in taken.payload.items() if name in job.payload}
        assert kept == job.payload
        taken = msgspec.structs.replace(taken, payload=job.payload)
    assert taken == job


@given(write_jobs)
def test_checking_twice_changes_nothing(job: WriteJob) -> None:
    once = checked(job, LIMITS)
    assert checked(once, LIMITS) == once


def decode_and_check(body: bytes) -> None:
    """Decode and check. The only error that may be raised is `InvalidJob`."""
    try:
        checked(decode_write(body), LIMITS)
    except InvalidJob as error:
        str(error).encode()


@given(st.binary(max_size=200) | st.binary(max_size=200).map(b"{".__add__))
def test_arbitrary_bytes_are_jobs_or_invalid(body: bytes) -> None:
    decode_and_check(body)


@given(write_jobs, st.data())
def test_damaged_jobs_are_jobs_or_invalid(job: WriteJob, data: st.DataObject) -> None:
    encoded = data.draw(st.sampled_from([encode_job(job), msgspec.json.encode(job)]))
    at = data.draw(st.integers(0, len(encoded) - 1))
    decode_and_check(encoded[:at] + data.draw(st.binary(max_size=4)) + encoded[at + data.draw(st.integers(0, 3)) :])


anything = st.recursive(
    scalars
    | st.floats()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=9)
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=4))
    | st.sampled_from(["upsert", "memory", "document", "mem_1_a", 1, PACKED, [1.0, 2.0]]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys | st.integers(0, 9) | st.none() | st.binary(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ("user_id", "point_id", "vector", "payload", "kind", "namespace", "point_ids", "category", "file_id")


@given(st.sampled_from(WRITES) | anything, st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6))
@example("upsert", {"user_id": 1, "point_id": "mem_1_a", "vector": PACKED, "payload": {"a": {1: 2}}})
def test_arbitrary_documents_are_jobs_or_invalid(op: Any, fields: dict[str, Any]) -> None:
    decode_and_check(msgspec.msgpack.encode({"op": op, **fields}))


json_like = st.recursive(
    scalars | st.floats() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(WRITES), st.dictionaries(st.sampled_from(FIELDS), json_like, max_size=6))
def test_arbitrary_json_is_a_job_or_invalid(op: str, fields: dict[str, Any]) -> None:
    decode_and_check(json.dumps({"op": op, **fields}).encode())


@given(anything)
def test_an_arbitrary_read_is_a_job_or_invalid(document: Any) -> None:
    for of in (Search, Get, Info):
        with contextlib.suppress(InvalidJob):
            checked(convert_read(document, of), LIMITS)


# Partitions and receipts.

# printf %s USER | gzip -c | tail -c8 | head -c4 | od -An -tu4; PHP: crc32((string)$id) % $n
CRC32 = {1: 2212294583, 42: 841265288, 1730: 2588272209, 2042: 753969361, 2**31: 2238651201, 2**63 - 1: 1122634462}


@pytest.mark.parametrize(("user_id", "crc"), CRC32.items())
def test_the_partition_of_a_user_never_changes(user_id: int, crc: int) -> None:
    assert [partition_of(user_id, n) for n in (1, 2, 32, 1024)] == [crc % n for n in (1, 2, 32, 1024)]


@given(users, st.integers(1, 1024))
def test_a_partition_is_what_php_computes(user_id: int, partitions: int) -> None:
    assert partition_of(user_id, partitions) == crc32(str(user_id).encode("ascii")) % partitions


@pytest.mark.parametrize("text", ["17/1732000000000-0", "0/0-1", "99999/18446744073709551615-18446744073709551615"])
def test_a_receipt_is_parsed_from_its_text(text: str) -> None:
    assert str(Receipt.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "17", "17/", "17/1", "/1-0", "17/1-0\n", " 17/1-0", "-1/1-0", "17/1-0/2", "17/1-*", "100000/1-0", "x" * 999],
    ids=repr,
)
def test_a_text_that_is_not_a_receipt_is_refused(text: str) -> None:
    with pytest.raises(InvalidJob, match="is not of the form PARTITION/MILLISECONDS-SEQUENCE") as caught:
        Receipt.parse(text)
    assert caught.value.field == "receipt"
    assert len(str(caught.value)) < 200


# The schema that producers read.


def references(node: Any) -> set[str]:
    match node:
        case {"$ref": str(target), **rest}:
            return {target} | references(rest)
        case dict():
            return set().union(*map(references, node.values()))
        case list():
            return set().union(*map(references, node))
    return set()


def test_the_schema_is_json_and_its_references_exist() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    targets = {f"#/$defs/{name}" for name in schema["$defs"]}
    assert references(schema) <= targets
    assert targets <= references(schema)


@pytest.mark.parametrize(
    ("of", "op"),
    [
        (Upsert, "upsert"),
        (Delete, "delete"),
        (Purge, "purge"),
        (Patch, "patch"),
        (Prune, "prune"),
        (Search, "search"),
        (Get, "get"),
        (Info, "info"),
    ],
    ids=GOLDEN,
)
def test_the_schema_describes_each_job(of: type[Any], op: str) -> None:
    schema = json_schema()
    described = schema["$defs"][of.__name__]
    assert described["properties"]["op"] == {"enum": [op]}
    assert set(described["properties"]) == {"op", *of.__struct_fields__}
    assert described["additionalProperties"] is False
    required = {"op"} | {f.name for f in msgspec.structs.fields(of) if f.required}
    assert set(described["required"]) == required
    document = json.loads(GOLDEN[op][2])
    assert required <= set(document) <= set(described["properties"])


def test_the_schema_distinguishes_jobs_by_op() -> None:
    write, read, reply = json_schema()["oneOf"]
    assert set(write["discriminator"]["mapping"]) == set(WRITES)
    assert set(read["discriminator"]["mapping"]) == {str(job.__struct_config__.tag) for job in get_args(ReadJob)}
    assert reply["$ref"] == f"#/$defs/{Reply.__name__}"
