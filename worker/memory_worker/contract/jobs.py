"""The write jobs that a producer may push, and what all jobs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.conditions import Condition, Where
from memory_worker.contract.fields import (
    MAX_PATCH_FIELDS,
    NARROWING,
    Before,
    Category,
    FileId,
    GroupKey,
    KindField,
    Namespace,
    Notify,
    OtherThanModel,
    Payload,
    PointId,
    PointIds,
    Ref,
    UserId,
    Vector,
    Version,
)
from memory_worker.contract.kinds import CREATED_FIELD, KINDS, MODEL_FIELD, VERSION_FIELD, Kind, KindName


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is checked against: the kinds, the dimension of vectors, and the bytes of the encoded job.

    ``dimension`` is that of kinds without their own. ``None``: not known yet.
    """

    dimension: int | None = None
    max_job_bytes: int = 1_048_576
    kinds: Mapping[str, Kind] = KINDS

    @property
    def has_dimensions(self) -> bool:
        """Whether the dimension of every kind is known."""
        return self.dimension is not None or all(kind.dimension for kind in self.kinds.values())

    def dimension_of(self, kind: Kind) -> int | None:
        """Return the dimension of a kind's vectors, or ``None`` if it is not known yet."""
        return self.dimension if kind.dimension is None else kind.dimension


class Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True, forbid_unknown_fields=True):
    """The encoding of all jobs."""


class PointJob(Job, frozen=True, kw_only=True):
    """A job about points of a kind and, for memories, of a namespace (a separate collection)."""

    kind: KindField = "memory"
    namespace: Namespace | None = None


class NarrowedJob(PointJob, frozen=True, kw_only=True):
    """A job that may be narrowed to some points. An absent field narrows nothing. Null is refused as a mistake."""

    null_advice: ClassVar[str] = "leave it out to find more"
    """What to do instead of narrowing a job by null."""

    @property
    def narrowing(self) -> Where:
        """The conditions on the narrowing fields that are given."""
        return tuple(Condition(name, value) for name in NARROWING if (value := getattr(self, name, UNSET)) is not UNSET)


class Upsert(PointJob, frozen=True, kw_only=True, tag="upsert"):
    """Write a whole point. It replaces an older point with the same ``point_id``."""

    user_id: UserId
    point_id: PointId
    vector: Vector
    payload: Payload = {}
    ref: Ref | None = None
    notify: Notify = False


class Delete(PointJob, frozen=True, kw_only=True, tag="delete"):
    """Delete the points with these ids. Ids that do not exist are no error.

    The namespace ``*`` is the base collection and every namespace.
    """

    user_id: UserId
    point_ids: PointIds
    ref: Ref | None = None
    notify: Notify = False


class Purge(NarrowedJob, frozen=True, kw_only=True, tag="purge"):
    """Delete all points of a user.

    Without ``kind`` it deletes memories and documents, and without ``namespace`` in every namespace. ``category``
    narrows it to some memories, and ``group_key`` and ``file_id`` to some documents. ``before`` narrows it to older
    points, and ``other_than_model`` to points of other embedding models.
    """

    null_advice: ClassVar[str] = "leave it out to delete more"

    user_id: UserId
    kind: KindField | UnsetType = UNSET  # type: ignore[assignment]  # a purge may delete all kinds
    namespace: Namespace | UnsetType = UNSET  # type: ignore[assignment]  # and in every namespace
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    before: Before | UnsetType = UNSET
    other_than_model: OtherThanModel | UnsetType = UNSET
    ref: Ref | None = None
    notify: Notify = False

    @property
    def only_kind(self) -> KindName | None:
        """The only kind that the purge deletes; ``None``: all of them."""
        return None if self.kind is UNSET else self.kind

    @property
    def only_namespace(self) -> str | None:
        """The only namespace that the purge deletes in; ``None``: every one, and points without a namespace."""
        return None if self.namespace is UNSET else self.namespace

    @property
    def where(self) -> Where:
        """The conditions to which the purge is narrowed."""
        found = list(self.narrowing)
        if self.before is not UNSET:
            found.append(Condition(CREATED_FIELD, self.before, "below"))
        if self.other_than_model is not UNSET:
            found.append(Condition(MODEL_FIELD, self.other_than_model, "is_not"))
        return tuple(found)

    @property
    def is_narrowed(self) -> bool:
        """Whether the purge is narrowed to some of the user's points."""
        return bool(self.where)


class Patch(NarrowedJob, frozen=True, kw_only=True, tag="patch"):
    """Change some payload fields of existing points. Their vectors stay.

    Give exactly one target: ``point_ids``, ``category``, ``group_key`` or ``file_id``. ``set`` has new values, and
    ``unset`` the names of fields to remove. Points that do not exist are no error. With ``point_ids``, the namespace
    ``*`` is the base collection and every namespace.
    """

    null_advice: ClassVar[str] = "leave it out"

    user_id: UserId
    point_ids: PointIds | UnsetType = UNSET
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    set: Annotated[dict[str, Any], Meta(max_length=MAX_PATCH_FIELDS, description="New values of fields.")] = {}
    unset: Annotated[list[str], Meta(max_length=MAX_PATCH_FIELDS, description="Fields to remove.")] = []
    ref: Ref | None = None
    notify: Notify = False

    @property
    def where(self) -> Where:
        """The condition that selects the points; none if they are selected by their ids."""
        return self.narrowing


class Prune(PointJob, frozen=True, kw_only=True, tag="prune"):
    """Delete the chunks of a file that an older run wrote: those whose ``_version`` is lower or absent.

    Push it after the chunks of the new run, whose payloads have ``_version``.
    """

    user_id: UserId
    kind: KindField = "document"
    file_id: FileId
    version: Version
    ref: Ref | None = None
    notify: Notify = False

    @property
    def where(self) -> Where:
        """The conditions that select the chunks of older runs."""
        older = Condition(VERSION_FIELD, self.version, "below_or_absent")
        return (Condition("file_id", self.file_id), older)


WriteJob: TypeAlias = Upsert | Delete | Purge | Patch | Prune

WRITE_OPS: Final = tuple(str(job.__struct_config__.tag) for job in get_args(WriteJob))
