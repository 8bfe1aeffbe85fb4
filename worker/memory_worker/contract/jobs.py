"""The jobs that a producer may push, and the limits that they must keep."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.kinds import KindName

MAX_POINT_IDS = 1000
MAX_SEARCH_LIMIT = 100
MAX_TIMEOUT_MS = 60_000

NARROWING = ("category", "group_key", "file_id")
"""The fields that spare some of a user's points: of memories the first, of documents the others."""

UserId: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="The user who owns the points.")]
PointIds: TypeAlias = Annotated[list[str], Meta(min_length=1, max_length=MAX_POINT_IDS)]
FileId: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Vector: TypeAlias = Annotated[
    bytes | list[float], Meta(description="float32 little-endian bytes (base64 in JSON), or numbers.")
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may measure: ``dimension`` of vectors (``None``: not known yet), ``max_job_bytes`` once encoded."""

    dimension: int | None = None
    max_job_bytes: int = 1_048_576


class _Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True, forbid_unknown_fields=True):
    """What all jobs have in common: their encoding."""


class _PointJob(_Job, frozen=True, kw_only=True):
    """What every job about points carries: a kind and, for memories, a namespace (a collection of their own)."""

    kind: KindName = "memory"
    namespace: str | None = None


class _NarrowedJob(_PointJob, frozen=True, kw_only=True):
    """A job whose reach may be narrowed. What is left out narrows nothing, and null is refused: it may be a mistake."""

    @property
    def narrowing(self) -> tuple[tuple[str, str | int], ...]:
        """The fields that narrow it, with their values."""
        return tuple((name, value) for name in NARROWING if (value := getattr(self, name)) is not UNSET)


class Upsert(_PointJob, frozen=True, kw_only=True, tag="upsert"):
    """Write a point, whole: an older point of the same ``point_id`` is replaced."""

    user_id: UserId
    point_id: str
    vector: Vector
    payload: dict[str, Any] = {}


class Delete(_PointJob, frozen=True, kw_only=True, tag="delete"):
    """Delete the points of these ids; ids that do not exist are no error."""

    user_id: UserId
    point_ids: PointIds


class Purge(_NarrowedJob, frozen=True, kw_only=True, tag="purge"):
    """Delete all points of a user, of one kind or (without ``kind``) of both.

    Without a namespace it reaches every namespace; ``category`` (memories), ``group_key`` and ``file_id`` (documents)
    narrow it.
    """

    user_id: UserId
    kind: KindName | UnsetType = UNSET  # type: ignore[assignment]  # wider on purpose: a purge may reach both kinds
    namespace: str | UnsetType = UNSET  # type: ignore[assignment]  # and every namespace
    category: str | UnsetType = UNSET
    group_key: str | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET

    @property
    def only_kind(self) -> KindName | None:
        """The one kind that it reaches; ``None``: both."""
        return None if self.kind is UNSET else self.kind

    @property
    def only_namespace(self) -> str | None:
        """The one namespace that it reaches; ``None``: every one, and memories without."""
        return None if self.namespace is UNSET else self.namespace

    @property
    def is_narrowed(self) -> bool:
        """Whether it spares some of the user's points in its reach."""
        return bool(self.narrowing)


class Search(_NarrowedJob, frozen=True, kw_only=True, tag="search"):
    """Find the points of a user that are nearest to ``vector``.

    ``limit`` and ``min_score`` default to the kind's (5 and 0.7 for memories, 10 and 0.3 for documents);
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
    """Read points by their ids; ids that do not exist are left out of the answer."""

    user_id: UserId
    point_ids: PointIds
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


class Info(_Job, frozen=True, kw_only=True, tag="info"):
    """Describe the collections: counts and the state of their indexes."""

    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


WriteJob: TypeAlias = Upsert | Delete | Purge
ReadJob: TypeAlias = Search | Get | Info
