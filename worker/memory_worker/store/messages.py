"""Operations and reads as Qdrant's protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from qdrant_client import grpc as q

from memory_worker.contract import Search, Upsert
from memory_worker.contract.kinds import POINT_ID_FIELD, TENANT_FIELD, USER_ID_FIELD, Kind, UserId, primary_id
from memory_worker.contract.vectors import pack_vector
from memory_worker.store.filters import any_point_id, has_id, of_user
from memory_worker.store.operations import DeleteMatching, DeletePoints, Operation, PatchPoints, UpsertPoints
from memory_worker.store.point_bytes import append_point, sized, tag, varint
from memory_worker.store.selections import searched_by, with_fields
from memory_worker.store.values import put_payload

OVERSAMPLING = 2.0
"""A search with quantized vectors finds this many times its limit, then rescores. Else 1 of 13 hits was wrong."""

NOBODY = 0
"""A user id that nobody has. As text it is a number, so it is no user id of text, either."""
_PROBE = "probe"


class WriteRequest(NamedTuple):
    """A serialized ``UpdateBatchPoints`` for a collection, and how many operations it has."""

    collection: str
    body: bytes
    operations: int

    @classmethod
    def of(cls, message: q.UpdateBatchPoints) -> WriteRequest:
        """Serialize a message."""
        return cls(message.collection_name, message.SerializeToString(), len(message.operations))


def update_batch(
    collection: str, operations: Iterable[Operation], *, tenants: bool = False, integer_ids: bool = True
) -> WriteRequest:
    """Return one ordered request for all operations. Qdrant answers once all of them are applied.

    With ``tenants``, each written point names its user in the tenant field. Without ``integer_ids``, no point of the
    collection is under an integer id. Then upserts need not delete such points, which costs a quarter of a batch.
    """
    request = q.UpdateBatchPoints(collection_name=collection, wait=True, ordering=_STRONG)
    parts, count = [request.SerializeToString()], 0
    for operation in operations:
        match operation:
            case DeleteMatching():
                selector = request.operations.add().delete_points.points
                selector.filter.must.extend(of_user(operation.user_id, operation.where))
            case PatchPoints():
                _add_patch(request, operation)
            case DeletePoints():
                _add_delete(request, operation.point_ids)
            case UpsertPoints():
                primary_ids = [primary_id(point.point_id) for point in operation.points]
                if integer_ids:
                    _add_delete_of_older(request, operation.points, primary_ids)
                count += _move_operations(request, parts) + 1
                parts.append(_upsert(operation.points, primary_ids, tenants=tenants))
    count += _move_operations(request, parts)
    return WriteRequest(collection, b"".join(parts), count)


def _move_operations(request: q.UpdateBatchPoints, parts: list[bytes]) -> int:
    """Serialize and remove the operations of a request. Return how many there were.

    In protobuf the elements of a field may stand anywhere in a message, and keep their order.
    """
    parts += (_OPERATION + sized(operation.SerializeToString()) for operation in request.operations)
    count = len(request.operations)
    del request.operations[:]
    return count


def probe(collection: str, dimension: int, *, user_id: UserId = NOBODY, tenants: bool = False) -> WriteRequest:
    """Return a request with each type of operation. It writes and removes one point, which belongs to no user."""
    vector = pack_vector([1.0] * dimension)
    payload = {USER_ID_FIELD: user_id, POINT_ID_FIELD: _PROBE}
    point = Upsert(user_id=user_id, point_id=_PROBE, vector=vector, payload=payload)
    removed = DeletePoints((_PROBE,))
    operations: list[Operation] = [DeleteMatching(user_id), removed, UpsertPoints((point,)), removed]
    return update_batch(collection, operations, tenants=tenants)


def probe_of_deletes(collection: str, *, user_id: UserId = NOBODY) -> WriteRequest:
    """Return a request with each type of delete, for points that belong to no user."""
    return update_batch(collection, [DeleteMatching(user_id), DeletePoints((_PROBE,))])


def search(collection: str, kind: Kind, job: Search, *, rescored: bool = False) -> q.QueryPoints:
    """Return the query of a search job of this kind whose vector is packed.

    With ``rescored``, the quantized vectors find more points than the limit, and the original vectors select the best
    of them. This has no effect if nothing is quantized.
    """
    request = q.QueryPoints(
        collection_name=collection,
        filter=searched_by(job, kind),
        limit=job.limit or kind.default_limit,
        score_threshold=kind.default_min_score if job.min_score is None else job.min_score,
        with_payload=with_fields(job.fields),
    )
    if rescored:
        request.params.quantization.rescore = True
        request.params.quantization.oversampling = OVERSAMPLING
    request.query.nearest.dense.MergeFromString(_DATA + sized(_packed(job.vector)))
    return request


def lower_is_better(kind: Kind) -> bool:
    """Say whether the scores of a kind are distances."""
    return kind.distance in ("euclid", "manhattan")


def points_by_id(
    collection: str,
    user_id: UserId,
    point_ids: list[str],
    *,
    fields: list[str] | UnsetType = UNSET,
    vectors: bool = False,
) -> q.ScrollPoints:
    """Return the request for a user's points with these logical ids, under any primary id."""
    return q.ScrollPoints(
        collection_name=collection,
        filter=q.Filter(must=[*of_user(user_id), any_point_id(point_ids)]),
        limit=2 * len(point_ids),
        with_payload=with_fields(fields),
        with_vectors=q.WithVectorsSelector(enable=vectors),
    )


