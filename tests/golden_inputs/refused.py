"""Calls that are refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

from tests.golden_inputs.reads import AFTER
from tests.golden_inputs.writes import DOCUMENT, NOTE, UPSERT, VECTOR, Call

_USER = {"user_id": 1730}
_IDS = {**_USER, "point_ids": ["mem_1730_1"]}
_DOCUMENTS = {**_USER, "kind": "document"}
_NOT_UNICODE = {"not_unicode": "a"}
_NAN, _INF = {"number": "nan"}, {"number": "inf"}

_LONGEST_VALUE = 60


def _calls(method: str, given: dict[str, Any], **changes: list[Any]) -> list[Call]:
    """Return a call of a method for each wrong value of an argument."""
    return [
        (f"{method} with {name} {_short(value, at)}", method, {**given, name: value})
        for name, values in changes.items()
        for at, value in enumerate(values)
    ]


def _short(value: Any, at: int) -> str:
    """Return the text of a value for the name of its case, or its number if it is long."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"#{at}"


def _payloads(*payloads: Any, given: dict[str, Any] = UPSERT) -> list[Call]:
    kind = given.get("kind", "memory")
    return [
        (f"{kind} with payload {_short(payload, at)}", "upsert", {**given, "payload": payload})
        for at, payload in enumerate(payloads)
    ]


