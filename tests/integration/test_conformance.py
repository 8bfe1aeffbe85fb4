"""Qdrant's gRPC as this project uses it, shown on the embedded engine or on the server at ``TEST_QDRANT_URL``.

Everything here is true of Qdrant servers from version 1.15 on.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Operation = q.PointsUpdateOperation

ALL_PAYLOAD = q.WithPayloadSelector(enable=True)
ALL_VECTORS = q.WithVectorsSelector(enable=True)
INDEXES = {
    "user_id": q.FieldType.FieldTypeInteger,
    "_point_id": q.FieldType.FieldTypeKeyword,
    "category": q.FieldType.FieldTypeKeyword,
    "active": q.FieldType.FieldTypeBool,
}


@pytest.fixture
def collections(qdrant_channel: grpc.Channel) -> q.CollectionsStub:
    return q.CollectionsStub(qdrant_channel)


@pytest.fixture
def points(qdrant_channel: grpc.Channel) -> q.PointsStub:
    return q.PointsStub(qdrant_channel)


def creation(name: str, size: int = 4, **options: Any) -> q.CreateCollection:
    params = q.VectorParams(size=size, distance=q.Distance.Cosine, **options.pop("vector", {}))
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


@pytest.fixture
def handle(collections: q.CollectionsStub, points: q.PointsStub, collection_name: str) -> Handle:
    """A collection of four dimensions with the indexes of memories."""
    collections.Create(creation(collection_name))
    for name, field_type in INDEXES.items():
        points.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=collection_name, wait=True, field_name=name, field_type=field_type
            )
        )
    return Handle(points, collection_name)


@pytest.fixture
def refusal() -> Callable[..., grpc.RpcError]:
    """Call something that must fail with a status, and return the error."""

    def call(code: grpc.StatusCode, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as raised:
            function(*arguments, **options)
        assert raised.value.code() is code, raised.value.details()
        return raised.value

    return call


@pytest.fixture
def server_version(qdrant_channel: grpc.Channel) -> tuple[int, ...]:
    version = q.QdrantStub(qdrant_channel).HealthCheck(q.HealthCheckRequest()).version
    return tuple(int(part) for part in version.split(".")[:2])


class TestHealth:
    def test_the_version_is_reported(self, server_version: tuple[int, ...]) -> None:
        assert server_version >= (1, 15)


class TestCollections:
    def test_a_collection_is_created_listed_and_deleted(
        self, collections: q.CollectionsStub, collection_name: str
    ) -> None:
        exists = q.CollectionExistsRequest(collection_name=collection_name)
        assert not collections.CollectionExists(exists).result.exists
        assert collections.Create(creation(collection_name)).result is True
        assert collections.CollectionExists(exists).result.exists
        assert collection_name in {c.name for c in collections.List(q.ListCollectionsRequest()).collections}
        deletion = q.DeleteCollection(collection_name=collection_name)
        assert collections.Delete(deletion).result is True
        assert collections.Delete(deletion).result is False
        assert not collections.CollectionExists(exists).result.exists

    def test_a_collection_that_is_created_again_is_empty(self, collections: q.CollectionsStub, handle: Handle) -> None:
        handle.update(upsert(point(1)))
        collections.Delete(q.DeleteCollection(collection_name=handle.name))
        collections.Create(creation(handle.name, size=3))
        assert handle.count() == 0
        handle.update(upsert(point(1, [0, 0, 1])))
        assert handle.count() == 1

    def test_the_configuration_is_reported(self, collections: q.CollectionsStub, collection_name: str) -> None:
        scalar = q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=0.99, always_ram=True)
        collections.Create(
            creation(
                collection_name,
                vector={"on_disk": True},
                hnsw_config=q.HnswConfigDiff(m=24, ef_construct=128),
                quantization_config=q.QuantizationConfig(scalar=scalar),
                optimizers_config=q.OptimizersConfigDiff(indexing_threshold=12_345),
                shard_number=1,
                replication_factor=1,
            )
        )
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=collection_name)).result
        assert info.status == q.CollectionStatus.Green
        assert info.optimizer_status.ok
        assert info.points_count == 0
        assert info.segments_count >= 1
        assert info.HasField("indexed_vectors_count")
        vectors = info.config.params.vectors_config.params
        assert (vectors.size, vectors.distance, vectors.on_disk) == (4, q.Distance.Cosine, True)
        assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (24, 128)
        assert info.config.hnsw_config.full_scan_threshold > 0
        assert info.config.optimizer_config.indexing_threshold == 12_345
        assert info.config.quantization_config.scalar.type == q.QuantizationType.Int8
        assert info.config.quantization_config.scalar.always_ram is True
        assert (info.config.params.shard_number, info.config.params.replication_factor) == (1, 1)

    def test_an_update_changes_only_its_settings(self, collections: q.CollectionsStub, collection_name: str) -> None:
        collections.Create(creation(collection_name, hnsw_config=q.HnswConfigDiff(m=8, ef_construct=64)))
        update = q.UpdateCollection(
            collection_name=collection_name,
            optimizers_config=q.OptimizersConfigDiff(indexing_threshold=54_321),
            hnsw_config=q.HnswConfigDiff(m=32),
        )
        assert collections.Update(update).result is True
        config = collections.Get(q.GetCollectionInfoRequest(collection_name=collection_name)).result.config
        assert config.optimizer_config.indexing_threshold == 54_321
        assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (32, 64)

    def test_an_indexing_threshold_of_any_size_is_kept(self, collections: q.CollectionsStub, handle: Handle) -> None:
        """Searches still find every point."""
        for threshold in (0, 10**12 + 10_000, 10_000):
            optimizers = q.OptimizersConfigDiff(indexing_threshold=threshold)
            assert collections.Update(
                q.UpdateCollection(collection_name=handle.name, optimizers_config=optimizers, timeout=30)
            ).result
            info = collections.Get(q.GetCollectionInfoRequest(collection_name=handle.name)).result
            assert info.config.optimizer_config.HasField("indexing_threshold")
            assert info.config.optimizer_config.indexing_threshold == threshold
            assert info.config.optimizer_config.deleted_threshold == pytest.approx(0.2)
            handle.update(upsert(point(threshold % 7, [0, 1, 0, 0], user_id=1)))
            assert {plain_id(hit.id) for hit in handle.query([0, 1, 0, 0])} >= {threshold % 7}

    def test_links_among_points_of_a_payload_value_can_be_set(
        self, collections: q.CollectionsStub, collection_name: str
    ) -> None:
        collections.Create(creation(collection_name, hnsw_config=q.HnswConfigDiff(m=0, payload_m=16)))
        described = q.GetCollectionInfoRequest(collection_name=collection_name)
        hnsw = collections.Get(described).result.config.hnsw_config
        assert hnsw.HasField("m")
        assert (hnsw.m, hnsw.payload_m) == (0, 16)
        collections.Update(
            q.UpdateCollection(collection_name=collection_name, hnsw_config=q.HnswConfigDiff(payload_m=8))
        )
        hnsw = collections.Get(described).result.config.hnsw_config
        assert (hnsw.m, hnsw.payload_m) == (0, 8)

    def test_payload_links_are_reported_only_if_they_are_set(
        self, collections: q.CollectionsStub, collection_name: str
    ) -> None:
        collections.Create(creation(collection_name))
        described = q.GetCollectionInfoRequest(collection_name=collection_name)
        assert not collections.Get(described).result.config.hnsw_config.HasField("payload_m")

    def test_an_update_can_set_quantization(self, collections: q.CollectionsStub, collection_name: str) -> None:
        collections.Create(creation(collection_name))
        scalar = q.ScalarQuantization(type=q.QuantizationType.Int8, quantile=0.95, always_ram=True)
        collections.Update(
            q.UpdateCollection(
                collection_name=collection_name, quantization_config=q.QuantizationConfigDiff(scalar=scalar)
            )
        )
        described = q.GetCollectionInfoRequest(collection_name=collection_name)
        found = collections.Get(described).result.config.quantization_config.scalar
        assert (found.type, found.always_ram) == (q.QuantizationType.Int8, True)
        assert found.quantile == pytest.approx(0.95)

    def test_points_are_counted(self, collections: q.CollectionsStub, handle: Handle) -> None:
        handle.update(upsert(point(1), point(2)))
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=handle.name)).result
        assert info.points_count == 2

    def test_creating_a_collection_twice_is_refused(
        self, collections: q.CollectionsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        collections.Create(creation(collection_name))
        error = refusal(grpc.StatusCode.ALREADY_EXISTS, collections.Create, creation(collection_name))
        assert f"Collection `{collection_name}` already exists!" in error.details()

    def test_unknown_collections_are_not_found(
        self, collections: q.CollectionsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        for call, request in (
            (collections.Get, q.GetCollectionInfoRequest(collection_name=collection_name)),
            (
                collections.Update,
                q.UpdateCollection(
                    collection_name=collection_name,
                    optimizers_config=q.OptimizersConfigDiff(indexing_threshold=1_000),
                ),
            ),
        ):
            error = refusal(grpc.StatusCode.NOT_FOUND, call, request)
            assert f"Collection `{collection_name}` doesn't exist!" in error.details()

    def test_a_vector_needs_a_size(
        self, collections: q.CollectionsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, collections.Create, creation(collection_name, size=0))

    def test_a_name_cannot_be_empty_or_a_path(
        self, collections: q.CollectionsStub, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, collections.Create, creation(""))
        refusal(grpc.StatusCode.INVALID_ARGUMENT, collections.Create, creation("../escape"))


class TestMetadata:
    """Metadata of collections exists from version 1.16 on; older servers ignore it."""

    METADATA = {  # noqa: RUF012
        "memory_worker": {"prefix": "mw", "kind": "memory", "namespace": None, "origin": "made"},
        "text": "Grüße",
        "number": 2**53,
        "float": 0.5,
        "yes": True,
        "list": [1, "two", None],
    }

    @pytest.fixture(autouse=True)
    def _from_1_16(self, server_version: tuple[int, ...]) -> None:
        if server_version < (1, 16):
            pytest.skip("no metadata in this version")

    def of(self, collections: q.CollectionsStub, name: str) -> dict[str, Any]:
        config = collections.Get(q.GetCollectionInfoRequest(collection_name=name)).result.config
        return {key: plain(item) for key, item in config.metadata.items()}

    def test_metadata_is_kept(self, collections: q.CollectionsStub, collection_name: str) -> None:
        collections.Create(
            creation(collection_name, metadata={key: value(item) for key, item in self.METADATA.items()})
        )
        assert self.of(collections, collection_name) == self.METADATA

    def test_a_collection_has_no_metadata_by_default(
        self, collections: q.CollectionsStub, collection_name: str
    ) -> None:
        collections.Create(creation(collection_name))
        assert self.of(collections, collection_name) == {}

    def test_an_update_merges_metadata_by_key(self, collections: q.CollectionsStub, collection_name: str) -> None:
        first = {"map": {"a": 1, "b": 2}, "kept": "x", "removed": "y"}
        collections.Create(creation(collection_name, metadata={key: value(item) for key, item in first.items()}))
        later = {"map": {"c": 3}, "removed": None, "never there": None, "new": [1]}
        update = q.UpdateCollection(
            collection_name=collection_name, metadata={key: value(item) for key, item in later.items()}
        )
        assert collections.Update(update).result is True
        assert self.of(collections, collection_name) == {"map": {"c": 3}, "kept": "x", "new": [1]}
        other = q.UpdateCollection(
            collection_name=collection_name, optimizers_config=q.OptimizersConfigDiff(indexing_threshold=54_321)
        )
        collections.Update(other)
        assert self.of(collections, collection_name) == {"map": {"c": 3}, "kept": "x", "new": [1]}

    def test_metadata_can_be_added_later(self, collections: q.CollectionsStub, collection_name: str) -> None:
        collections.Create(creation(collection_name))
        collections.Update(q.UpdateCollection(collection_name=collection_name, metadata={"a": value("b")}))
        assert self.of(collections, collection_name) == {"a": "b"}


@dataclass(frozen=True)
class Alias:
    """Changes the aliases of this test."""

    stub: q.CollectionsStub

    def change(self, *actions: q.AliasOperations, **options: Any) -> bool:
        return bool(self.stub.UpdateAliases(q.ChangeAliases(actions=actions, **options)).result)

    def of(self, collection: str) -> set[str]:
        request = q.ListCollectionAliasesRequest(collection_name=collection)
        listed = self.stub.ListCollectionAliases(request).aliases
        assert {found.collection_name for found in listed} <= {collection}
        everywhere = self.stub.ListAliases(q.ListAliasesRequest()).aliases
        names = {found.alias_name for found in everywhere if found.collection_name == collection}
        assert names == {found.alias_name for found in listed} or collection not in self.collections()
        return {found.alias_name for found in listed}

    def collections(self) -> set[str]:
        return {found.name for found in self.stub.List(q.ListCollectionsRequest()).collections}

    @staticmethod
    def create(alias: str, collection: str) -> q.AliasOperations:
        return q.AliasOperations(create_alias=q.CreateAlias(alias_name=alias, collection_name=collection))

    @staticmethod
    def rename(old: str, new: str) -> q.AliasOperations:
        return q.AliasOperations(rename_alias=q.RenameAlias(old_alias_name=old, new_alias_name=new))

    @staticmethod
    def delete(alias: str) -> q.AliasOperations:
        return q.AliasOperations(delete_alias=q.DeleteAlias(alias_name=alias))


class TestAliases:
    @pytest.fixture
    def alias(self, collections: q.CollectionsStub) -> Alias:
        return Alias(collections)

    @pytest.fixture
    def names(self, collections: q.CollectionsStub, collection_names: Callable[[], str]) -> list[str]:
        """The names of two collections, and two names without a collection."""
        names = [collection_names() for _ in range(4)]
        for name in names[:2]:
            collections.Create(creation(name))
        return names

    def test_points_are_written_and_read_by_alias(
        self, collections: q.CollectionsStub, alias: Alias, handle: Handle, collection_names: Callable[[], str]
    ) -> None:
        name = collection_names()
        assert alias.change(alias.create(name, handle.name), timeout=30)
        assert alias.of(handle.name) == {name}
        assert name not in alias.collections()
        by_alias = Handle(handle.stub, name)
        by_alias.update(upsert(point(1, user_id=1), point(2, user_id=2)))
        assert handle.ids() == by_alias.ids() == {1, 2}
        assert plain_id(by_alias.query([1, 0, 0, 0], limit=1)[0].id) in {1, 2}
        assert by_alias.payload(1) == handle.payload(1)
        by_alias.update(delete(by_filter(must=[field("user_id", integer=1)])))
        assert (handle.count(), by_alias.count()) == (1, 1)
        assert collections.CollectionExists(q.CollectionExistsRequest(collection_name=name)).result.exists
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=name)).result
        assert set(info.payload_schema) == set(INDEXES)

    def test_settings_and_indexes_are_changed_by_alias(
        self, collections: q.CollectionsStub, points: q.PointsStub, alias: Alias, names: list[str]
    ) -> None:
        alias.change(alias.create(names[2], names[0]))
        collections.Update(
            q.UpdateCollection(
                collection_name=names[2], optimizers_config=q.OptimizersConfigDiff(indexing_threshold=54_321)
            )
        )
        points.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=names[2], wait=True, field_name="n", field_type=q.FieldType.FieldTypeInteger
            )
        )
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=names[0])).result
        assert info.config.optimizer_config.indexing_threshold == 54_321
        assert set(info.payload_schema) == {"n"}

    def test_an_alias_can_be_switched_renamed_and_removed(self, alias: Alias, names: list[str]) -> None:
        first, second, one, other = names
        assert alias.change(alias.create(one, first))
        assert alias.change(alias.delete(one), alias.create(one, second), alias.create(other, second))
        assert (alias.of(first), alias.of(second)) == (set(), {one, other})
        assert alias.change(alias.create(one, first))  # moves it
        assert (alias.of(first), alias.of(second)) == ({one}, {other})
        assert alias.change(alias.rename(one, f"{one}-new"), alias.delete(other))
        assert (alias.of(first), alias.of(second)) == ({f"{one}-new"}, set())
        assert alias.change(alias.delete(one))  # is not there, and that is no error
        assert alias.change()

    def test_actions_before_a_refused_one_are_applied(
        self, alias: Alias, names: list[str], refusal: Callable[..., grpc.RpcError]
    ) -> None:
        first, second, one, other = names
        kept = alias.create(one, first)
        error = refusal(grpc.StatusCode.NOT_FOUND, alias.change, kept, alias.create(other, "test-none"))
        assert "Collection `test-none` doesn't exist!" in error.details()
        assert alias.of(first) == {one}
        error = refusal(grpc.StatusCode.NOT_FOUND, alias.change, alias.create(other, one))
        assert f"Collection `{one}` doesn't exist!" in error.details()
        error = refusal(grpc.StatusCode.ALREADY_EXISTS, alias.change, alias.create(second, first))
        assert f"Collection `{second}` already exists!" in error.details()
        error = refusal(grpc.StatusCode.NOT_FOUND, alias.change, alias.rename(other, "x"))
        assert f"Alias {other} does not exists!" in error.details()
        refusal(grpc.StatusCode.INVALID_ARGUMENT, alias.change, q.AliasOperations())
        refusal(grpc.StatusCode.INVALID_ARGUMENT, alias.change, kept, timeout=0)

    def test_a_collection_cannot_have_the_name_of_an_alias(
        self, collections: q.CollectionsStub, alias: Alias, names: list[str], refusal: Callable[..., grpc.RpcError]
    ) -> None:
        alias.change(alias.create(names[2], names[0]))
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, collections.Create, creation(names[2]))
        assert "Alias with the same name already exists" in error.details()

    def test_deleting_a_collection_deletes_its_aliases(
        self, collections: q.CollectionsStub, alias: Alias, names: list[str]
    ) -> None:
        alias.change(alias.create(names[2], names[0]), alias.create(names[3], names[1]))
        assert collections.Delete(q.DeleteCollection(collection_name=names[2])).result is False
        assert alias.of(names[0]) == {names[2]}
        assert collections.Delete(q.DeleteCollection(collection_name=names[0])).result is True
        assert (alias.of(names[0]), alias.of(names[1])) == (set(), {names[3]})
        assert not collections.CollectionExists(q.CollectionExistsRequest(collection_name=names[2])).result.exists
        assert collections.Create(creation(names[2])).result is True

    def test_an_unknown_collection_cannot_have_an_alias(
        self, alias: Alias, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        assert alias.of("test-none") == set()
        refusal(grpc.StatusCode.INVALID_ARGUMENT, alias.of, "")


class TestPayloadIndexes:
    def test_indexes_are_reported_with_type_and_size(self, collections: q.CollectionsStub, handle: Handle) -> None:
        handle.update(upsert(point(1, user_id=7, active=True), point(2, user_id=8)))
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=handle.name)).result
        schema = {name: index.data_type for name, index in info.payload_schema.items()}
        assert schema == {
            "user_id": q.PayloadSchemaType.Integer,
            "_point_id": q.PayloadSchemaType.Keyword,
            "category": q.PayloadSchemaType.Keyword,
            "active": q.PayloadSchemaType.Bool,
        }
        assert info.payload_schema["user_id"].points == 2
        assert info.payload_schema["active"].points == 1

    def test_parameters_of_indexes_are_reported(
        self, collections: q.CollectionsStub, points: q.PointsStub, collection_name: str
    ) -> None:
        collections.Create(creation(collection_name))
        tenant = q.PayloadIndexParams(keyword_index_params=q.KeywordIndexParams(is_tenant=True))
        principal = q.PayloadIndexParams(
            integer_index_params=q.IntegerIndexParams(lookup=True, range=False, is_principal=False)
        )
        for name, params in {"tenant": tenant, "user_id": principal}.items():
            points.CreateFieldIndex(
                q.CreateFieldIndexCollection(
                    collection_name=collection_name,
                    wait=True,
                    field_name=name,
                    field_type=INDEXES.get(name, q.FieldType.FieldTypeKeyword),
                    field_index_params=params,
                )
            )
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=collection_name)).result
        assert info.payload_schema["tenant"].params.keyword_index_params.is_tenant is True
        reported = info.payload_schema["user_id"].params.integer_index_params
        assert (reported.lookup, reported.range) == (True, False)

    def test_indexes_without_graphs_are_reported(
        self,
        collections: q.CollectionsStub,
        points: q.PointsStub,
        collection_name: str,
        server_version: tuple[int, ...],
    ) -> None:
        if server_version < (1, 17):
            pytest.skip("older servers build graphs for all of them")
        collections.Create(creation(collection_name, hnsw_config=q.HnswConfigDiff(m=0, payload_m=16)))
        asked = {
            "tenant": q.PayloadIndexParams(
                keyword_index_params=q.KeywordIndexParams(is_tenant=True, enable_hnsw=False)
            ),
            "category": q.PayloadIndexParams(keyword_index_params=q.KeywordIndexParams(enable_hnsw=False)),
            "file_id": q.PayloadIndexParams(
                integer_index_params=q.IntegerIndexParams(lookup=True, range=True, enable_hnsw=False)
            ),
            "active": q.PayloadIndexParams(bool_index_params=q.BoolIndexParams(enable_hnsw=False)),
        }
        for name, params in asked.items():
            points.CreateFieldIndex(
                q.CreateFieldIndexCollection(
                    collection_name=collection_name,
                    wait=True,
                    field_name=name,
                    field_type=INDEXES.get(
                        name, q.FieldType.FieldTypeInteger if name == "file_id" else q.FieldType.FieldTypeKeyword
                    ),
                    field_index_params=params,
                )
            )
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=collection_name)).result
        for name, params in asked.items():
            variant = params.WhichOneof("index_params")
            assert variant is not None
            found = getattr(info.payload_schema[name].params, variant)
            assert found.HasField("enable_hnsw")
            assert not found.enable_hnsw
        assert info.payload_schema["tenant"].params.keyword_index_params.is_tenant

    def test_an_integer_index_for_lookups_finds_single_values(
        self, collections: q.CollectionsStub, points: q.PointsStub, collection_name: str
    ) -> None:
        collections.Create(creation(collection_name))
        points.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=collection_name,
                wait=True,
                field_name="user_id",
                field_type=q.FieldType.FieldTypeInteger,
                field_index_params=q.PayloadIndexParams(
                    integer_index_params=q.IntegerIndexParams(lookup=True, range=False)
                ),
            )
        )
        handle = Handle(points, collection_name)
        handle.update(upsert(point(1, user_id=7), point(2, user_id=8), point(3, user_id=2**62)))
        assert handle.ids(must=[field("user_id", integer=7)]) == {1}
        assert handle.ids(must=[field("user_id", integer=2**62)]) == {3}
        assert handle.ids(must=[field("user_id", range=q.Range(gte=8, lte=9))]) == {2}

    def test_creating_an_index_again_changes_nothing(self, handle: Handle) -> None:
        response = handle.stub.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=handle.name,
                wait=True,
                field_name="user_id",
                field_type=q.FieldType.FieldTypeInteger,
            )
        )
        assert response.result.status == q.UpdateStatus.Completed

    def test_indexes_of_an_unknown_type_or_collection_are_refused(
        self, handle: Handle, collection_names: Callable[[], str], refusal: Callable[..., grpc.RpcError]
    ) -> None:
        untyped = q.CreateFieldIndexCollection(collection_name=handle.name, wait=True, field_name="x")
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.stub.CreateFieldIndex, untyped)
        unknown = q.CreateFieldIndexCollection(
            collection_name=collection_names(),
            wait=True,
            field_name="x",
            field_type=q.FieldType.FieldTypeBool,
        )
        refusal(grpc.StatusCode.NOT_FOUND, handle.stub.CreateFieldIndex, unknown)


class TestUpserts:
    def test_an_upsert_stores_id_payload_and_vector(self, handle: Handle) -> None:
        payload = {
            "user_id": 1730,
            "text": "grün 🌱",
            "ratio": 0.5,
            "active": False,
            "nothing": None,
            "many": [1, "two", [3.5]],
            "deep": {"a": {"b": True}},
            "big": 2**53 + 1,
        }
        key = str(uuid.uuid4())
        handle.update(upsert(point(key, [0, 3, 4, 0], **payload), point(2**63)))
        found = handle.get(key, 2**63)
        assert set(found) == {key, 2**63}
        assert handle.payload(key) == payload
        assert numbers(found[key].vectors) == pytest.approx([0, 0.6, 0.8, 0], abs=1e-6)  # cosine normalises

    def test_the_deprecated_vector_field_is_accepted(self, handle: Handle) -> None:
        old = q.PointStruct(id=pid(1), vectors=q.Vectors(vector=q.Vector(data=[0, 0, 2, 0])), payload={"a": value(1)})
        handle.update(upsert(old))
        assert numbers(handle.get(1)[1].vectors) == pytest.approx([0, 0, 1, 0])

    def test_an_upsert_replaces_vector_and_payload(self, handle: Handle) -> None:
        handle.update(upsert(point(1, [1, 0, 0, 0], user_id=1, old=True)))
        handle.update(upsert(point(1, [0, 1, 0, 0], user_id=2)))
        assert handle.payload(1) == {"user_id": 2}
        assert numbers(handle.get(1)[1].vectors) == pytest.approx([0, 1, 0, 0])
        assert handle.count() == 1
        assert handle.count(must=[field("user_id", integer=1)]) == 0

    def test_the_last_upsert_of_an_id_wins(self, handle: Handle) -> None:
        handle.update(upsert(point(1, n=1), point(2, n=2), point(1, n=3)))
        assert handle.payload(1) == {"n": 3}
        assert handle.count() == 2

    def test_there_is_a_separate_call_for_upserts(self, handle: Handle) -> None:
        request = q.UpsertPoints(collection_name=handle.name, wait=True, points=[point(1), point(2)])
        assert handle.stub.Upsert(request).result.status == q.UpdateStatus.Completed
        assert handle.ids() == {1, 2}

    def test_uuids_are_returned_in_lower_case_with_hyphens(self, handle: Handle) -> None:
        key = uuid.uuid4()
        handle.update(upsert(point(key.hex.upper())))
        assert handle.ids() == {str(key)}

    def test_an_update_filter_applies_only_to_existing_points(
        self, handle: Handle, server_version: tuple[int, ...]
    ) -> None:
        if server_version < (1, 16):
            pytest.skip("servers know update_filter since 1.16")
        handle.update(upsert(point(1, user_id=1, n=1), point(2, user_id=2, n=1)))
        guard = q.Filter(must=[field("user_id", integer=1)])
        changed = [point(1, user_id=1, n=2), point(2, user_id=2, n=2), point(3, user_id=2, n=2)]
        handle.update(upsert(*changed, update_filter=guard))
        assert [handle.payload(key)["n"] for key in (1, 2, 3)] == [2, 1, 2]


class TestRefusedUpserts:
    def test_a_wrong_dimension_is_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(1, [1, 2, 3])))
        assert "Vector dimension error: expected dim: 4, got 3" in error.details()
        assert handle.count() == 0

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(point("not-a-uuid"), id="bad uuid"),
            pytest.param(q.PointStruct(vectors=point(1).vectors), id="no id"),
            pytest.param(q.PointStruct(id=pid(1)), id="no vector"),
        ],
    )
    def test_malformed_points_are_refused(
        self, handle: Handle, bad: q.PointStruct, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(5), bad))
        assert handle.count() == 0

    def test_an_unknown_collection_is_refused(
        self, points: q.PointsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        error = refusal(grpc.StatusCode.NOT_FOUND, Handle(points, collection_name).update, upsert(point(1)))
        assert f"Collection `{collection_name}` doesn't exist!" in error.details()


class TestBatches:
    def test_a_batch_returns_a_result_per_operation(self, handle: Handle) -> None:
        response = handle.update(upsert(point(1)), delete(by_ids(1)), upsert(point(2)))
        assert [result.status for result in response.result] == [q.UpdateStatus.Completed] * 3

    def test_a_batch_without_wait_is_only_acknowledged(self, handle: Handle) -> None:
        response = handle.update(upsert(point(1)), wait=False)
        assert [result.status for result in response.result] == [q.UpdateStatus.Acknowledged]

    def test_operations_of_a_batch_are_applied_in_order(self, handle: Handle) -> None:
        handle.update(
            upsert(point(1, user_id=1, n=1), point(2, user_id=1, n=1), point(3, user_id=2, n=1)),
            delete(by_filter(must=[field("user_id", integer=1)])),
            upsert(point(2, user_id=1, n=2)),
        )
        assert handle.ids() == {2, 3}
        assert handle.payload(2)["n"] == 2

    def test_operations_after_a_failed_one_are_not_applied(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        error = refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            handle.update,
            upsert(point(1)),
            upsert(point(2)),
            upsert(point(3, [1, 2])),
            upsert(point(4)),
        )
        assert "expected dim: 4, got 2" in error.details()
        assert handle.ids() == {1, 2}

    def test_operations_before_a_malformed_one_are_applied(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, upsert(point(1)), upsert(point("no")))
        assert handle.ids() == {1}

    def test_a_batch_that_is_replayed_changes_nothing(self, handle: Handle) -> None:
        batch = [
            upsert(point(1, user_id=1, n=1)),
            delete(by_filter(must=[field("n", integer=0)])),
            delete(by_ids(9)),
        ]
        handle.update(*batch)
        once = handle.payload(1), handle.ids()
        handle.update(*batch)
        assert (handle.payload(1), handle.ids()) == once

    def test_set_payload_merges_and_overwrite_replaces(self, handle: Handle) -> None:
        handle.update(
            upsert(point(1, a=1, b=1), point(2, a=1, b=1)),
            Operation(set_payload=Operation.SetPayload(payload={"b": value(2)}, points_selector=by_ids(1))),
            Operation(
                overwrite_payload=Operation.OverwritePayload(
                    payload={"c": value(3)}, points_selector=by_filter(must=[has_id(2)])
                )
            ),
        )
        assert handle.payload(1) == {"a": 1, "b": 2}
        assert handle.payload(2) == {"c": 3}

    def test_keys_of_a_payload_can_be_deleted(self, handle: Handle) -> None:
        removal = Operation.DeletePayload(keys=["a"], points_selector=by_ids(1))
        handle.update(upsert(point(1, a=1, b=1)), Operation(delete_payload=removal))
        assert handle.payload(1) == {"b": 1}

    def test_empty_operations_are_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, Operation())


class TestDeletes:
    def test_unknown_ids_are_ignored(self, handle: Handle) -> None:
        handle.update(upsert(point(1), point(2)))
        request = q.DeletePoints(collection_name=handle.name, wait=True, points=by_ids(1, 99))
        assert handle.stub.Delete(request).result.status == q.UpdateStatus.Completed
        assert handle.ids() == {2}

    def test_deletes_by_logical_id_can_exclude_primary_ids(self, handle: Handle) -> None:
        """An overwrite must also reach a point of the same logical id under an older primary id."""
        new = [str(uuid.uuid4()) for _ in range(2)]
        handle.update(
            upsert(point(17, _point_id="mem_1_1"), point(18, _point_id="mem_1_2"), point(19, _point_id="x")),
            upsert(point(new[0], _point_id="mem_1_1"), point(new[1], _point_id="mem_1_2")),
            delete(
                by_filter(
                    must=[field("_point_id", keywords=keywords("mem_1_1", "mem_1_2", "mem_1_3"))],
                    must_not=[has_id(*new)],
                )
            ),
        )
        assert handle.ids() == {*new, 19}

    def test_points_of_a_user_are_deleted(self, handle: Handle) -> None:
        handle.update(upsert(*(point(n, user_id=n % 3) for n in range(9))))
        handle.update(delete(by_filter(must=[field("user_id", integer=1)])))
        assert handle.ids() == {n for n in range(9) if n % 3 != 1}
        assert handle.count(must=[field("user_id", integer=1)]) == 0

    def test_deletes_by_user_can_exclude_points(self, handle: Handle) -> None:
        handle.update(upsert(*(point(n, user_id=1) for n in range(4))))
        handle.update(delete(by_filter(must=[field("user_id", integer=1)], must_not=[has_id(1, 2)])))
        assert handle.ids() == {1, 2}

    def test_a_delete_without_a_selector_is_refused(
        self, handle: Handle, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        empty = q.DeletePoints(collection_name=handle.name, wait=True)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.stub.Delete, empty)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, delete(q.PointsSelector()))
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.update, delete(by_ids("no-uuid")))

    def test_a_deleted_point_can_be_written_again(self, handle: Handle) -> None:
        handle.update(upsert(point(1, n=1)), delete(by_ids(1)))
        assert handle.get(1) == {}
        assert handle.query([1, 0, 0, 0], limit=5) == []
        handle.update(upsert(point(1, n=2)))
        assert handle.payload(1) == {"n": 2}


@pytest.fixture
def searchable(handle: Handle) -> Handle:
    handle.update(
        upsert(
            point(1, [1, 0, 0, 0], user_id=1, active=True, category="personal"),
            point(2, [4, 3, 0, 0], user_id=1, active=True, category="work"),
            point(3, [0, 1, 0, 0], user_id=1, active=False, category="personal"),
            point(4, [1, 0, 0, 0], user_id=2, active=True, category="personal"),
            point(5, [-1, 0, 0, 0], user_id=1, active=True, category="personal"),
        )
    )
    return handle


class TestQueries:
    def test_hits_are_ranked_by_cosine(self, searchable: Handle) -> None:
        hits = searchable.query([2, 0, 0, 0], limit=10, filter=q.Filter(must=[field("user_id", integer=1)]))
        assert [plain_id(hit.id) for hit in hits] == [1, 2, 3, 5]
        assert [hit.score for hit in hits] == pytest.approx([1, 0.8, 0, -1], abs=1e-6)

    def test_a_filter_limits_hits_to_active_points_of_a_user(self, searchable: Handle) -> None:
        mine = [field("user_id", integer=1), field("active", boolean=True)]
        hits = searchable.query([1, 0, 0, 0], limit=10, filter=q.Filter(must=mine))
        assert [plain_id(hit.id) for hit in hits] == [1, 2, 5]
        mine.append(field("category", keyword="personal"))
        hits = searchable.query([1, 0, 0, 0], limit=10, filter=q.Filter(must=mine))
        assert [plain_id(hit.id) for hit in hits] == [1, 5]

    def test_two_points_with_one_logical_id_are_two_hits(self, handle: Handle) -> None:
        new = str(uuid.uuid4())
        handle.update(
            upsert(point(17, [4, 3, 0, 0], _point_id="mem_1_1"), point(new, [1, 0, 0, 0], _point_id="mem_1_1"))
        )
        assert [plain_id(hit.id) for hit in handle.query([1, 0, 0, 0], limit=10)] == [new, 17]
        assert [plain_id(hit.id) for hit in handle.query([1, 0, 0, 0], limit=1)] == [new]
        pages, request = [], q.ScrollPoints(collection_name=handle.name, limit=1)
        request.filter.must.append(field("_point_id", keywords=keywords("mem_1_1")))
        for _ in range(2):
            page = handle.stub.Scroll(request, timeout=30)
            pages.append([plain_id(found.id) for found in page.result])
            request.offset.CopyFrom(page.next_page_offset)
        assert pages == [[17], [new]]
        assert not page.HasField("next_page_offset")

    def test_a_score_threshold_removes_lower_scores(self, searchable: Handle) -> None:
        for threshold, expected in ((0.79, {1, 2, 4}), (0.81, {1, 4}), (-1.1, {1, 2, 3, 4, 5})):
            hits = searchable.query([1, 0, 0, 0], limit=10, score_threshold=threshold)
            assert {plain_id(hit.id) for hit in hits} == expected

    def test_limit_and_offset_select_a_page(self, searchable: Handle) -> None:
        mine = q.Filter(must=[field("user_id", integer=1)])
        pages = [searchable.query([1, 0, 0, 0], limit=2, offset=start, filter=mine) for start in (0, 2, 4)]
        assert [[plain_id(hit.id) for hit in page] for page in pages] == [[1, 2], [3, 5], []]

    def test_hits_contain_payload_and_vector_on_request(self, searchable: Handle) -> None:
        bare = searchable.query([0, 1, 0, 0], limit=1)[0]
        assert dict(bare.payload) == {}
        assert not bare.HasField("vectors")
        full = searchable.query([0, 1, 0, 0], limit=1, with_payload=ALL_PAYLOAD, with_vectors=ALL_VECTORS)[0]
        assert {key: plain(item) for key, item in full.payload.items()} == {
            "user_id": 1,
            "active": False,
            "category": "personal",
        }
        assert numbers(full.vectors) == pytest.approx([0, 1, 0, 0])

    def test_fields_of_the_payload_can_be_selected(self, searchable: Handle) -> None:
        include = q.WithPayloadSelector(include=q.PayloadIncludeSelector(fields=["user_id"]))
        exclude = q.WithPayloadSelector(exclude=q.PayloadExcludeSelector(fields=["user_id"]))
        assert set(searchable.query([0, 1, 0, 0], limit=1, with_payload=include)[0].payload) == {"user_id"}
        found = searchable.query([0, 1, 0, 0], limit=1, with_payload=exclude)[0].payload
        assert set(found) == {"active", "category"}

    def test_search_parameters_are_accepted(self, searchable: Handle) -> None:
        params = q.SearchParams(
            hnsw_ef=64, exact=True, quantization=q.QuantizationSearchParams(ignore=False, rescore=True)
        )
        assert plain_id(searchable.query([0, 1, 0, 0], limit=1, params=params)[0].id) == 3

    def test_the_results_of_a_batch_are_in_order(self, searchable: Handle) -> None:
        requests = [
            searchable.query_request([0, 1, 0, 0], limit=1),
            searchable.query_request([-1, 0, 0, 0], limit=1),
        ]
        batch = q.QueryBatchPoints(collection_name=searchable.name, query_points=requests)
        results = searchable.stub.QueryBatch(batch).result
        assert [[plain_id(hit.id) for hit in one.result] for one in results] == [[3], [5]]

    def test_a_batch_with_one_bad_query_fails(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        requests = [searchable.query_request([0, 1, 0, 0]), searchable.query_request([1])]
        batch = q.QueryBatchPoints(collection_name=searchable.name, query_points=requests)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.stub.QueryBatch, batch)

    def test_a_wrong_dimension_is_refused(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        error = refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 2, 3])
        assert "Vector dimension error: expected dim: 4, got 3" in error.details()

    def test_an_unknown_collection_or_vector_is_refused(
        self, searchable: Handle, collection_names: Callable[[], str], refusal: Callable[..., grpc.RpcError]
    ) -> None:
        unknown = Handle(searchable.stub, collection_names())
        refusal(grpc.StatusCode.NOT_FOUND, unknown.query, [1, 0, 0, 0])
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 0, 0, 0], using="other")

    def test_a_limit_of_zero_is_refused(self, searchable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, searchable.query, [1, 0, 0, 0], limit=0)


@pytest.fixture(scope="module")
def filterable(qdrant_channel: grpc.Channel) -> Iterator[Handle]:
    handle = Handle(q.PointsStub(qdrant_channel), f"test-{uuid.uuid4().hex[:12]}")
    q.CollectionsStub(qdrant_channel).Create(creation(handle.name))
    handle.update(
        upsert(
            point(1, kw="a", n=1, flag=True, tags=["x", "y"]),
            point(2, kw="b", n=2, flag=False, tags=["y"]),
            point(3, n=3, flag=None, tags=[]),
            point(4, kw="a", n=4, deep={"x": 5}),
        )
    )
    yield handle
    q.CollectionsStub(qdrant_channel).Delete(q.DeleteCollection(collection_name=handle.name))


class TestFilters:
    CASES: tuple[tuple[str, dict[str, list[q.Condition]], set[int]], ...] = (
        ("keyword", {"must": [field("kw", keyword="a")]}, {1, 4}),
        ("integer", {"must": [field("n", integer=2)]}, {2}),
        ("boolean", {"must": [field("flag", boolean=True)]}, {1}),
        ("false is not missing", {"must": [field("flag", boolean=False)]}, {2}),
        ("keywords", {"must": [field("kw", keywords=keywords("a", "b"))]}, {1, 2, 4}),
        ("integers", {"must": [field("n", integers=integers(1, 3))]}, {1, 3}),
        ("an element of a list", {"must": [field("tags", keyword="y")]}, {1, 2}),
        ("except keywords", {"must": [field("kw", except_keywords=keywords("a"))]}, {2}),
        ("except integers", {"must": [field("n", except_integers=integers(1, 2))]}, {3, 4}),
        ("has id", {"must": [has_id(1, 3, 99)]}, {1, 3}),
        ("range", {"must": [field("n", range=q.Range(gt=1, lte=3))]}, {2, 3}),
        ("range from below", {"must": [field("n", range=q.Range(gte=3))]}, {3, 4}),
        ("range to", {"must": [field("n", range=q.Range(lt=2))]}, {1}),
        ("empty", {"must": [q.Condition(is_empty=q.IsEmptyCondition(key="kw"))]}, {3}),
        ("null", {"must": [q.Condition(is_null=q.IsNullCondition(key="flag"))]}, {3}),
        ("field is null", {"must": [field("flag", is_null=True)]}, {3}),
        ("field is not empty", {"must": [field("kw", is_empty=False)]}, {1, 2, 4}),
        ("must not", {"must_not": [field("kw", keyword="a")]}, {2, 3}),
        ("should", {"should": [field("n", integer=1), field("n", integer=2)]}, {1, 2}),
        (
            "all three",
            {
                "must": [field("n", range=q.Range(gte=1))],
                "should": [field("kw", keyword="a"), field("kw", keyword="b")],
                "must_not": [has_id(4)],
            },
            {1, 2},
        ),
        (
            "nested",
            {
                "must": [
                    q.Condition(
                        filter=q.Filter(
                            should=[
                                field("n", integer=3),
                                q.Condition(filter=q.Filter(must=[field("kw", keyword="a")], must_not=[has_id(1)])),
                            ]
                        )
                    )
                ]
            },
            {3, 4},
        ),
        ("a field inside", {"must": [field("deep.x", integer=5)]}, {4}),
        ("none", {}, {1, 2, 3, 4}),
    )

    @pytest.mark.parametrize(("conditions", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
    def test_filters_select_points(
        self, filterable: Handle, conditions: dict[str, list[q.Condition]], expected: set[int]
    ) -> None:
        assert filterable.ids(**conditions) == expected
        assert filterable.count(**conditions) == len(expected)
        hits = filterable.query([1, 0, 0, 0], filter=q.Filter(**conditions))
        assert {plain_id(hit.id) for hit in hits} == expected

    def test_malformed_filters_are_refused(self, filterable: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        refusal(grpc.StatusCode.INVALID_ARGUMENT, filterable.count, must=[has_id("no-uuid")])
        refusal(grpc.StatusCode.INVALID_ARGUMENT, filterable.count, must=[field("a[", integer=1)])


class TestScrolls:
    def test_pages_are_in_order_of_ids(self, handle: Handle) -> None:
        handle.update(upsert(*(point(n) for n in (5, 3, 1, 4, 2))))
        pages: list[list[Any]] = []
        offset = None
        while True:
            request = q.ScrollPoints(collection_name=handle.name, limit=2, offset=offset)
            response = handle.stub.Scroll(request)
            pages.append([plain_id(found.id) for found in response.result])
            if not response.HasField("next_page_offset"):
                break
            offset = response.next_page_offset
        assert pages == [[1, 2], [3, 4], [5]]

    def test_points_contain_payload_and_vector_on_request(self, handle: Handle) -> None:
        handle.update(upsert(point(1, [0, 0, 0, 2], a=1)))
        request = q.ScrollPoints(collection_name=handle.name, with_payload=ALL_PAYLOAD, with_vectors=ALL_VECTORS)
        found = handle.stub.Scroll(request).result[0]
        assert plain(found.payload["a"]) == 1
        assert numbers(found.vectors) == pytest.approx([0, 0, 0, 1])

    def test_a_limit_of_zero_is_refused(self, handle: Handle, refusal: Callable[..., grpc.RpcError]) -> None:
        request = q.ScrollPoints(collection_name=handle.name, limit=0)
        refusal(grpc.StatusCode.INVALID_ARGUMENT, handle.stub.Scroll, request)


class TestReads:
    def test_unknown_ids_are_skipped(self, handle: Handle) -> None:
        handle.update(upsert(point(1)))
        assert set(handle.get(1, 2, str(uuid.uuid4()))) == {1}

    def test_points_contain_neither_payload_nor_vector_by_default(self, handle: Handle) -> None:
        handle.update(upsert(point(1, a=1)))
        found = handle.stub.Get(q.GetPoints(collection_name=handle.name, ids=[pid(1)])).result[0]
        assert dict(found.payload) == {}
        assert not found.HasField("vectors")

    def test_reads_of_unknown_collections_are_refused(
        self, points: q.PointsStub, collection_name: str, refusal: Callable[..., grpc.RpcError]
    ) -> None:
        unknown = Handle(points, collection_name)
        for call in (unknown.count, unknown.ids, lambda: unknown.get(1)):
            refusal(grpc.StatusCode.NOT_FOUND, call)


@pytest.mark.skipif(not os.environ.get("TEST_QDRANT_API_KEY"), reason="TEST_QDRANT_API_KEY is not set")
class TestApiKeys:
    """API keys of a server; those of the embedded engine are in test_embedded.py."""

    def test_missing_and_wrong_keys_are_refused(self, qdrant_url: str, refusal: Callable[..., grpc.RpcError]) -> None:
        with grpc.insecure_channel(qdrant_url.removeprefix("http://")) as channel:
            stub = q.CollectionsStub(channel)
            for metadata in ((), (("api-key", "wrong"),)):
                refusal(grpc.StatusCode.UNAUTHENTICATED, stub.List, q.ListCollectionsRequest(), metadata=metadata)