def as_query(page: q.ScrollPoints) -> q.QueryPoints:
    """Return a query for the same points as the first page of a scroll. Several queries can be sent as one request."""
    return q.QueryPoints(
        collection_name=page.collection_name,
        filter=page.filter,
        limit=page.limit,
        with_payload=page.with_payload,
        with_vectors=page.with_vectors,
    )


def _add_delete(request: q.UpdateBatchPoints, point_ids: Sequence[str]) -> None:
    condition = request.operations.add().delete_points.points.filter.should
    condition.append(has_id(map(primary_id, point_ids)))
    condition.append(any_point_id(point_ids))


def _add_patch(request: q.UpdateBatchPoints, patch: PatchPoints) -> None:
    selected = q.Filter(must=of_user(patch.user_id, patch.where))
    if patch.point_ids:
        by_ids = q.Filter(should=[has_id(map(primary_id, patch.point_ids)), any_point_id(patch.point_ids)])
        selected.must.append(q.Condition(filter=by_ids))
    selector = q.PointsSelector(filter=selected)

    def add_set() -> None:
        step = request.operations.add().set_payload
        put_payload(step.payload, patch.set)
        step.points_selector.CopyFrom(selector)

    def add_unset() -> None:
        step = request.operations.add().delete_payload
        step.keys.extend(patch.unset)
        step.points_selector.CopyFrom(selector)

    steps = [add_set] * bool(patch.set) + [add_unset] * bool(patch.unset)
    if any(condition.field in patch.set for condition in patch.where):
        steps.reverse()
    for add in steps:
        add()


def _add_delete_of_older(request: q.UpdateBatchPoints, points: Sequence[Upsert], primary_ids: Sequence[str]) -> None:
    """Delete older points under integer ids, so that the new points replace them."""
    older = request.operations.add().delete_points.points.filter
    older.must.append(any_point_id(point.point_id for point in points))
    older.must_not.append(has_id(primary_ids))


def _upsert(points: Sequence[Upsert], primary_ids: Sequence[str], *, tenants: bool) -> bytes:
    """Return the operation that writes points. The packed vectors of the jobs are their wire form, too."""
    parts: list[bytes] = []
    for uuid, point in zip(primary_ids, points, strict=True):
        payload = {**point.payload, TENANT_FIELD: str(point.user_id)} if tenants else point.payload
        append_point(parts, uuid, payload, _packed(point.vector))
    size = sum(map(len, parts))
    operation = _UPSERT + varint(size)
    return b"".join((_OPERATION, varint(len(operation) + size), operation, *parts))


def _packed(vector: object) -> bytes:
    if not isinstance(vector, bytes):
        raise TypeError("the vector is not packed")
    return vector


_STRONG = q.WriteOrdering(type=q.WriteOrderingType.Strong)
_OPERATION, _UPSERT = tag(q.UpdateBatchPoints, "operations"), tag(q.PointsUpdateOperation, "upsert")
_DATA = tag(q.DenseVector, "data")
