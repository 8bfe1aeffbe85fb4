"""Messages of Qdrant's gRPC, and the most frequent calls, for the suites of conformance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_client import grpc as q

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Operation = q.PointsUpdateOperation

ALL_PAYLOAD = q.WithPayloadSelector(enable=True)
ALL_VECTORS = q.WithVectorsSelector(enable=True)
INDEXES = {
    "user_id": q.FieldType.FieldTypeInteger,
    "_point_id": q.FieldType.FieldTypeKeyword,
    "category": q.FieldType.FieldTypeKeyword,
    "active": q.FieldType.FieldTypeBool,
}


def creation(
    name: str, size: int = 4, distance: q.Distance.ValueType = q.Distance.Cosine, **options: Any
) -> q.CreateCollection:
    params = q.VectorParams(size=size, distance=distance, **options.pop("vector", {}))
    return q.CreateCollection(
        collection_name=name, vectors_config=q.VectorsConfig(params=params), timeout=30, **options
    )


def value(of: Any) -> q.Value:
    match of:
        case list():
            return q.Value(list_value=q.ListValue(values=[value(item) for item in of]))
        case dict():
            return q.Value(struct_value=q.Struct(fields={key: value(item) for key, item in of.items()}))
        case None:
            return q.Value(null_value=q.NullValue.NULL_VALUE)
    kind = {bool: "bool_value", int: "integer_value", float: "double_value", str: "string_value"}[type(of)]
    return q.Value(**{kind: of})


def plain(of: q.Value) -> Any:
    kind = of.WhichOneof("kind")
    match kind:
        case "null_value":
            return None
        case "struct_value":
            return {key: plain(item) for key, item in of.struct_value.fields.items()}
        case "list_value":
            return [plain(item) for item in of.list_value.values]
        case _:
            return getattr(of, kind)


def pid(point_id: int | str) -> q.PointId:
    return q.PointId(num=point_id) if isinstance(point_id, int) else q.PointId(uuid=point_id)


def plain_id(point_id: q.PointId) -> int | str:
    return getattr(point_id, point_id.WhichOneof("point_id_options"))


def point(point_id: int | str, vector: Sequence[float] = (1, 0, 0, 0), **payload: Any) -> q.PointStruct:
    return q.PointStruct(
        id=pid(point_id),
        vectors=q.Vectors(vector=q.Vector(dense=q.DenseVector(data=vector))),
        payload={key: value(item) for key, item in payload.items()},
    )


def numbers(output: q.VectorsOutput) -> list[float]:
    """Return a vector of an answer; servers before and after 1.17 put it in different fields."""
    vector = output.vector
    return list(vector.dense.data if vector.WhichOneof("vector") == "dense" else vector.data)


def field(key: str, **condition: Any) -> q.Condition:
    if match := {name: item for name, item in condition.items() if name in q.Match.DESCRIPTOR.fields_by_name}:
        condition = {"match": q.Match(**match)}
    return q.Condition(field=q.FieldCondition(key=key, **condition))


def keywords(*strings: str) -> q.RepeatedStrings:
    return q.RepeatedStrings(strings=strings)


def integers(*numbers_: int) -> q.RepeatedIntegers:
    return q.RepeatedIntegers(integers=numbers_)


def has_id(*point_ids: int | str) -> q.Condition:
    return q.Condition(has_id=q.HasIdCondition(has_id=[pid(point_id) for point_id in point_ids]))


def by_ids(*point_ids: int | str) -> q.PointsSelector:
    return q.PointsSelector(points=q.PointsIdsList(ids=[pid(point_id) for point_id in point_ids]))


def by_filter(**conditions: Iterable[q.Condition]) -> q.PointsSelector:
    return q.PointsSelector(filter=q.Filter(**conditions))


def upsert(*structs: q.PointStruct, **options: Any) -> q.PointsUpdateOperation:
    return Operation(upsert=Operation.PointStructList(points=structs, **options))


def delete(selector: q.PointsSelector) -> q.PointsUpdateOperation:
    return Operation(delete_points=Operation.DeletePoints(points=selector))


@dataclass(frozen=True)
class Handle:
    """One collection, with the most frequent calls of the tests."""

    stub: q.PointsStub
    name: str

    def update(self, *operations: q.PointsUpdateOperation, wait: bool = True) -> q.UpdateBatchResponse:
        return self.stub.UpdateBatch(
            q.UpdateBatchPoints(collection_name=self.name, wait=wait, operations=operations), timeout=30
        )

    def index(self, name: str, params: q.PayloadIndexParams | None = None, **options: Any) -> None:
        """Index a field of the payload by ``field_type`` or by parameters."""
        self.stub.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=self.name, wait=True, field_name=name, field_index_params=params, **options
            ),
            timeout=30,
        )

    def query(self, vector: Sequence[float], **options: Any) -> list[q.ScoredPoint]:
        return list(self.stub.Query(self.query_request(vector, **options), timeout=30).result)

    def query_request(self, vector: Sequence[float], **options: Any) -> q.QueryPoints:
        nearest = q.Query(nearest=q.VectorInput(dense=q.DenseVector(data=vector)))
        return q.QueryPoints(collection_name=self.name, query=nearest, **options)

    def get(self, *point_ids: int | str) -> dict[int | str, q.RetrievedPoint]:
        response = self.stub.Get(
            q.GetPoints(
                collection_name=self.name,
                ids=[pid(point_id) for point_id in point_ids],
                with_payload=ALL_PAYLOAD,
                with_vectors=ALL_VECTORS,
            ),
            timeout=30,
        )
        return {plain_id(found.id): found for found in response.result}

    def payload(self, point_id: int | str) -> dict[str, Any]:
        return {key: plain(item) for key, item in self.get(point_id)[point_id].payload.items()}

    def count(self, **conditions: Iterable[q.Condition]) -> int:
        request = q.CountPoints(collection_name=self.name, filter=q.Filter(**conditions), exact=True)
        return int(self.stub.Count(request, timeout=30).result.count)

    def ids(self, **conditions: Iterable[q.Condition]) -> set[int | str]:
        request = q.ScrollPoints(collection_name=self.name, filter=q.Filter(**conditions), limit=1_000)
        return {plain_id(found.id) for found in self.stub.Scroll(request, timeout=30).result}
