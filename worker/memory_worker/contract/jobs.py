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
"""The fields that select some of a user's points: the first for memories, the others for documents."""

UserId: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="The user who owns the points.")]
PointId: TypeAlias = Annotated[
    str, Meta(description="`mem_{user_id}_` for a memory or `doc_{user_id}_` for a document, then your own part.")
]
PointIds: TypeAlias = Annotated[
    list[str], Meta(min_length=1, max_length=MAX_POINT_IDS, description="Ids of the form of `point_id`.")
]
Vector: TypeAlias = Annotated[
    bytes | list[float], Meta(description="float32 little-endian bytes (base64 in JSON), or numbers.")
]
Payload: TypeAlias = Annotated[dict[str, Any], Meta(description="The fields of the point.")]
KindField: TypeAlias = Annotated[KindName, Meta(description="The kind of the points.")]
Namespace: TypeAlias = Annotated[str, Meta(description="Memories only: the namespace.")]
Category: TypeAlias = Annotated[str, Meta(description="Memories only: those of this category.")]
GroupKey: TypeAlias = Annotated[str, Meta(description="Documents only: those of this group.")]
FileId: TypeAlias = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, description="Documents only: the chunks of this file.")
]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SEARCH_LIMIT, description="Most hits.")]
MinScore: TypeAlias = Annotated[float, Meta(ge=-1, le=1, description="Lowest cosine similarity of a hit.")]
TimeoutMs: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_TIMEOUT_MS, description="Time from the push until the reply, in milliseconds.")
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a job: the dimension of vectors (``None``: not known yet), and the bytes of the encoded job."""

    dimension: int | None = None
    max_job_bytes: int = 1_048_576


class _Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True, forbid_unknown_fields=True):
    """The encoding of all jobs."""


class _PointJob(_Job, frozen=True, kw_only=True):
    """A job about points of a kind and, for memories, of a namespace (a separate collection)."""

    kind: KindField = "memory"
    namespace: Namespace | None = None


class _NarrowedJob(_PointJob, frozen=True, kw_only=True):
    """A job that may be narrowed to some points. An absent field narrows nothing. Null is refused as a mistake."""

    @property
    def narrowing(self) -> tuple[tuple[str, str | int], ...]:
        """The fields that narrow the job, with their values."""
        return tuple((name, value) for name in NARROWING if (value := getattr(self, name)) is not UNSET)


class Upsert(_PointJob, frozen=True, kw_only=True, tag="upsert"):
    """Write a whole point. It replaces an older point with the same ``point_id``."""

    user_id: UserId
    point_id: PointId
    vector: Vector
    payload: Payload = {}


class Delete(_PointJob, frozen=True, kw_only=True, tag="delete"):
    """Delete the points with these ids. Ids that do not exist are no error."""

    user_id: UserId
    point_ids: PointIds


class Purge(_NarrowedJob, frozen=True, kw_only=True, tag="purge"):
    """Delete all points of a user.

    Without ``kind`` it deletes memories and documents, and without ``namespace`` in every namespace. ``category``
    narrows it to some memories, and ``group_key`` and ``file_id`` to some documents.
    """

    user_id: UserId
    kind: KindField | UnsetType = UNSET  # type: ignore[assignment]  # a purge may delete both kinds
    namespace: Namespace | UnsetType = UNSET  # type: ignore[assignment]  # and in every namespace
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET

    @property
    def only_kind(self) -> KindName | None:
        """The only kind that the purge deletes; ``None``: both."""
        return None if self.kind is UNSET else self.kind

    @property
    def only_namespace(self) -> str | None:
        """The only namespace that the purge deletes in; ``None``: every one, and memories without a namespace."""
        return None if self.namespace is UNSET else self.namespace

    @property
    def is_narrowed(self) -> bool:
        """Whether the purge is narrowed to some of the user's points."""
        return bool(self.narrowing)


class Search(_NarrowedJob, frozen=True, kw_only=True, tag="search"):
    """Find the points of a user that are nearest to ``vector``, best first.

    ``limit`` and ``min_score`` default to 5 and 0.7 for memories, and to 10 and 0.3 for documents.
    """

    user_id: UserId
    vector: Vector
    limit: Limit | None = None
    min_score: MinScore | None = None
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    timeout_ms: TimeoutMs = 5000


class Get(_PointJob, frozen=True, kw_only=True, tag="get"):
    """Read points by their ids. Ids that do not exist are left out of the answer."""

    user_id: UserId
    point_ids: PointIds
    timeout_ms: TimeoutMs = 5000


class Info(_Job, frozen=True, kw_only=True, tag="info"):
    """Describe the collections: counts and the state of their indexes."""

    timeout_ms: TimeoutMs = 5000


WriteJob: TypeAlias = Upsert | Delete | Purge
ReadJob: TypeAlias = Search | Get | Info
