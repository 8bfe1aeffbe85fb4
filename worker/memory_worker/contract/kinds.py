"""The two kinds of points: memories and document chunks.

Payload fields, indexes and search defaults are those of the main app. So points written by this worker and points
written by the app's own client can be in the same collections.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from memory_worker.contract.errors import InvalidJob

KindName = Literal["memory", "document"]
IndexType = Literal["integer", "keyword", "bool"]

POINT_ID_FIELD = "_point_id"
USER_ID_FIELD = "user_id"
TENANT_FIELD = "_tenant"
"""The user id as a keyword, because Qdrant's tenant index needs one. Only written with ``QDRANT_TENANT_INDEX``."""

_POINT_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
_POINT_ID_TAIL = re.compile(r"[A-Za-z0-9_.:\-]{1,200}")
_NAMESPACE = re.compile(r"[a-z0-9_\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kind:
    """The rules that all points of one kind follow.

    ``payload_types`` has the fields whose type is checked. Other fields are stored unchanged. ``narrowing`` are the
    fields that may narrow a search or a purge. ``search_filter`` is part of every search.
    """

    name: KindName
    id_prefix: str
    namespaced: bool
    indexes: Mapping[str, IndexType]
    payload_types: Mapping[str, type]
    payload_defaults: Mapping[str, Any]
    narrowing: tuple[str, ...]
    search_filter: Mapping[str, bool]
    default_limit: int
    default_min_score: float

    def check_point_id(self, point_id: str, user_id: int, *, field: str = "point_id") -> None:
        """Raise `InvalidJob` about ``field`` unless ``point_id`` belongs to this kind and this user."""
        owner = f"{self.id_prefix}_{user_id}_"
        if not point_id.startswith(owner):
            raise InvalidJob(
                field,
                f"{point_id[:80]!r} does not belong to user {user_id}: it must start with {owner!r}",
            )
        if not _POINT_ID_TAIL.fullmatch(point_id, len(owner)):
            raise InvalidJob(
                field,
                f"{point_id[:80]!r}: 1 to 200 characters A-Z a-z 0-9 _ . : - must follow {owner!r}",
            )

    def check_namespace(self, namespace: str | None) -> None:
        """Raise `InvalidJob` unless ``namespace`` may name a collection of this kind."""
        if namespace is None:
            return
        if not self.namespaced:
            raise InvalidJob("namespace", f"kind {self.name!r} has no namespaces")
        if not _NAMESPACE.fullmatch(namespace):
            raise InvalidJob("namespace", f"{namespace[:80]!r}: 1 to 64 characters a-z 0-9 _ - are allowed")


_EMBEDDING_TYPES = {
    "embedding_model_id": int,
    "embedding_provider": str,
    "embedding_model": str,
    "vector_dim": int,
    "indexed_at": str,
}

MEMORY = Kind(
    name="memory",
    id_prefix="mem",
    namespaced=True,
    indexes=MappingProxyType(
        {USER_ID_FIELD: "integer", "category": "keyword", POINT_ID_FIELD: "keyword", "active": "bool"}
    ),
    payload_types=MappingProxyType(
        {
            "category": str,
            "key": str,
            "value": str,
            "source": str,
            "message_id": int,
            "created": int,
            "updated": int,
            "active": bool,
            **_EMBEDDING_TYPES,
        }
    ),
    payload_defaults=MappingProxyType({"active": True}),
    narrowing=("category",),
    search_filter=MappingProxyType({"active": True}),
    default_limit=5,
    default_min_score=0.7,
)

DOCUMENT = Kind(
    name="document",
    id_prefix="doc",
    namespaced=False,
    indexes=MappingProxyType(
        {USER_ID_FIELD: "integer", "file_id": "integer", "group_key": "keyword", POINT_ID_FIELD: "keyword"}
    ),
    payload_types=MappingProxyType(
        {
            "file_id": int,
            "file_type": int,
            "chunk_index": int,
            "start_line": int,
            "end_line": int,
            "created": int,
            "group_key": str,
            "text": str,
            **_EMBEDDING_TYPES,
        }
    ),
    payload_defaults=MappingProxyType({}),
    narrowing=("group_key", "file_id"),
    search_filter=MappingProxyType({}),
    default_limit=10,
    default_min_score=0.3,
)

KINDS: Mapping[KindName, Kind] = MappingProxyType({"memory": MEMORY, "document": DOCUMENT})


def primary_id(point_id: str) -> str:
    """Return the UUID under which Qdrant stores the logical ``point_id``. It is a UUIDv5, as in the main app."""
    # uuid.uuid5 takes three times as long, and this runs for every point that is written.
    digest = bytearray(hashlib.sha1(_POINT_NAMESPACE.bytes + point_id.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def namespace_of(collection: str, base: str) -> str | None:
    """Return the namespace whose memories are in ``collection``, or ``None`` if its name does not extend ``base``."""
    namespace = collection.removeprefix(f"{base}_")
    if namespace == collection or not _NAMESPACE.fullmatch(namespace):
        return None
    return namespace
