"""Kinds of points: the rules for their ids, users, vectors and payloads.

The built-in kinds are memories and document chunks. Their payload fields, indexes and search defaults are those of the
main app. So points written by this worker and points written by the app's own client can be in the same collections.
`memory_worker.contract.kind_specs` makes other kinds from a file.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from memory_worker.contract.errors import InvalidJob

KindName: TypeAlias = str
UserId: TypeAlias = int | str
IndexType = Literal["integer", "keyword", "bool"]
Distance = Literal["cosine", "dot", "euclid", "manhattan"]
UserIdType = Literal["integer", "string"]

POINT_ID_FIELD = "_point_id"
USER_ID_FIELD = "user_id"
VERSION_FIELD = "_version"
"""The run that wrote a chunk of a file. A prune deletes the chunks of older runs."""
CREATED_FIELD = "created"
UPDATED_FIELD = "updated"
MODEL_FIELD = "embedding_model_id"
RANGE_FIELDS = (CREATED_FIELD, UPDATED_FIELD, VERSION_FIELD)
"""Numbers that are only compared and ordered. Their indexes have ranges and no values, which costs half as much."""
TENANT_FIELD = "_tenant"
"""The user id as a keyword, in collections in which a worker 0.1 has indexed it."""
ALL_NAMESPACES = "*"
"""As a namespace: the base collection and all namespaces of the kind."""

_POINT_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
_POINT_ID_TAIL = re.compile(r"[A-Za-z0-9_.:\-]{1,200}")
_NAMESPACE = re.compile(r"[a-z0-9_\-]{1,64}")
_TEXT_USER_ID = re.compile(r"[A-Za-z0-9.@\-]{1,128}")


@dataclass(frozen=True, slots=True)
class Kind:
    """The rules that all points of one kind follow.

    ``collection`` is the base collection. ``dimension`` ``None`` means that of the deployment. ``payload_types`` has
    the fields whose type is checked. Other fields are stored unchanged. ``narrowing`` are the fields that may narrow a
    search or a purge. ``search_filter`` is part of every search. ``default_min_score`` ``None`` means no threshold.
    """

    name: KindName
    collection: str
    id_prefix: str
    namespaced: bool
    indexes: Mapping[str, IndexType]
    payload_types: Mapping[str, type]
    payload_defaults: Mapping[str, Any]
    narrowing: tuple[str, ...]
    search_filter: Mapping[str, bool]
    default_limit: int
    default_min_score: float | None
    dimension: int | None = None
    distance: Distance = "cosine"
    user_ids: UserIdType = "integer"

    def has_user(self, user_id: UserId) -> bool:
        """Return whether the type of ``user_id`` is that of this kind."""
        return isinstance(user_id, int) == (self.user_ids == "integer")

    def check_user_id(self, user_id: UserId) -> None:
        """Raise `InvalidJob` unless ``user_id`` may own points of this kind."""
        if not self.has_user(user_id):
            raise InvalidJob("user_id", f"kind {self.name!r} has {self.user_ids} user ids, got {user_id!r:.80}")
        if isinstance(user_id, str):
            check_text_user_id(user_id)

    def check_point_id(self, point_id: str, user_id: UserId, *, field: str = "point_id") -> None:
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

    def check_namespace(self, namespace: str | None, *, all_allowed: bool = False, field: str = "namespace") -> None:
        """Raise `InvalidJob` about ``field`` unless ``namespace`` may name a collection of this kind.

        With ``all_allowed`` it may also be `ALL_NAMESPACES`.
        """
        if namespace is None:
            return
        if not self.namespaced:
            raise InvalidJob(field, f"kind {self.name!r} has no namespaces")
        if not _NAMESPACE.fullmatch(namespace) and not (all_allowed and namespace == ALL_NAMESPACES):
            raise InvalidJob(field, f"{namespace[:80]!r}: 1 to 64 characters a-z 0-9 _ - are allowed")


def check_text_user_id(user_id: str) -> None:
    """Raise `InvalidJob` for a text that cannot be a user id.

    It has no ``_``, which separates it from the rest of a point id, and no ``:``, which separates it from the rest of a
    key in Redis. It is no decimal number, because an integer user id is written like that.
    """
    if not _TEXT_USER_ID.fullmatch(user_id):
        raise InvalidJob("user_id", f"{user_id[:80]!r}: 1 to 128 characters A-Z a-z 0-9 . @ - are allowed")
    if user_id.isdigit():
        raise InvalidJob("user_id", f"{user_id[:80]!r}: a user id of digits must be an integer")


_EMBEDDING_TYPES = {
    MODEL_FIELD: int,
    "embedding_provider": str,
    "embedding_model": str,
    "vector_dim": int,
    "indexed_at": str,
}

MEMORY = Kind(
    name="memory",
    collection="user_memories",
    id_prefix="mem",
    namespaced=True,
    indexes=MappingProxyType(
        {
            USER_ID_FIELD: "integer",
            "category": "keyword",
            POINT_ID_FIELD: "keyword",
            "active": "bool",
            CREATED_FIELD: "integer",
            UPDATED_FIELD: "integer",
            MODEL_FIELD: "integer",
        }
    ),
    payload_types=MappingProxyType(
        {
            "category": str,
            "key": str,
            "value": str,
            "source": str,
            "message_id": int,
            CREATED_FIELD: int,
            UPDATED_FIELD: int,
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
    collection="user_documents",
    id_prefix="doc",
    namespaced=False,
    indexes=MappingProxyType(
        {
            USER_ID_FIELD: "integer",
            "file_id": "integer",
            "group_key": "keyword",
            POINT_ID_FIELD: "keyword",
            CREATED_FIELD: "integer",
            MODEL_FIELD: "integer",
            VERSION_FIELD: "integer",
        }
    ),
    payload_types=MappingProxyType(
        {
            "file_id": int,
            "file_type": int,
            "chunk_index": int,
            "start_line": int,
            "end_line": int,
            CREATED_FIELD: int,
            "group_key": str,
            "text": str,
            VERSION_FIELD: int,
            **_EMBEDDING_TYPES,
        }
    ),
    payload_defaults=MappingProxyType({}),
    narrowing=("group_key", "file_id"),
    search_filter=MappingProxyType({}),
    default_limit=10,
    default_min_score=0.3,
)

Kinds: TypeAlias = Mapping[KindName, Kind]
KINDS: Kinds = MappingProxyType({"memory": MEMORY, "document": DOCUMENT})
"""The built-in kinds."""


def with_collections(kinds: Kinds, collections: Mapping[KindName, str]) -> Kinds:
    """Return kinds with other base collections."""
    return MappingProxyType(
        {name: replace(kind, collection=collections.get(name, kind.collection)) for name, kind in kinds.items()}
    )


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
