"""Calls that read."""

from __future__ import annotations

from typing import Any

from tests.golden_inputs.writes import PACKED, VECTOR, Call

_USER = {"user_id": 1730}
_SEARCH = {**_USER, "vector": VECTOR}
AFTER = {"receipt": "17/1732000000000-0"}
_ALL_TESTS: dict[str, Any] = {
    "category": {"is": "personal"},
    "key": {"any": ["a", "b"], "or_absent": True},
    "source": {"not_any": ["import"]},
    "created": {"gte": 1700000000, "lte": 1.5e9},
    "message_id": 7,
    "active": True,
    "value": "text",
    "updated": {"is": 5, "or_absent": False},
}
SEARCHES: list[Call] = [
    ("search", "search", _SEARCH),
    ("search by packed numbers", "search", {**_USER, "vector": PACKED}),
    ("search like a point", "search", {**_USER, "like": "mem_1730_1"}),
    ("search with limits", "search", {**_SEARCH, "limit": 200, "min_score": 0.5}),
    ("search with an integer score", "search", {**_SEARCH, "min_score": 0}),
    ("search in a category", "search", {**_SEARCH, "category": "personal"}),
    ("search in a namespace", "search", {**_SEARCH, "namespace": "feedback_positive"}),
    ("search in several namespaces", "search", {**_SEARCH, "namespaces": [None, "feedback_positive"]}),
    ("search of documents", "search", {**_SEARCH, "kind": "document"}),
    ("search in a group", "search", {**_SEARCH, "group_key": "WORK"}),
    ("search in a file", "search", {**_SEARCH, "file_id": 88}),
    (
        "search that leaves points out",
        "search",
        {**_SEARCH, "exclude": ["mem_1730_1"], "not_category": ["private", "old"]},
    ),
    ("search with every condition", "search", {**_SEARCH, "where": _ALL_TESTS}),
    ("search for some fields", "search", {**_SEARCH, "fields": ["key", "value"]}),
    ("search after a job", "search", {**_SEARCH, "after": AFTER}),
    ("search with a timeout", "search", {**_SEARCH, "timeout": 2.5}),
    (
        "search several",
        "search_many",
        {
            "searches": [
                _SEARCH,
                {"user_id": 1731, "like": "doc_1731_88_0", "file_id": 88, "limit": 3, "where": {"text": "a"}},
            ],
            "timeout": 1,
        },
    ),
]
OTHERS: list[Call] = [
    ("get", "get", {**_USER, "point_ids": ["mem_1730_1", "mem_1730_2"]}),
    (
        "get with options",
        "get",
        {
            **_USER,
            "kind": "document",
            "point_ids": ["doc_1730_88_0"],
            "vectors": True,
            "fields": ["text"],
            "after": AFTER,
            "timeout": 60,
        },
    ),
    ("list", "list", _USER),
    (
        "list with options",
        "list",
        {
            **_USER,
            "order": "created",
            "limit": 1000,
            "cursor": "abc",
            "active": "any",
            "category": "c",
            "namespace": "n",
            "fields": ["key"],
            "where": {"embedding_model_id": {"not_any": [42]}},
        },
    ),
    ("list of a file", "list", {**_USER, "file_id": 88}),
    ("count", "count", _USER),
    ("count in every namespace", "count", {**_USER, "namespace": "*", "active": True}),
    ("count of documents", "count", {**_USER, "kind": "document"}),
    ("count after a job", "count", {**_USER, "active": False, "after": AFTER}),
    ("facet", "facet", {**_USER, "by": "category"}),
    ("facet of documents", "facet", {**_USER, "by": "file_id", "limit": 10000}),
    ("facet in every namespace", "facet", {**_USER, "by": "embedding_model_id", "namespace": "*"}),
    ("files", "files", _USER),
    ("files with options", "files", {**_USER, "limit": 5, "group_key": "WORK"}),
    ("stats", "stats", _USER),
    ("stats of documents", "stats", {**_USER, "kind": "document", "where": {"created": {"lte": 5}}}),
    ("info", "info", {}),
    ("info with a timeout", "info", {"timeout": 0.25}),
    ("health", "health", {}),
    ("health with a timeout", "health", {"timeout": 5.0}),
    ("list of all users", "list_all", {"kind": "document", "limit": 250, "vectors": True, "cursor": "abc"}),
    ("count of all users", "count_all", {}),
    ("facet of all users", "facet_all", {"by": "category", "namespace": "*"}),
]
_NOTE_USER = {"user_id": "ann@example.org", "kind": "note"}
NOTES: list[Call] = [
    ("search of notes", "search", {**_NOTE_USER, "vector": [3, 4], "min_score": 250.5}),
    ("search of notes with conditions", "search", {**_NOTE_USER, "vector": [0, 0], "where": {"weight": {"gte": 1}}}),
    ("facet of notes", "facet", {**_NOTE_USER, "by": "stars"}),
    ("list of notes", "list", {**_NOTE_USER, "where": {"open": False}}),
]
READS: dict[str, list[Call]] = {"default": [*SEARCHES, *OTHERS], "kinds": NOTES}
"""The calls by the name of the limits."""
