"""The limits that workers have published, by name: the fields of the hash ``mw:meta``."""

from __future__ import annotations

from typing import Any

_BUILT_IN: dict[str, dict[str, Any]] = {
    "memory": {
        "collection": "user_memories",
        "id_prefix": "mem",
        "namespaces": True,
        "fields": {"category": "str", "key": "str", "created": "int", "active": "bool"},
        "indexes": {"category": "keyword", "created": "integer", "active": "bool"},
        "narrowing": ["category"],
        "filter": {"active": True},
        "defaults": {"active": True},
        "dimension": 4,
    },
    "document": {
        "collection": "user_documents",
        "id_prefix": "doc",
        "fields": {"file_id": "int", "group_key": "str", "text": "str"},
        "narrowing": ["group_key", "file_id"],
        "dimension": 3,
    },
}
_OWN: dict[str, dict[str, Any]] = {
    "note": {
        "collection": "notes",
        "id_prefix": "note",
        "dimension": 2,
        "distance": "euclid",
        "user_ids": "string",
        "namespaces": True,
        "fields": {"title": "str", "stars": "int", "weight": "float", "open": "bool"},
        "indexes": {"title": "keyword", "stars": "integer", "open": "bool"},
        "defaults": {"open": True},
        "search_limit": 7,
    },
}

LIMITS: dict[str, dict[str, Any]] = {
    "none": {},
    "default": {"partitions": 32, "dimension": 4, "max_job_bytes": 2048},
    "kinds": {"partitions": 32, "max_job_bytes": 2048, "kinds": {**_BUILT_IN, **_OWN}},
}
