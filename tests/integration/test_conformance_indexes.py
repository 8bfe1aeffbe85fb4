"""Payload indexes, on the embedded engine or on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import INDEXES, Handle, creation, field, point, upsert

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


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

    def test_an_index_is_created_again_with_other_options(self, collections: q.CollectionsStub, handle: Handle) -> None:
        handle.update(upsert(point(1, user_id=7), point(2, user_id=8)))
        tenant = q.IntegerIndexParams(lookup=True, range=False, is_principal=True)
        response = handle.stub.CreateFieldIndex(
            q.CreateFieldIndexCollection(
                collection_name=handle.name,
                wait=True,
                field_name="user_id",
                field_type=q.FieldType.FieldTypeInteger,
                field_index_params=q.PayloadIndexParams(integer_index_params=tenant),
            )
        )
        assert response.result.status == q.UpdateStatus.Completed
        info = collections.Get(q.GetCollectionInfoRequest(collection_name=handle.name)).result
        reported = info.payload_schema["user_id"].params.integer_index_params
        assert (reported.lookup, reported.range, reported.is_principal) == (True, False, True)
        assert handle.ids(must=[field("user_id", integer=7)]) == {1}

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
