"""What workers store about jobs, with what a client returns: outcomes, and states of receipts.

The expected values are written by hand. A test with a real Redis checks them against the Python client.
"""

from __future__ import annotations

from typing import Any

_FIELDS = {
    "at": "1732000000123",
    "receipt": "17/1732000000000-0",
    "position": "1732000000000-0",
    "op": "upsert",
    "user_id": "1730",
    "kind": "memory",
    "namespace": "",
    "ref": "",
    "outcome": "applied",
    "reason": "",
    "detail": "",
    "replay": "",
}
_OUTCOME: dict[str, Any] = {
    "receipt": "17/1732000000000-0",
    "position": "1732000000000-0",
    "outcome": "applied",
    "at": 1732000000123,
    "op": "upsert",
    "user_id": 1730,
    "kind": "memory",
    "namespace": None,
    "reason": "",
    "detail": "",
    "ref": None,
    "replay": None,
    "gap": False,
}


def _outcome(at: int, name: str, fields: dict[str, str], expected: dict[str, Any]) -> dict[str, Any]:
    entry_id = f"{at}-0"
    return {
        "name": name,
        "id": entry_id,
        "fields": {**_FIELDS, **fields},
        "outcome": {"id": entry_id, **_OUTCOME, **expected},
    }


_DEAD = {"outcome": "dead", "reason": "invalid", "detail": "vector: expected 4 dimensions"}
_ALL = {"namespace": "n-1", "ref": "memory 12345 \u00fc"}
OUTCOMES = [
    _outcome(1, "applied", {}, {}),
    _outcome(2, "with namespace and ref", _ALL, _ALL),
    _outcome(3, "dead", _DEAD, _DEAD),
    _outcome(
        4,
        "dead and not decoded",
        {"outcome": "dead", "reason": "undecodable", "op": "", "user_id": "", "kind": ""},
        {"outcome": "dead", "reason": "undecodable", "op": None, "user_id": None, "kind": None},
    ),
    _outcome(
        5,
        "of a text user",
        {"user_id": "ann@example.org", "kind": "note"},
        {"user_id": "ann@example.org", "kind": "note"},
    ),
    _outcome(6, "of the largest user", {"user_id": str(2**63 - 1)}, {"user_id": 2**63 - 1}),
    _outcome(7, "dropped", {"outcome": "dropped"}, {"outcome": "dropped"}),
    _outcome(8, "purged", {"outcome": "dropped", "reason": "purged"}, {"outcome": "dropped", "reason": "purged"}),
    _outcome(
        9,
        "replayed",
        {"outcome": "replayed", "replay": "17/1732000000500-1"},
        {"outcome": "replayed", "replay": "17/1732000000500-1"},
    ),
    _outcome(
        10,
        "applied as a replay",
        {"receipt": "17/1732000000500-1", "op": "purge", "kind": ""},
        {"receipt": "17/1732000000500-1", "op": "purge", "kind": None},
    ),
    _outcome(11, "with a field of a newer worker", {"new": "1"}, {}),
]

_RECEIPT = "5/1000-1"
_EPOCH = ["HSET", "mw:since", "epoch", "900"]
_REPLAYED = ["ZADD", "mw:removed:5", "0", "00000000000000001000-00000000000000000001 2000-0"]
_IN_OVERFLOW = "37/2000-4294967296"
_REPLAYED_THERE = ["ZADD", "mw:removed:5", "0", f"00000000000000001000-00000000000000000001 {_IN_OVERFLOW}"]
_DROPPED = ["ZADD", "mw:removed:5", "0", "00000000000000001000-00000000000000000001 "]
_DEAD_FIELDS = ["reason", "invalid", "detail", "vector: bad", "ref", "r1", "at", "5"]


def _applied(entry_id: str) -> list[str]:
    return ["XADD", "mw:applied:5", entry_id, "n", "1"]