UPSERTS: list[Call] = [
    *_calls(
        "upsert",
        UPSERT,
        user_id=[0, -1, None, True, 1.5, "", "1730", "ann", [], {"text_of": ["a", 129]}, {"integer": str(2**63)}],
        point_id=[
            "mem_1731_1",
            "mem_17300_1",
            "doc_1730_1",
            "mem_1730_",
            "mem_1730",
            "",
            "mem_1730_\u00fc",
            "mem_1730_a b",
            "mem_1730_1\n",
            {"text_of": ["mem_1730_1", 30]},
            None,
            1,
        ],
        kind=["note", "Memory", "", None, 1, {"text_of": ["x", 33]}],
        namespace=["", "A", "a b", "*", {"text_of": ["x", 65]}, 1],
        ref=["", {"text_of": ["\u00fc", 129]}, 1, _NOT_UNICODE],
        notify=[1, "yes", None],
        payload=[[], [1], "text", 1],
    ),
    ("upsert of a document in a namespace", "upsert", {**DOCUMENT, "namespace": "shelf"}),
    ("upsert that is too large", "upsert", {**UPSERT, "payload": {"text": {"text_of": ["x", 2048]}}}),
    *_calls(
        "upsert",
        UPSERT,
        vector=[
            [1, 2, 3],
            [1, 2, 3, 4, 5],
            [],
            {"float32": "AACAPwAAgD8="},
            {"float32": "AACAPwAAgD8AAIA/AAA="},
            [1, _NAN, 0, 0],
            [_INF, 0, 0, 0],
            [0, {"number": "-inf"}, 0, 0],
            [0, 0, 3.5e38, 0],
            [0, 0, 0, -1e300],
            {"float32": "AACAfwAAAAAAAAAAAAAAAA=="},
            [0, 0, 0.0, -0.0],
            [1e-4, 0, 0, 1e-4],
            [1e19, 0, 0, 0],
            [1, None, 3, 4],
            "text",
            {"x": 1, "y": 2},
            5,
            [1, "2", 3, 4],
            [[1], 2, 3, 4],
            [1, 2, 3, {"integer": "1" + "0" * 400}],
        ],
    ),
]
PAYLOADS: list[Call] = [
    *_payloads(
        {"category": 1},
        {"category": []},
        {"key": True},
        {"message_id": "7"},
        {"message_id": 7.0},
        {"active": 1},
        {"created": True},
        {"user_id": 1731},
        {"_point_id": "mem_1730_2"},
        {"": 1},
        {"x" * 257: 1},
        {"a": {"b": [1, {"": 1}]}},
        {"f": _NAN},
        {"f": {"g": [0, _INF]}},
        {"n": {"integer": str(2**63)}},
        {"n": [{"integer": str(-(2**63) - 1)}]},
        {"a": {"nested_lists": 16}},
        {"a b": {"c d": [{"e": _NAN}]}},
        {"map_of": 257},
        {"a": {"list_of": [0, 4096]}},
        {"b": {"base64": "AAE="}},
        {"t": _NOT_UNICODE},
        {"t": [{"u": _NOT_UNICODE}]},
    ),
    *_payloads({"file_id": "88"}, {"file_id": 88.0}, {"group_key": 1}, {"_version": "1"}, given=DOCUMENT),
]
MANY: list[Call] = [
    ("upsert of many with one that is wrong", "upsert_many", {"points": [UPSERT, {**UPSERT, "point_id": "mem_1_1"}]}),
    ("upsert of many without a vector", "upsert_many", {"points": [{"user_id": 1730, "point_id": "mem_1730_1"}]}),
    (
        "upsert of many without a user",
        "upsert_many",
        {"points": [UPSERT, {"point_id": "mem_1730_1", "vector": VECTOR}]},
    ),
    ("upsert of many with an unknown argument", "upsert_many", {"points": [{**UPSERT, "id": 1}]}),
    ("upsert of many with a point that is text", "upsert_many", {"points": ["mem_1730_1"]}),
]
_PATCH = {**_IDS, "set": {"category": "work"}}
PATCHES: list[Call] = [
    ("patch without a target", "patch", {**_USER, "set": {"category": "work"}}),
    ("patch with two targets", "patch", {**_PATCH, "category": "old"}),
    ("patch without a change", "patch", _IDS),
    ("patch of a wrong id", "patch", {**_USER, "point_id": "mem_1731_1", "unset": ["key"]}),
    ("patch of a kind without categories", "patch", {**_DOCUMENTS, "category": "old", "unset": ["text"]}),
    ("patch of a kind without files", "patch", {**_USER, "kind": "memory", "file_id": 1, "unset": ["key"]}),
    ("patch of every namespace by category", "patch", {**_USER, "category": "c", "namespace": "*", "unset": ["key"]}),
    ("patch of a field in both", "patch", {**_PATCH, "unset": ["category"]}),
    *_calls(
        "patch",
        _PATCH,
        point_ids=[[], None, "mem_1730_1", [1], ["mem_1730_1", "mem_1731_1"], {"list_of": ["mem_1730_1", 1001]}],
        point_id=[None, 5],
        category=[None],
        group_key=[None],
        file_id=[None],
        kind=[None],
        set=[
            {"category": None},
            {"category": 1},
            {"user_id": 1730},
            {"_point_id": "mem_1730_1"},
            {"_tenant": "x"},
            {"_version": 1},
            {"a": [_NAN]},
            {"a": _NOT_UNICODE},
            {"map_of": 65},
            [1],
        ],
        unset=[["a b"], [""], ["user_id"], ["active"], ["_version"], [1], "key", {"list_of": ["key", 65]}],
    ),
    *_calls("patch", {**_USER, "set": {"group_key": "W"}}, file_id=["88", 1.5, {"integer": str(2**63)}], group_key=[5]),
]
_DELETE = {**_USER, "point_id": "mem_1730_1"}
DELETES: list[Call] = [
    ("delete of nothing", "delete", _USER),
    ("delete of a document without its kind", "delete", {**_USER, "point_id": "doc_1730_88_0"}),
    ("delete of documents in every namespace", "delete", {**_DOCUMENTS, "point_id": "doc_1730_88_0", "namespace": "*"}),
    *_calls(
        "delete",
        _USER,
        point_id=["mem_1731_1", 5],
        point_ids=[["mem_1730_1", "mem_1731_1"], [1], "mem_1730_1", {"list_of": ["mem_1730_1", 1001]}, None],
    ),
    *_calls("delete", _DELETE, namespace=["**", "A"], user_id=[0, 1731]),
]
_NULLS = {
    name: [None] for name in ("kind", "namespace", "category", "group_key", "file_id", "before", "other_than_model")
}
PURGES: list[Call] = [
    *_calls("purge", _USER, **_NULLS),
    *_calls(
        "purge",
        _USER,
        user_id=[0, "ann", None],
        kind=["note"],
        namespace=["*", ""],
        before=[0, -1, 2**53 + 1, "5", 1.5],
        other_than_model=["42", {"integer": str(2**63)}],
        file_id=["88"],
        category=[1],
    ),
    ("purge of a category of documents", "purge", {**_DOCUMENTS, "category": "c"}),
    ("purge of a file of memories", "purge", {**_USER, "kind": "memory", "file_id": 88}),
    ("purge of a category in a group", "purge", {**_USER, "category": "c", "group_key": "g"}),
]
_FILE = {**_USER, "file_id": 88, "version": 5}
_CHUNK = {"point_id": "doc_1730_88_0", "vector": VECTOR}
FILES: list[Call] = [
    *_calls(
        "prune", _FILE, version=[0, 2**53 + 1, "5", 1.5, None], file_id=["88", None], kind=["memory", "note", None]
    ),
    *_calls("replace_file", {**_FILE, "chunks": []}, user_id=[0], version=[0], chunks=["text", None]),
    *_calls(
        "replace_file",
        _FILE,
        chunks=[
            ["text"],
            [_CHUNK, {"vector": VECTOR}],
            [{"point_id": "doc_1730_88_0"}],
            [{**_CHUNK, "ref": "r"}],
            [{**_CHUNK, "user_id": 1731}],
            [{**_CHUNK, "kind": "memory"}],
            [{**_CHUNK, "payload": [1]}],
            [{**_CHUNK, "payload": {"file_id": 89}}],
            [{**_CHUNK, "payload": {"_version": 4}}],
            [{**_CHUNK, "payload": {"text": 1}}],
        ],
    ),
]
_SEARCH = {**_USER, "vector": VECTOR}
SEARCHES: list[Call] = [
    ("search without a query", "search", _USER),
    ("search with two queries", "search", {**_SEARCH, "like": "mem_1730_1"}),
    ("search with two choices of namespaces", "search", {**_SEARCH, "namespace": "a", "namespaces": ["b"]}),
    (
        "search of documents with categories to leave out",
        "search",
        {**_SEARCH, "kind": "document", "not_category": ["c"]},
    ),
    ("search of memories in a group", "search", {**_SEARCH, "kind": "memory", "group_key": "g"}),
    ("search like a point of another user", "search", {**_USER, "like": "mem_1731_1"}),
    *_calls(
        "search",
        _SEARCH,
        vector=[[1, 2, 3], [0, 0, 0, 0], None],
        limit=[0, 201, "5", 1.5],
        min_score=[1.5, -1.5, "0.5"],
        namespace=["*", "A"],
        namespaces=[[], ["A"], {"list_of": ["a", 17]}, "a"],
        category=[None, 1],
        group_key=[None],
        file_id=[None, "88"],
        exclude=[["mem_1731_1"], {"list_of": ["mem_1730_1", 101]}, "mem_1730_1"],
        not_category=[[1], {"list_of": ["c", 101]}],
        fields=[[], [1], {"list_of": ["key", 65]}, "key"],
        timeout=[0, -1, 60.5, "5", None, True, _INF],
        where=[
            {"unknown": 1},
            {"user_id": "1730"},
            {"category": 1},
            {"category": None},
            {"created": True},
            {"created": {}},
            {"created": {"or_absent": True}},
            {"created": {"gt": 1}},
            {"category": {"gte": 1}},
            {"created": {"lte": "5"}},
            {"created": {"gte": _NAN}},
            {"created": {"is": {"integer": str(2**63)}}},
            {"category": {"any": []}},
            {"category": {"any": ["a", 1]}},
            {"category": {"any": "a"}},
            {"category": {"not_any": {"list_of": ["a", 101]}}},
            {"category": {"or_absent": 1, "is": "a"}},
            dict.fromkeys(("f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"), 1),
            [1],
        ],
    ),
    *_calls(
        "search_many",
        {},
        searches=[
            [],
            {"list_of": [_SEARCH, 17]},
            [_SEARCH, {**_SEARCH, "limit": 0}],
            [_SEARCH, {"vector": VECTOR}],
            [{**_SEARCH, "timeout": 1}],
            [{**_SEARCH, "after": "17/1-0"}],
            [{**_SEARCH, "user_id": "ann"}],
            [5],
            "text",
            [_SEARCH, {**_SEARCH, "category": None}],
            [_SEARCH, {**_SEARCH, "where": {"created": {"gt": 1}}}],
        ],
    ),
]
_GET = {**_USER, "point_ids": ["mem_1730_1"]}
OTHERS: list[Call] = [
    *_calls(
        "get",
        _GET,
        point_ids=[[], ["mem_1731_1"], [1], "mem_1730_1", {"list_of": ["mem_1730_1", 1001]}, None],
        vectors=[1],
        namespace=["*"],
        kind=[None, "note"],
    ),
    ("get of too many vectors", "get", {**_USER, "point_ids": {"list_of": ["mem_1730_1", 251]}, "vectors": True}),
    *_calls(
        "list",
        _USER,
        order=["name", None],
        limit=[0, 1001],
        cursor=[5, {"text_of": ["x", 513]}],
        active=[1, "all", None],
        namespace=["*"],
        category=[None],
    ),
    ("list of documents by update", "list", {**_DOCUMENTS, "order": "updated"}),
    ("list of active documents", "list", {**_DOCUMENTS, "active": True}),
    *_calls("count", _USER, user_id=[0, "ann"], namespace=["**"], where=[{"file_id": 1}], file_id=[None]),
    *_calls(
        "facet",
        {**_USER, "by": "category"},
        by=["created", "_point_id", "text", None, {"text_of": ["x", 65]}],
        limit=[0, 10001],
    ),
    *_calls("files", _USER, kind=["memory"], limit=[0, 10001], file_id=[None]),
    *_calls("stats", _USER, active=[None, 1], namespace=["A"]),
    *_calls("info", {}, timeout=[0, 61]),
    *_calls("health", {}, timeout=[0, "x"]),
    *_calls("count_all", {}, kind=["note"], category=[None]),
    *_calls("list_all", {"vectors": True}, limit=[251]),
    *_calls("facet_all", {}, by=["text"]),
]
RECEIPTS: list[Call] = [
    *_calls("wait_applied", {"receipt": AFTER}, receipt=[None, "17/1732000000000-0"], timeout=[0, 3601, "1"]),
    *_calls("states", {}, receipts=[None, [AFTER, 5], {"list_of": [AFTER, 1001]}]),
    *_calls("outcomes", {}, after=["", "5", "0-0", 5], count=[0, 1001, "5"], timeout=[-1, 3601, True]),
    ("search after text", "search", {**_SEARCH, "after": 5}),
]
_NOTE_USER = {"user_id": "ann@example.org", "kind": "note"}
NOTES: list[Call] = [
    ("note of an integer user", "upsert", {**NOTE, "user_id": 1730}),
    ("note of a user of digits", "upsert", {**NOTE, "user_id": "1730", "point_id": "note_1730_1"}),
    ("note of a user with _", "upsert", {**NOTE, "user_id": "a_b", "point_id": "note_a_b_1"}),
    ("memory of a text user", "upsert", {**UPSERT, "user_id": "ann"}),
    ("note of another dimension", "upsert", {**NOTE, "vector": [1, 2, 3, 4]}),
    ("note that is too far", "upsert", {**NOTE, "vector": [1e19, 0]}),
    *_payloads({"weight": 1}, {"weight": "1"}, {"stars": 1.5}, {"open": 0}, given=NOTE),
    ("patch of a field of notes", "patch", {**_NOTE_USER, "point_id": "note_ann@example.org_1", "unset": ["open"]}),
    ("patch of notes by file", "patch", {**_NOTE_USER, "file_id": 1, "unset": ["title"]}),
    ("purge of older notes", "purge", {**_NOTE_USER, "before": 5}),
    ("purge of notes of other models", "purge", {**_NOTE_USER, "other_than_model": 5}),
    ("purge of a bad text user", "purge", {"user_id": "a_b"}),
    ("search of notes by a float", "search", {**_NOTE_USER, "vector": [1, 2], "where": {"weight": 0.5}}),
    ("prune of notes", "prune", {**_NOTE_USER, "file_id": 1, "version": 1}),
    ("files of notes", "files", _NOTE_USER),
    ("list of notes by time", "list", {**_NOTE_USER, "order": "created"}),
]
REFUSED: dict[str, list[Call]] = {
    "default": [
        *(*UPSERTS, *PAYLOADS, *MANY, *PATCHES, *DELETES, *PURGES, *FILES, *SEARCHES, *OTHERS, *RECEIPTS),
    ],
    "kinds": NOTES,
    "none": [("user of a kind that is not known", "upsert", {**NOTE, "vector": [1]})],
}
"""The calls by the name of the limits."""

OF_PYTHON = ("Receipt.parse", "surrogate", "astype", "\\n", "redis+cluster://")
"""Parts of messages that only Python makes."""
