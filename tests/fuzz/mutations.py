"""Seeds and mutations of the fuzzer. The seeds are valid jobs of every op in both encodings.

An input is a target (one byte) and its bytes. For the target ``BATCH`` these are a byte of flags and some entries:
each is a byte of control, three bytes of length (little-endian) and a body, which may be shorter.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from memory_worker.contract import (
    Count,
    Delete,
    Facet,
    FieldCondition,
    Files,
    Get,
    Info,
    List,
    Patch,
    Prune,
    Purge,
    Search,
    SearchMany,
    Stats,
    Upsert,
    op_of,
)

BATCH, READ, ARQ, RECEIPT, PYTHON, RAW = range(6)
TARGETS = RAW + 1
HEADER = 4
MAX_BYTES = 1_048_576

VECTOR = struct.pack("<2f", 1, -2.5)
NUMBERS = [0.25, -2]
FIELDS = {
    "category": "work",
    "value": "Grüße",
    "created": 17,
    "n": [1, 2.5, None, {"a": {"b": [True]}}],
    "big": -(2**63),
}
JOBS: tuple[Any, ...] = (
    Upsert(user_id=1, point_id="mem_1_1", vector=VECTOR, payload=FIELDS),
    Upsert(user_id=1, point_id="mem_1_2", vector=NUMBERS, payload={"category": "play", "active": None}),
    Upsert(user_id=2, point_id="mem_2_1", vector=VECTOR, namespace="a"),
    Upsert(kind="document", user_id=1, point_id="doc_1_1:0", vector=VECTOR, payload={"file_id": 7, "text": "x"}),
    Delete(user_id=1, point_ids=["mem_1_1"]),
    Delete(user_id=1, point_ids=["mem_1_1", "mem_1_2", "mem_1_3"], namespace="a"),
    Delete(kind="document", user_id=1, point_ids=["doc_1_1:0"]),
    Purge(user_id=1),
    Purge(user_id=1, kind="memory", category="work"),
    Purge(user_id=1, kind="document", group_key="g", file_id=7),
    Purge(user_id=2, kind="memory", namespace="a"),
    Purge(user_id=1, before=18, other_than_model=4),
    Purge(user_id=1, kind="document", before=18, file_id=7, ref="r", notify=True),
    Upsert(kind="document", user_id=1, point_id="doc_1_7:1", vector=VECTOR, payload={"file_id": 7, "_version": 5}),
    Delete(user_id=1, point_ids=["mem_1_1", "mem_1_2"], namespace="*"),
    Patch(user_id=1, point_ids=["mem_1_1"], set={"category": "play", "value": "x", "created": 19}),
    Patch(user_id=1, point_ids=["mem_1_1", "mem_1_2"], namespace="*", set=FIELDS, unset=["note", "message_id"]),
    Patch(user_id=1, category="work", set={"category": "play"}, unset=["created"], ref="Grüße"),
    Patch(kind="document", user_id=1, file_id=7, set={"group_key": "g"}),
    Patch(kind="document", user_id=1, group_key="g", unset=["group_key", "file_id"], notify=True),
    Prune(user_id=1, file_id=7, version=5),
    Prune(user_id=1, file_id=7, version=2**53, ref="r"),
    Upsert(kind="note", user_id="ann", point_id="note_ann_1", vector=VECTOR, payload={"category": "work", "n": [1]}),
    Delete(kind="note", user_id="ann", point_ids=["note_ann_1"], namespace="*"),
    Patch(kind="note", user_id="ann", category="work", set={"category": "play", "group_key": {"a": 1}}),
    Prune(kind="note", user_id="ann", file_id=7, version=5),
    Purge(user_id="ann", before=18),
)
READS: tuple[Any, ...] = (
    Search(user_id=1, vector=VECTOR, limit=3, min_score=0.5, category="work"),
    Search(kind="document", user_id=1, vector=NUMBERS, group_key="g", file_id=7, timeout_ms=10),
    Get(user_id=1, point_ids=["mem_1_1", "mem_1_2"], namespace="a"),
    Info(timeout_ms=5),
    Search(
        user_id=1,
        like="mem_1_1",
        namespaces=[None, "a"],
        not_category=["x"],
        exclude=["mem_1_2"],
        where={"created": FieldCondition(gte=1, lte=2.5, or_absent=True), "value": "v"},
        fields=["value"],
    ),
    SearchMany(searches=[Search(user_id=1, vector=VECTOR), Search(user_id=1, like="mem_1_1")], after="1/2-3"),
    List(user_id=1, order="created", cursor="k6djcmVhdGVk", active="any", where={"active": True}),
    Count(user_id=1, namespace="*", where={"message_id": FieldCondition(any=[1, 2], not_any=[3])}),
    Facet(user_id=1, by="category", active=False),
    Files(user_id=1, group_key="g"),
    Stats(user_id=1, kind="document", where={"group_key": FieldCondition(is_="g")}),
)
_RECORDS = tuple({"t": 1, "f": op_of(job), "a": (job,), "k": {"x": 1}, "et": 0} for job in READS)
_ENCODERS = (msgspec.msgpack.encode, msgspec.json.encode)
BODIES = tuple(encode(job) for encode in _ENCODERS for job in JOBS)
READ_BODIES = tuple(encode(job) for encode in _ENCODERS for job in READS)
ARQ_BODIES = tuple(encode(record) for encode in _ENCODERS for record in _RECORDS)
RECEIPTS = (b"17/1732000000000-0", b"0/0-1", b"99999/18446744073709551615-18446744073709551615")

_HUGE = [
    *(bytes([head]) + size for head in (0xC9, 0xC6, 0xDB, 0xDD, 0xDF) for size in (b"\xff" * 4, b"\x10\0\0\0")),
    *(bytes([head]) + b"\xff\xff" for head in (0xC5, 0xC8, 0xDA, 0xDC, 0xDE)),
]
_VALUES = [
    *(
        b"\x80",
        b"\x90",
        b"\xa0",
        b"\xc0",
        b"\xc1",
        b"\xc2",
        b"\xff",
        b"\xc4\x00",
        b"\xd4\x05a",
        b"\xd7\xff" + b"\xff" * 8,
    ),
    *(
        b"\xd6\xff\0\0\0\1",
        b"\xcf" + b"\xff" * 8,
        b"\xd3\x80" + b"\0" * 7,
        b"\xca\x7f\xc0\0\0",
        b"\xcb\x7f\xf0" + b"\0" * 6,
    ),
    *(b"\x81\x80\x01", b"\x81\x91\x01\x01", b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\x01S", b"\xa2\x01O", b"\xa2\x01R"),
    *(b"\xa2\x01D", b"\xa2\x01N", b"\xa2\x01B", b"\xa2\x01M", b"\xa2\x01I"),
    *(
        b"NaN",
        b"1e999",
        b"-0",
        b"1" + b"0" * 400,
        b'"\\ud800"',
        b'"\\u0000"',
        b"null",
        b"[]",
        b"{}",
        b'""',
        b"true",
        b"{",
    ),
    *(
        b"18446744073709551616",
        b'" - at `$.x`"',
        b" - at `key in `$",
        b"unknown field `",
        b"user_id",
        b"_point_id",
        b"_version",
        b"_tenant",
        b"*",
        b"\xa1*",
        b'"*"',
        b"a.b[0]",
        b"op",
    ),
]
_NAMES = (
    *(b"payload", b"vector", b"_id", b"_ids", b"big", b"kind", b"set", b"unset", b"version", b"before", b"model"),
    *(b"namespace", b"category", b"group_key", b"ref", b"notify"),
)
_NESTS = (b"\x91", b"\x81\xa1a", b"\x81\x91", b"[", b'{"a":')
_DEPTHS = (2, 14, 15, 16, 17, 60, 200, 1100)


def of_target(target: int, data: bytes) -> bytes:
    return bytes([target]) + data


def pack(flags: int, entries: list[tuple[int, bytes]]) -> bytes:
    rows = (bytes([control]) + len(body).to_bytes(HEADER - 1, "little") + body for control, body in entries)
    return bytes([flags]) + b"".join(rows)


def unpack(data: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    entries, at = [], 1
    while at + HEADER <= len(data) and len(entries) < 256:
        size = int.from_bytes(data[at + 1 : at + HEADER], "little")
        entries.append((data[at], data[at + HEADER : at + HEADER + size]))
        at += HEADER + size
    return (data[0] if data else 0), entries


def seeds() -> list[bytes]:
    """Return the corpus to start from."""
    everything = [(0, body) for body in BODIES]
    batches = [pack(0, [(0, body)]) for body in BODIES]
    batches += [pack(flags, everything) for flags in range(16)]
    batches += [pack(8, [(control, body) for body in BODIES]) for control in (7, 24, 32, 64, 96)]
    return [
        *(of_target(BATCH, batch) for batch in batches),
        *(of_target(READ, body) for body in READ_BODIES),
        *(of_target(ARQ, body) for body in ARQ_BODIES),
        *(of_target(RECEIPT, text) for text in RECEIPTS),
        *(of_target(PYTHON, body) for body in (*BODIES, *READ_BODIES)),
        *(of_target(RAW, body) for body in (*BODIES, *READ_BODIES, *ARQ_BODIES)),
    ]


SEEDS = seeds()
_POOL = {
    READ: READ_BODIES,
    ARQ: ARQ_BODIES,
    RECEIPT: RECEIPTS,
    PYTHON: (*BODIES, *READ_BODIES),
    RAW: (*BODIES, *READ_BODIES, *ARQ_BODIES),
}


class Mutator:
    """Makes inputs without a coverage tool, because it knows the structure of jobs."""

    def __init__(self, chance: random.Random, max_bytes: int = MAX_BYTES, bulk: float = 0.002) -> None:
        self._chance = chance
        self._max_bytes = max_bytes
        self._bulk_share = bulk
        self._ways: tuple[Callable[[bytes], bytes], ...] = (
            *(self._flip, self._set, self._cut, self._drop, self._splice, self._repeat),
            *(self._put_huge, self._put_value, self._put_value, self._nest, self._resize),
        )

    def fresh(self) -> bytes:
        """Return a new input, valid or not."""
        chance = self._chance
        if chance.random() < 0.55:
            entries = [
                (self._control(), self._body(chance.choice(BODIES))) for _ in range(chance.choice((1, 1, 2, 3, 8)))
            ]
            return of_target(BATCH, pack(chance.randrange(16), entries))[: self._max_bytes]
        target = chance.randrange(READ, TARGETS)
        return of_target(target, self._body(chance.choice(_POOL[target])))[: self._max_bytes]

    def mutate(self, data: bytes) -> bytes:
        """Return an input that is similar to another."""
        if not data or self._chance.random() < 0.1:
            return self.fresh()
        if data[0] % TARGETS != BATCH:
            return (data[:1] + self._body(data[1:]))[: self._max_bytes]
        flags, entries = unpack(data[1:])
        if not entries:
            return self.fresh()
        which = self._chance.randrange(len(entries))
        control, body = entries[which]
        match self._chance.randrange(8):
            case 0:
                entries.insert(which, (self._control(), self._chance.choice(BODIES)))
            case 1:
                entries[which] = (self._control(), body)
            case 2:
                entries[which] = entries[self._chance.randrange(len(entries))]
            case 3:
                del entries[which]
                flags = self._chance.randrange(16)
            case _:
                entries[which] = (control, self._body(body))
        return of_target(BATCH, pack(flags, entries))[: self._max_bytes]

    def _control(self) -> int:
        return self._chance.choice((0, 0, 0, 2, 7, 24, 32, 64, 96, self._chance.randrange(256)))

    def _body(self, body: bytes) -> bytes:
        if self._chance.random() < self._bulk_share:
            return self._bulk(body)
        for _ in range(self._chance.choice((0, 1, 1, 1, 2, 4))):
            body = self._chance.choice(self._ways)(body)
        return body[: self._max_bytes]

    def _at(self, body: bytes) -> int:
        return self._chance.randrange(len(body) + 1)

    def _flip(self, body: bytes) -> bytes:
        if not body:
            return body
        at = self._chance.randrange(len(body))
        return body[:at] + bytes([body[at] ^ 1 << self._chance.randrange(8)]) + body[at + 1 :]

    def _set(self, body: bytes) -> bytes:
        at = self._at(body)
        return body[:at] + self._chance.randbytes(1) + body[at + 1 :]

    def _cut(self, body: bytes) -> bytes:
        return body[: self._at(body)]

    def _drop(self, body: bytes) -> bytes:
        at = self._at(body)
        return body[:at] + body[at + self._chance.randrange(1, 9) :]

    def _splice(self, body: bytes) -> bytes:
        other = self._chance.choice((*BODIES, *READ_BODIES, *ARQ_BODIES))
        return body[: self._at(body)] + other[self._at(other) :]

    def _repeat(self, body: bytes) -> bytes:
        at = self._at(body)
        return (
            body[:at] + body[at : at + self._chance.randrange(1, 16)] * self._chance.choice((1, 2, 17, 300)) + body[at:]
        )

    def _put_huge(self, body: bytes) -> bytes:
        return self._put(body, self._chance.choice(_HUGE))

    def _put_value(self, body: bytes) -> bytes:
        return self._put(body, self._chance.choice(_VALUES))

    def _nest(self, body: bytes) -> bytes:
        return self._put(body, self._chance.choice(_NESTS) * self._chance.choice(_DEPTHS), over=0)

    def _put(self, body: bytes, token: bytes, over: int | None = None) -> bytes:
        """Put a token in the place of a value (after a known name) or anywhere."""
        names = [body.find(name) + len(name) for name in _NAMES]
        here = [at for at in names if at < len(body) and body[at - 1 : at].isalpha()]
        at = self._chance.choice(here) if here and self._chance.random() < 0.6 else self._at(body)
        if body[at : at + 2] == b'":':
            at += 2
        return body[:at] + token + body[at + (self._chance.choice((0, 1, 1, 9)) if over is None else over) :]

    def _resize(self, body: bytes) -> bytes:
        """Change a length: the byte before a name, or the head of the map."""
        at = self._chance.choice((0, max(0, body.find(b"payload") + 7), max(0, body.find(b"vector") + 7)))
        return body[:at] + self._chance.randbytes(1) + body[at + 1 :]

    def _bulk(self, body: bytes) -> bytes:
        """Return a large job with very many small values."""
        size = self._chance.choice((self._max_bytes // 16, self._max_bytes // 4, self._max_bytes - 200))
        shape = self._chance.randrange(5)
        if shape == 0:
            return body + self._chance.choice(BODIES)[:16] * (size // 16)
        if shape == 1:
            piece = self._chance.choice((b"[],", b"0,", b"{},", b'"",', b"[[]],", b'{"a":0},'))
            text = b"[" + piece * (size // len(piece)) + b"0]"
            return _JSON_JOB % ((b"[1,2]", b'{"a":' + text + b"}") if self._chance.random() < 0.7 else (text, b"{}"))
        piece = self._chance.choice(
            (b"\xc0", b"\x80", b"\x90", b"\x01", b"\x91\xc0", b"\x81\xa1a\xc0", b"\x91" * 13 + b"\xc0")
        )
        count = size // len(piece)
        rows = b"\xdd" + struct.pack(">I", count) + piece * count
        if shape == 2:
            return _HEAD + b"\xa6vector" + rows + b"\xa7payload\x80"
        if shape == 3:
            keys = b"".join(b"\xce" + struct.pack(">I", number) + b"\xc0" for number in range(size // 6))
            rows = b"\xdf" + struct.pack(">I", size // 6) + keys
        return _HEAD + b"\xa6vector\xc4\x08" + VECTOR + b"\xa7payload\x81\xa1a" + rows


_HEAD = b"\x85\xa2op\xa6upsert\xa7user_id\x01\xa8point_id\xa7mem_1_1"
_JSON_JOB = b'{"op":"upsert","user_id":1,"point_id":"mem_1_1","vector":%s,"payload":%s}'
