"""Qdrant's gRPC as this project uses it, shown on the embedded engine or on the server at ``TEST_QDRANT_URL``.

Everything is true of Qdrant 1.18.3. Here are health, collections and API keys. The files ``test_conformance_*.py`` have
the rest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import Handle, creation, plain, plain_id, point, upsert, value

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


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


@pytest.mark.skipif(not os.environ.get("TEST_QDRANT_API_KEY"), reason="TEST_QDRANT_API_KEY is not set")
class TestApiKeys:
    """API keys of a server; those of the embedded engine are in test_embedded.py."""

    def test_missing_and_wrong_keys_are_refused(self, qdrant_url: str, refusal: Callable[..., grpc.RpcError]) -> None:
        with grpc.insecure_channel(qdrant_url.removeprefix("http://")) as channel:
            stub = q.CollectionsStub(channel)
            for metadata in ((), (("api-key", "wrong"),)):
                refusal(grpc.StatusCode.UNAUTHENTICATED, stub.List, q.ListCollectionsRequest(), metadata=metadata)
