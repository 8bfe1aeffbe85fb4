"""Calls that push write jobs."""

from __future__ import annotations

from typing import Any

VECTOR = [0.5, -0.25, 1.0, 0.125]
PACKED = {"float32": "AAAAPwAAgL4AAIA/AAAAPg=="}
UPSERT = {"user_id": 1730, "point_id": "mem_1730_1", "vector": VECTOR}
DOCUMENT = {"user_id": 1730, "kind": "document", "point_id": "doc_1730_88_0", "vector": VECTOR}
NOTE = {"kind": "note", "user_id": "ann@example.org", "point_id": "note_ann@example.org_1", "vector": [3, 4]}
DEEP: dict[str, Any] = {"a": {"b": [[], {}, [1, [2, {"c": None}]]]}}

Call = tuple[str, str, dict[str, Any]]
"""The name of a case, the method that is called, and its arguments."""

UPSERTS: list[Call] = [
    ("upsert without a payload", "upsert", UPSERT),
    ("upsert with an empty payload", "upsert", {**UPSERT, "payload": {}}),
    ("upsert with a payload of null", "upsert", {**UPSERT, "payload": None}),
    ("upsert with packed numbers", "upsert", {**UPSERT, "vector": PACKED}),
    ("upsert with integers as numbers", "upsert", {**UPSERT, "vector": [1, 0, -2, 3]}),
    ("upsert with numbers that float32 rounds", "upsert", {**UPSERT, "vector": [0.1, 1e-45, -0.0, 16777217]}),
    ("upsert with text", "upsert", {**UPSERT, "payload": {"category": "personal", "key": "", "value": 'a"b\\c\n\t/'}}),
    (
        "upsert with text that is not ASCII",
        "upsert",
        {**UPSERT, "payload": {"k\u00e9y": "\u00fc \u20ac \U0001f600 \u0000"}},
    ),
    ("upsert with a text of 31 bytes", "upsert", {**UPSERT, "payload": {"t": "x" * 31}}),
    ("upsert with a text of 32 bytes", "upsert", {**UPSERT, "payload": {"t": "x" * 32}}),
    ("upsert with a text of 256 bytes", "upsert", {**UPSERT, "payload": {"t": {"text_of": ["x", 256]}}}),
    ("upsert with small integers", "upsert", {**UPSERT, "payload": {"n": [0, 1, 127, 128, 255, 256, 65535, 65536]}}),
    (
        "upsert with negative integers",
        "upsert",
        {**UPSERT, "payload": {"n": [-1, -32, -33, -128, -129, -32768, -32769]}},
    ),
    (
        "upsert with large integers",
        "upsert",
        {**UPSERT, "payload": {"n": [2**31, 2**32 - 1, 2**32, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]}},
    ),
    ("upsert with floats", "upsert", {**UPSERT, "payload": {"f": [1.0, -0.0, 0.1, 1e300, 5e-324, -2.5e-8, 1e22]}}),
    ("upsert with null and booleans", "upsert", {**UPSERT, "payload": {"a": None, "b": True, "active": False}}),
    ("upsert with empty lists and maps", "upsert", {**UPSERT, "payload": {"list": [], "map": {}}}),
    ("upsert with nested values", "upsert", {**UPSERT, "payload": DEEP}),
    ("upsert with 16 levels", "upsert", {**UPSERT, "payload": {"a": {"nested_lists": 15}}}),
    ("upsert with keys of digits", "upsert", {**UPSERT, "payload": {"0": "a", "1": "b", "m": {"0": 1}}}),
    ("upsert with 15 fields", "upsert", {**UPSERT, "payload": {"map_of": 15}}),
    ("upsert with 16 fields", "upsert", {**UPSERT, "payload": {"map_of": 16}}),
    ("upsert with 256 fields", "upsert", {**UPSERT, "payload": {"map_of": 256}}),
    ("upsert with a list of 16", "upsert", {**UPSERT, "payload": {"l": {"list_of": [7, 16]}}}),
    (
        "upsert with times",
        "upsert",
        {
            **UPSERT,
            "payload": {
                "a": {"datetime": "2024-05-01T12:30:00+00:00"},
                "b": {"datetime": "2024-05-01T12:30:00.250000+02:00"},
            },
        },
    ),
    (
        "upsert with its own ids in the payload",
        "upsert",
        {**UPSERT, "payload": {"user_id": 1730, "_point_id": "mem_1730_1"}},
    ),
    ("upsert in a namespace", "upsert", {**UPSERT, "namespace": "feedback_positive"}),
    ("upsert with ref and notify", "upsert", {**UPSERT, "ref": "memory 12345 \u00fc", "notify": True}),
    ("upsert with ref", "upsert", {**UPSERT, "ref": "r"}),
    ("upsert with notify", "upsert", {**UPSERT, "notify": True}),
    ("upsert of the largest user", "upsert", {**UPSERT, "user_id": 2**63 - 1, "point_id": f"mem_{2**63 - 1}_1"}),
    ("upsert of a document", "upsert", {**DOCUMENT, "payload": {"file_id": 88, "chunk_index": 0, "text": "Hello"}}),
    (
        "upsert of many",
        "upsert_many",
        {"points": [UPSERT, {**DOCUMENT, "payload": {"file_id": 88}}, {**UPSERT, "ref": "2"}]},
    ),
    ("upsert of none", "upsert_many", {"points": []}),
]

