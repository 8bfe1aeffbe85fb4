"""The fields of jobs: their types, limits and descriptions."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.kinds import KindName

MAX_POINT_IDS = 1000
MAX_POINTS_WITH_VECTORS = 250
MAX_SEARCH_LIMIT = 200
MAX_SEARCHES = 16
MAX_NAMESPACES = 16
MAX_LIST_LIMIT = 1000
MAX_FACET_LIMIT = 10_000
MAX_PATCH_FIELDS = 64
MAX_WHERE = 8
MAX_VALUES = 100
MAX_FIELDS = 64
MAX_REF_CHARACTERS = 128
MAX_TIMEOUT_MS = 60_000
MAX_NUMBER = 2**53
"""Qdrant compares ranges as 64-bit floats, which hold every integer up to this one."""

NARROWING = ("category", "group_key", "file_id")
"""The fields that select some of a user's points: the first for memories, the others for documents."""

UserId: TypeAlias = (
    Annotated[int, Meta(ge=1, le=2**63 - 1, description="The user who owns the points.")]
    | Annotated[str, Meta(min_length=1, max_length=128, description="For kinds whose user ids are text.")]
)
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
KindField: TypeAlias = Annotated[
    KindName, Meta(pattern="^[a-z][a-z0-9_]{0,31}$", description="The kind of the points.")
]
Namespace: TypeAlias = Annotated[str, Meta(description="Kinds with namespaces only: the namespace.")]
Category: TypeAlias = Annotated[str, Meta(description="Memories only: those of this category.")]
GroupKey: TypeAlias = Annotated[str, Meta(description="Documents only: those of this group.")]
FileId: TypeAlias = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, description="Documents only: the chunks of this file.")
]
Before: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_NUMBER, description="Unix seconds: only points whose `created` is lower.")
]
OtherThanModel: TypeAlias = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, description="Only points that have another `embedding_model_id`.")
]
Version: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_NUMBER, description="The run that wrote the file, such as its time in milliseconds.")
]
Ref: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=MAX_REF_CHARACTERS, description="Your own name of the job, for its outcome.")
]
Notify: TypeAlias = Annotated[bool, Meta(description="Report in the outcomes that the job was applied.")]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SEARCH_LIMIT, description="Most hits.")]
MinScore: TypeAlias = Annotated[
    float,
    Meta(description="Lowest score of a hit. For cosine it is -1 to 1. For distances it is the largest distance."),
]
TimeoutMs: TypeAlias = Annotated[
    int, Meta(ge=1, le=MAX_TIMEOUT_MS, description="Time from the push until the reply, in milliseconds.")
]
After: TypeAlias = Annotated[
    str, Meta(max_length=64, description="A receipt: answer `not_applied` unless its job has been applied.")
]
Fields: TypeAlias = Annotated[
    list[str], Meta(min_length=1, max_length=MAX_FIELDS, description="The payload fields to return. Default: all.")
]
Namespaces: TypeAlias = Annotated[
    list[str | None],
    Meta(min_length=1, max_length=MAX_NAMESPACES, description="Several namespaces. Null is the base collection."),
]
Excluded: TypeAlias = Annotated[list[str], Meta(max_length=MAX_VALUES, description="Ids of points to leave out.")]
NotCategory: TypeAlias = Annotated[
    list[str], Meta(max_length=MAX_VALUES, description="Categories to leave out. Points without one are found.")
]
Scalar: TypeAlias = bool | int | float | str


class FieldCondition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename={"is_": "is"}
):
    """A condition on a field of the payload. All tests that are given must hold.

    ``any`` and ``not_any`` hold for present values only, as do ``gte`` and ``lte``, which need numbers. With
    ``or_absent``, a point without the field meets the condition, too.
    """

    is_: Scalar | UnsetType = UNSET
    any: Annotated[list[Scalar], Meta(min_length=1, max_length=MAX_VALUES)] | UnsetType = UNSET
    not_any: Annotated[list[Scalar], Meta(min_length=1, max_length=MAX_VALUES)] | UnsetType = UNSET
    gte: int | float | UnsetType = UNSET
    lte: int | float | UnsetType = UNSET
    or_absent: bool = False


Conditions: TypeAlias = Annotated[
    dict[str, Scalar | FieldCondition],
    Meta(max_length=MAX_WHERE, description="Fields with a value, or with conditions. All must hold."),
]
