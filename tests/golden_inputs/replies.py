"""Replies to reads, as maps. Bytes are the vectors."""

from __future__ import annotations

from typing import Any

_USER = {"user_id": 1730}
_SEARCH = {**_USER, "vector": [0.5, -0.25, 1.0, 0.125]}
_PAYLOAD: dict[str, Any] = {
    "_point_id": "mem_1730_1",
    "user_id": 1730,
    "n": [1, -1, 2**63 - 1, 1.0, 0.1, -0.0, None, True],
    "text": "\u00fc \U0001f600",
    "empty": {"list": [], "map": {}},
    "0": "a key of digits",
}
_HIT = {"point_id": "mem_1730_1", "score": 0.875, "payload": _PAYLOAD}
_POINT = {"point_id": "mem_1730_1", "payload": {}}
_VECTOR = bytes.fromhex("0000003f000080be0000803f0000003e")
_COLLECTION = {
    "name": "user_memories",
    "kind": "memory",
    "namespace": None,
    "status": "green",
    "points": 5,
    "indexed_vectors": 0,
    "segments": 2,
    "dimension": 4,
    "payload_indexes": ["user_id", "category"],
    "indexing_held": False,
    "distance": "cosine",
    "engine_version": "1.18.3",
}
_QUEUE = {
    "at": 1732000000.5,
    "waiting": 3,
    "waiting_bytes": 900,
    "oldest_age_s": 0.25,
    "dead": 1,
    "reads_waiting": 0,
    "store_error": None,
}
_BAD = {"code": "invalid", "message": "like: there is no such point"}

_FOUND: list[tuple[str, str, dict[str, Any], dict[str, Any] | None]] = [
    (
        "hits",
        "search",
        _SEARCH,
        {
            "hits": [_HIT, {"point_id": "mem_1730_2", "score": 1.0, "payload": {}}],
            "engine_ms": 1.5,
            "queue_ms": 0.25,
            "total_ms": 3,
        },
    ),
    ("a hit in a namespace", "search", _SEARCH, {"hits": [{**_HIT, "namespace": "feedback_positive"}]}),
    ("a score without a fraction", "search", _SEARCH, {"hits": [{**_HIT, "score": 1}]}),
    ("no hits", "search", _SEARCH, {"hits": [], "engine_ms": 0.5}),
    (
        "results of several searches",
        "search_many",
        {"searches": [_SEARCH, _SEARCH, _SEARCH]},
        {"results": [{"hits": [_HIT]}, {"error": _BAD}, {"hits": []}]},
    ),
    ("points", "get", {**_USER, "point_ids": ["mem_1730_1"]}, {"points": [_POINT]}),
    (
        "points with vectors",
        "get",
        {**_USER, "point_ids": ["mem_1730_1"], "vectors": True},
        {"points": [{**_POINT, "namespace": "n", "vector": _VECTOR}]},
    ),
    ("a page", "list", _USER, {"points": [_POINT, _POINT], "cursor": "MTc="}),
    ("the last page", "list", _USER, {"points": [_POINT]}),
    ("a count", "count", _USER, {"count": 12345678901}),
    ("a count of 0", "count", _USER, {"count": 0}),
    (
        "a facet",
        "facet",
        {**_USER, "by": "category"},
        {"facet": {"values": [{"value": "a", "count": 3}, {"value": 5, "count": 2}, {"value": True, "count": 1}]}},
    ),
    (
        "a facet with more values",
        "facet",
        {**_USER, "by": "category", "limit": 1},
        {"facet": {"values": [{"value": "a", "count": 3}], "truncated": True}},
    ),
    (
        "files",
        "files",
        _USER,
        {
            "files": [
                {"file_id": 88, "chunks": 50, "group_key": "WORK"},
                {"file_id": 89, "chunks": 1, "group_key": None},
            ]
        },
    ),
    (
        "stats",
        "stats",
        _USER,
        {
            "stats": {
                "points": 7,
                "by": {"category": [{"value": "a", "count": 3}], "embedding_model_id": [{"value": 42, "count": 7}]},
                "absent": {"category": 4, "embedding_model_id": 0},
                "truncated": True,
            }
        },
    ),
    (
        "collections",
        "info",
        {},
        {"collections": [_COLLECTION, {**_COLLECTION, "namespace": "n", "indexing_held": True}]},
    ),
    (
        "a collection of an older worker",
        "info",
        {},
        {
            "collections": [
                {name: value for name, value in _COLLECTION.items() if name not in ("distance", "engine_version")}
            ]
        },
    ),
    ("health", "health", {}, {"health": {"version": "1.18.3", "engine_ms": 0.75, "queue": _QUEUE}}),
    ("health without the queue", "health", {}, {"health": {"version": "1.18.3", "engine_ms": 2, "queue": None}}),
    ("a page of all users", "list_all", {}, {"points": [_POINT], "cursor": "MTc="}),
    ("fields of a newer worker", "search", _SEARCH, {"hits": [{**_HIT, "new": 1}], "new": {"a": []}}),
    ("search: nothing", "search", _SEARCH, {}),
    ("search_many: nothing", "search_many", {"searches": [_SEARCH]}, {}),
    ("get: nothing", "get", {**_USER, "point_ids": ["mem_1730_1"]}, {}),
    ("list: nothing", "list", _USER, {}),
    ("count: nothing", "count", _USER, {}),
    ("facet: nothing", "facet", {**_USER, "by": "category"}, {}),
    ("files: nothing", "files", _USER, {}),
    ("stats: nothing", "stats", _USER, {}),
    ("info: nothing", "info", {}, {}),
    ("health: nothing", "health", {}, {}),
    ("no reply", "search", {**_SEARCH, "timeout": 0.05}, None),
]
_CODES = ("invalid", "too_large", "unavailable", "timeout", "not_applied", "internal", "new_code")

REPLIES = [
    *((name, method, args, reply if reply is None else {"ok": True, **reply}) for name, method, args, reply in _FOUND),
    *(
        (
            f"error {code}",
            "search",
            _SEARCH,
            {"ok": False, "error": {"code": code, "message": "why: \u00fc"}, "engine_ms": 0.5},
        )
        for code in _CODES
    ),
]
"""The name of a case, the method with its arguments, and the reply. ``None`` means that none arrives in time."""