def _state(
    name: str, redis: list[list[str]], script: list[Any], error: dict[str, str] | None, **state: Any
) -> dict[str, Any]:
    """Return a case. ``script`` is what ``states.lua`` returns: the epoch, the partition, and the receipt."""
    epoch, partition, record = script
    return {
        "name": name,
        "redis": redis,
        "receipt": _RECEIPT,
        "script": [epoch, [partition], [record]],
        "state": {"receipt": _RECEIPT, "reason": "", "detail": "", "ref": None, "replay": None, **state},
        "wait_applied": {"timeout": 0.01, "error": error},
    }


def _waits(receipt: str = _RECEIPT, paused: str = "") -> dict[str, str]:
    message = f"job {receipt} was not applied within 0.01 s; it is still queued{paused}"
    return {"class": "NotApplied", "message": message}


_UNKNOWN = {
    "class": "UnknownReceipt",
    "message": f"Redis has lost data about job {_RECEIPT}, so its state is unknown",
}


def _is_dead(receipt: str, reason: str, detail: str) -> dict[str, str]:
    message = f"job {receipt} is a dead letter ({reason}): {detail}"
    return {"class": "DeadLettered", "message": message, "reason": reason, "detail": detail}


_DISCARDED = ["ZADD", "mw:removed:5", "0", f"{1001:020}-{0:020}~{1000:020}-{0:020}"]
_DISCARDED_DETAIL = "an operator discarded the job before it was applied"

