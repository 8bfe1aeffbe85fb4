"""The read jobs, which are answered at once."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.fields import (
    MAX_FACET_LIMIT,
    MAX_LIST_LIMIT,
    MAX_SEARCHES,
    After,
    Category,
    Conditions,
    Excluded,
    Fields,
    FileId,
    GroupKey,
    KindField,
    Limit,
    MinScore,
    Namespaces,
    NotCategory,
    PointId,
    PointIds,
    TimeoutMs,
    UserId,
    Vector,
)
from memory_worker.contract.jobs import Job, NarrowedJob, PointJob


class Search(NarrowedJob, frozen=True, kw_only=True, tag="search"):
    """Find the points of a user that are nearest to ``vector``, best first.

    With ``like`` instead of ``vector``, find the points nearest to the vector of that point, which is left out itself.
    ``limit`` and ``min_score`` default to 5 and 0.7 for memories, and to 10 and 0.3 for documents. If the score of a
    kind is a distance (euclid, manhattan), lower is better, and ``min_score`` is the largest distance of a hit.

    Several ``namespaces`` are searched at once. A point that is in several of them is found in each.
    """

    user_id: UserId
    vector: Vector | UnsetType = UNSET
    like: PointId | UnsetType = UNSET
    limit: Limit | None = None
    min_score: MinScore | None = None
    namespaces: Namespaces | UnsetType = UNSET
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    not_category: NotCategory = []
    exclude: Excluded = []
    where: Conditions = {}
    fields: Fields | UnsetType = UNSET
    after: After | None = None
    timeout_ms: TimeoutMs = 5000


class SearchMany(Job, frozen=True, kw_only=True, tag="search_many"):
    """Run several searches at once. Each has its own hits or its own error.

    ``after`` and ``timeout_ms`` of the searches themselves have no effect.
    """

    searches: Annotated[list[Search], Meta(min_length=1, max_length=MAX_SEARCHES, description="The searches.")]
    after: After | None = None
    timeout_ms: TimeoutMs = 5000


class Get(PointJob, frozen=True, kw_only=True, tag="get"):
    """Read points by their ids. Ids that do not exist are left out of the answer.

    With ``vectors``, their vectors are returned, too, and at most 250 ids are allowed.
    """

    user_id: UserId
    point_ids: PointIds
    vectors: Annotated[bool, Meta(description="Return the vectors.")] = False
    fields: Fields | UnsetType = UNSET
    after: After | None = None
    timeout_ms: TimeoutMs = 5000


class _SelectingJob(NarrowedJob, frozen=True, kw_only=True):
    """A read of the points of a user that meet conditions."""

    active: (
        Annotated[bool | Literal["any"], Meta(description="Kinds with `active` only: the points with this value.")]
        | UnsetType
    ) = UNSET
    category: Category | UnsetType = UNSET
    group_key: GroupKey | UnsetType = UNSET
    file_id: FileId | UnsetType = UNSET
    where: Conditions = {}
    after: After | None = None
    timeout_ms: TimeoutMs = 5000


class List(_SelectingJob, frozen=True, kw_only=True, tag="list"):
    """Read the points of a user page by page, in the order of their ids or newest first.

    ``cursor`` is that of the page before. A page may end early if the answer becomes too large.
    """

    user_id: UserId
    order: Annotated[Literal["id", "created", "updated"], Meta(description="`id`, or a time, newest first.")] = "id"
    limit: Annotated[int, Meta(ge=1, le=MAX_LIST_LIMIT, description="Most points.")] = 100
    cursor: Annotated[str, Meta(max_length=512, description="The cursor of the page before.")] | None = None
    fields: Fields | UnsetType = UNSET


class Count(_SelectingJob, frozen=True, kw_only=True, tag="count"):
    """Count points of a user, exactly. The namespace ``*`` is the base collection and every namespace.

    A point counts once in each collection that has it, and twice if it is also stored under an older integer id.
    """

    user_id: UserId


class Facet(_SelectingJob, frozen=True, kw_only=True, tag="facet"):
    """Count points of a user by the values of an indexed field, the most frequent value first.

    The namespace ``*`` is the base collection and every namespace.
    """

    user_id: UserId
    by: Annotated[str, Meta(max_length=64, description="An indexed field, except times and versions.")]
    limit: Annotated[int, Meta(ge=1, le=MAX_FACET_LIMIT, description="Most values.")] = 1000


class Files(_SelectingJob, frozen=True, kw_only=True, tag="files"):
    """Count the chunks of each file of a user, with the group that most of them are in."""

    user_id: UserId
    kind: KindField = "document"
    limit: Annotated[int, Meta(ge=1, le=MAX_FACET_LIMIT, description="Most files.")] = MAX_FACET_LIMIT


class Stats(_SelectingJob, frozen=True, kw_only=True, tag="stats"):
    """Count points of a user: all of them, and those of each category, group, file and embedding model."""

    user_id: UserId


class Info(Job, frozen=True, kw_only=True, tag="info"):
    """Describe the collections: counts and the state of their indexes."""

    timeout_ms: TimeoutMs = 5000


class Health(Job, frozen=True, kw_only=True, tag="health"):
    """Ask whether Qdrant answers and how old the backlog is."""

    timeout_ms: TimeoutMs = 500


class ListAll(_SelectingJob, frozen=True, kw_only=True, tag="list_all"):
    """Read the points of all users page by page. Only for the queue of all-user reads."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIST_LIMIT, description="Most points.")] = 100
    cursor: Annotated[str, Meta(max_length=512, description="The cursor of the page before.")] | None = None
    fields: Fields | UnsetType = UNSET
    vectors: Annotated[bool, Meta(description="Return the vectors.")] = False


class CountAll(_SelectingJob, frozen=True, kw_only=True, tag="count_all"):
    """Count the points of all users, exactly. Only for the queue of all-user reads."""


class FacetAll(_SelectingJob, frozen=True, kw_only=True, tag="facet_all"):
    """Count the points of all users by the values of an indexed field. Only for the queue of all-user reads."""

    by: Annotated[str, Meta(max_length=64, description="An indexed field, except times and versions.")]
    limit: Annotated[int, Meta(ge=1, le=MAX_FACET_LIMIT, description="Most values.")] = 1000


SelectingJob: TypeAlias = List | Count | Facet | Files | Stats | ListAll | CountAll | FacetAll
AdminJob: TypeAlias = ListAll | CountAll | FacetAll
UserReadJob: TypeAlias = Search | SearchMany | Get | List | Count | Facet | Files | Stats | Info | Health
ReadJob: TypeAlias = UserReadJob | AdminJob

READ_OPS: Final = tuple(str(job.__struct_config__.tag) for job in get_args(ReadJob))
