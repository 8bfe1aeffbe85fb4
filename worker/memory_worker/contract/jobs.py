"""The jobs that a producer may push, and their limits."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.kinds import KindName

MAX_POINT_IDS = 1000
MAX_SEARCH_LIMIT = 100
MAX_TIMEOUT_MS = 60_000

NARROWING = ("category", "group_key", "file_id")
"""The fields that narrow a job to some of a user's points. Memories have the first, documents the others."""

UserId: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="The user who owns the points.")]
PointIds: TypeAlias = Annotated[list[str], Meta(min_length=1, max_length=MAX_POINT_IDS)]
FileId: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Vector: TypeAlias = Annotated[
    bytes | list[float], Meta(description="float32 little-endian bytes (base64 in JSON), or numbers.")
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a job: the ``dimension`` of its vector (``None`` if not known yet), and its size once encoded."""

    dimension: int | None = None
    max_job_bytes: int = 1_048_576


class _Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True, forbid_unknown_fields=True):
    """Base of all jobs. It configures their encoding."""


class _PointJob(_Job, frozen=True, kw_only=True):
    """Base of jobs about points of one kind. A namespace of memories has its own collection."""

    kind: KindName = "memory"
    namespace: str | None = None


class _NarrowedJob(_PointJob, frozen=True, kw_only=True):
    """Base of jobs that may be narrowed to some points. A null is refused, because it may be a mistake."""

    @property
    def narrowing(self) -> tuple[tuple[str, str | int], ...]:
        """The fields that narrow the job, with their values."""
        return tuple((name, value) for name in NARROWING if (value := getattr(self, name)) is not UNSET)


class Upsert(_PointJob, frozen=True, kw_only=True, tag="upsert"):
    """Write a whole point. An older point with the same ``point_id`` is replaced."""

    user_id: UserId
    point_id: str
    vector: Vector
    payload: dict[str, Any] = {}


class Delete(_PointJob, frozen=True, kw_only=True, tag="delete"):
    """Delete the points with these ids. Ids that do not exist are ignored."""

    user_id: UserId
    point_ids: PointIds


class Purge(_NarrowedJob, frozen=True, kw_only=True, tag="purge"):
    """Delete all points of a user.

    ``kind`` and ``namespace`` limit the purge to one kind or one namespace. ``category`` (for memories), ``group_key``
    and ``file_id`` (for documents) narrow it further.
    """

    user_id: UserId
    kind: KindName | UnsetType = UNSET  # type: ignore[assignment]  # UNSET means both kinds
    namespace: str | UnsetType = UNSET  # type: ignore[assignment]  # UNSET means all namespaces
    category: str | UnsetType = UNSET
    group_key: str | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET

    @property
    def only_kind(self) -> KindName | None:
        """The kind that the purge is limited to, or ``None`` for both kinds."""
        return None if self.kind is UNSET else self.kind

    @property
    def only_namespace(self) -> str | None:
        """The namespace that the purge is limited to, or ``None`` for all memories with or without a namespace."""
        return None if self.namespace is UNSET else self.namespace

    @property
    def is_narrowed(self) -> bool:
        """Whether the purge keeps some of the user's points in its kinds and namespaces."""
        return bool(self.narrowing)


class Search(_NarrowedJob, frozen=True, kw_only=True, tag="search"):
    """Find the points of a user that are nearest to ``vector``.

    The defaults of ``limit`` and ``min_score`` depend on the kind: 5 and 0.7 for memories, 10 and 0.3 for documents.
    ``timeout_ms`` counts from the push.
    """

    user_id: UserId
    vector: Vector
    limit: Annotated[int, Meta(ge=1, le=MAX_SEARCH_LIMIT)] | None = None
    min_score: Annotated[float, Meta(ge=-1, le=1)] | None = None
    category: str | UnsetType = UNSET
    group_key: str | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


class Get(_PointJob, frozen=True, kw_only=True, tag="get"):
    """Read points by their ids. Ids that do not exist are left out of the answer."""

    user_id: UserId
    point_ids: PointIds
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


class Info(_Job, frozen=True, kw_only=True, tag="info"):
    """Describe the collections: their counts and the state of their indexes."""

    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


WriteJob: TypeAlias = Upsert | Delete | Purge
ReadJob: TypeAlias = Search | Get | Info