_IDS = {"user_id": 1730, "point_ids": ["mem_1730_1", "mem_1730_2"]}
PATCHES: list[Call] = [
    ("patch by one id", "patch", {"user_id": 1730, "point_id": "mem_1730_1", "set": {"category": "work"}}),
    ("patch by ids", "patch", {**_IDS, "set": {"category": "work", "tags": ["a", {}, []]}, "unset": ["key", "value"]}),
    ("patch by one id and ids", "patch", {**_IDS, "point_id": "mem_1730_3", "unset": ["key"]}),
    ("patch in every namespace", "patch", {**_IDS, "namespace": "*", "set": {"active": False}}),
    ("patch in a namespace", "patch", {**_IDS, "namespace": "feedback_positive", "set": {"active": False}}),
    ("patch by category", "patch", {"user_id": 1730, "category": "old", "set": {"category": "new"}}),
    ("patch by group", "patch", {"user_id": 1730, "group_key": "WORK", "unset": ["group_key"]}),
    (
        "patch by file",
        "patch",
        {"user_id": 1730, "file_id": 88, "set": {"group_key": "WORK"}, "ref": "f", "notify": True},
    ),
    (
        "patch by file with a kind",
        "patch",
        {"user_id": 1730, "kind": "document", "file_id": -1, "set": {"group_key": "W"}},
    ),
]
DELETES: list[Call] = [
    ("delete of one", "delete", {"user_id": 1730, "point_id": "mem_1730_1"}),
    ("delete of many", "delete", _IDS),
    ("delete of one and many", "delete", {**_IDS, "point_id": "mem_1730_3"}),
    ("delete in every namespace", "delete", {**_IDS, "namespace": "*"}),
    ("delete in a namespace", "delete", {**_IDS, "namespace": "a-b_c"}),
    ("delete of documents", "delete", {"user_id": 1730, "kind": "document", "point_id": "doc_1730_88_0", "ref": "d"}),
]
PURGES: list[Call] = [
    ("purge", "purge", {"user_id": 1730}),
    ("purge of a kind", "purge", {"user_id": 1730, "kind": "document"}),
    ("purge of the default kind", "purge", {"user_id": 1730, "kind": "memory"}),
    ("purge of a namespace", "purge", {"user_id": 1730, "namespace": "feedback_positive"}),
    ("purge of a category", "purge", {"user_id": 1730, "category": "personal"}),
    ("purge of a group", "purge", {"user_id": 1730, "group_key": "WORK"}),
    ("purge of a file", "purge", {"user_id": 1730, "file_id": 88}),
    ("purge of a file in a group", "purge", {"user_id": 1730, "file_id": 88, "group_key": "WORK"}),
    ("purge of what is older", "purge", {"user_id": 1730, "before": 1714560000}),
    ("purge of other models", "purge", {"user_id": 1730, "kind": "memory", "other_than_model": 42}),
    (
        "purge with all",
        "purge",
        {"user_id": 1730, "category": "c", "namespace": "n", "before": 2**53, "other_than_model": -1},
    ),
    ("purge with ref and notify", "purge", {"user_id": 1730, "ref": "user 1730", "notify": True}),
]
_FILE = {"user_id": 1730, "file_id": 88, "version": 1732000000000}
FILES: list[Call] = [
    ("prune", "prune", _FILE),
    ("prune with ref and notify", "prune", {**_FILE, "ref": "file 88", "notify": True}),
    ("prune with the default kind", "prune", {**_FILE, "kind": "document"}),
    ("replace a file without chunks", "replace_file", {**_FILE, "chunks": []}),
    (
        "replace a file",
        "replace_file",
        {
            **_FILE,
            "chunks": [
                {"point_id": "doc_1730_88_0", "vector": VECTOR},
                {"point_id": "doc_1730_88_1", "vector": PACKED, "payload": {"file_id": 88, "text": "b"}},
                {"point_id": "doc_1730_88_2", "vector": VECTOR, "payload": {"_version": 1732000000000, "a": {}}},
            ],
            "ref": "file 88",
            "notify": True,
        },
    ),
]
_NOTE_USER = {"kind": "note", "user_id": "ann@example.org"}
NOTES: list[Call] = [
    ("upsert of a note", "upsert", {**NOTE, "payload": {"title": "t", "stars": 3, "weight": 0.5, "open": True}}),
    ("upsert of a note with a vector of zeros", "upsert", {**NOTE, "vector": [0, 0.0], "namespace": "shelf"}),
    ("upsert of a memory where dimensions differ", "upsert", UPSERT),
    ("upsert of a document where dimensions differ", "upsert", {**DOCUMENT, "vector": [1, 2, 3]}),
    (
        "upsert for a UUID",
        "upsert",
        {
            **NOTE,
            "user_id": "0b34bbd0-6f28-4b3f-8f5a-3f5d8b1f9e11",
            "point_id": "note_0b34bbd0-6f28-4b3f-8f5a-3f5d8b1f9e11_x:1",
        },
    ),
    ("patch of a note", "patch", {**_NOTE_USER, "point_id": "note_ann@example.org_1", "set": {"stars": 5}}),
    ("delete of a note", "delete", {**_NOTE_USER, "point_id": "note_ann@example.org_1", "namespace": "*"}),
    ("purge of notes", "purge", _NOTE_USER),
    ("purge of a text user", "purge", {"user_id": "ann@example.org"}),
]
WRITES: dict[str, list[Call]] = {
    "default": [*UPSERTS, *PATCHES, *DELETES, *PURGES, *FILES],
    "kinds": NOTES,
    "none": [
        ("upsert before any worker has published limits", "upsert", {**UPSERT, "vector": [1.5]}),
        ("purge before any worker has published limits", "purge", {"user_id": 1730}),
    ],
}
"""The calls by the name of the limits."""