STATES = [
    _state("nothing was applied yet", [_EPOCH], ["900", ["", ""], []], _waits(), state="waiting"),
    _state(
        "an earlier job was applied",
        [_EPOCH, _applied("1000-0")],
        ["900", ["1000-0", ""], []],
        _waits(),
        state="waiting",
    ),
    _state(
        "the queue is paused",
        [_EPOCH, ["HSET", "mw:paused", "since", "1732000000123", "by", "ann", "reason", "a backup"]],
        ["900", ["", ""], []],
        _waits(paused="; the queue is paused since 2024-11-19 07:06:40 UTC by ann: a backup"),
        state="waiting",
    ),
    _state(
        "the queue is paused by nobody in particular",
        [_EPOCH, ["HSET", "mw:paused", "since", "1732000000123", "by", "", "reason", ""]],
        ["900", ["", ""], []],
        _waits(paused="; the queue is paused since 2024-11-19 07:06:40 UTC"),
        state="waiting",
    ),
    _state("it was applied", [_EPOCH, _applied("1000-1")], ["900", ["1000-1", ""], []], None, state="applied"),
    _state(
        "a later job was applied",
        [_EPOCH, _applied("1000-10")],
        ["900", ["1000-10", ""], []],
        None,
        state="applied",
    ),
    _state(
        "a much later job was applied",
        [_EPOCH, _applied("20000-0")],
        ["900", ["20000-0", ""], []],
        None,
        state="applied",
    ),
    _state("Redis has no epoch", [_applied("1000-1")], ["", ["1000-1", ""], []], _UNKNOWN, state="unknown"),
    _state(
        "the queue is younger",
        [["HSET", "mw:since", "epoch", "1001"], _applied("1000-1")],
        ["1001", ["1000-1", ""], []],
        _UNKNOWN,
        state="unknown",
    ),
    _state(
        "the partition is younger",
        [_EPOCH, ["HSET", "mw:since", "5", "1001"], _applied("1000-1")],
        ["900", ["1000-1", "1001"], []],
        _UNKNOWN,
        state="unknown",
    ),
    _state(
        "the partition is as old as the job",
        [_EPOCH, ["HSET", "mw:since", "5", "1000"], _applied("1000-1")],
        ["900", ["1000-1", "1000"], []],
        None,
        state="applied",
    ),
    _state(
        "it is a dead letter",
        [_EPOCH, _applied("1000-1"), ["XADD", "mw:dead:5", "1000-1", *_DEAD_FIELDS]],
        ["900", ["1000-1", ""], ["dead", "invalid", "vector: bad", "r1"]],
        _is_dead(_RECEIPT, "invalid", "vector: bad"),
        state="dead",
        reason="invalid",
        detail="vector: bad",
        ref="r1",
    ),
    _state(
        "it is a dead letter of an older worker, and Redis has no epoch",
        [["XADD", "mw:dead:5", "1000-1", "reason", "refused"]],
        ["", ["", ""], ["dead", "refused", "", ""]],
        _is_dead(_RECEIPT, "refused", ""),
        state="dead",
        reason="refused",
    ),
    _state(
        "its dead letter was dropped",
        [_EPOCH, _applied("1000-1"), _DROPPED],
        ["900", ["1000-1", ""], ["removed", ""]],
        _is_dead(_RECEIPT, "dropped", "its dead letter was deleted"),
        state="dead",
        reason="dropped",
        detail="its dead letter was deleted",
    ),
    _state(
        "it was discarded with others",
        [_EPOCH, ["HSET", "mw:since", "5", "1002"], _applied("1001-0"), _DISCARDED],
        ["900", ["1001-0", "1002"], ["dead", "discarded", _DISCARDED_DETAIL, ""]],
        _is_dead(_RECEIPT, "discarded", _DISCARDED_DETAIL),
        state="dead",
        reason="discarded",
        detail=_DISCARDED_DETAIL,
    ),
    _state(
        "later jobs were discarded",
        [_EPOCH, _applied("1003-0"), [*_DISCARDED[:-1], f"{1003:020}-{0:020}~{1000:020}-{2:020}"]],
        ["900", ["1003-0", ""], []],
        None,
        state="applied",
    ),
    _state(
        "its replay waits",
        [_EPOCH, _applied("1000-1"), _REPLAYED],
        ["900", ["1000-1", ""], ["removed", "2000-0"]],
        _waits(),
        state="waiting",
        replay="5/2000-0",
    ),
    _state(
        "its replay was applied",
        [_EPOCH, _applied("2000-0"), _REPLAYED],
        ["900", ["2000-0", ""], ["removed", "2000-0"]],
        None,
        state="applied",
        replay="5/2000-0",
    ),
    _state(
        "its replay is a dead letter",
        [_EPOCH, _applied("2000-0"), _REPLAYED, ["XADD", "mw:dead:5", "2000-0", *_DEAD_FIELDS]],
        ["900", ["2000-0", ""], ["removed", "2000-0"]],
        _is_dead("5/2000-0", "invalid", "vector: bad"),
        state="dead",
        reason="invalid",
        detail="vector: bad",
        ref="r1",
        replay="5/2000-0",
    ),
    _state(
        "its replay in another partition waits",
        [_EPOCH, _applied("2000-0"), _REPLAYED_THERE, ["XADD", "mw:applied:37", "2000-5", "n", "1"]],
        ["900", ["2000-0", ""], ["removed", _IN_OVERFLOW]],
        _waits(),
        state="waiting",
        replay=_IN_OVERFLOW,
    ),
    _state(
        "its replay in another partition was applied",
        [_EPOCH, _applied("1000-1"), _REPLAYED_THERE, ["XADD", "mw:applied:37", "2000-4294967296", "n", "1"]],
        ["900", ["1000-1", ""], ["removed", _IN_OVERFLOW]],
        None,
        state="applied",
        replay=_IN_OVERFLOW,
    ),
    _state(
        "the replay of its replay was applied",
        [
            *(_EPOCH, _applied("3000-0"), _REPLAYED),
            ["ZADD", "mw:removed:5", "0", "00000000000000002000-00000000000000000000 3000-0"],
        ],
        ["900", ["3000-0", ""], ["removed", "2000-0"]],
        None,
        state="applied",
        replay="5/3000-0",
    ),
]
