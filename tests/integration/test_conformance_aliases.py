"""Aliases, on the embedded engine or on a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    INDEXES,
    Handle,
    by_filter,
    by_ids,
    creation,
    delete,
    field,
    plain_id,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


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
        counts = q.FacetCounts(collection_name=name, key="user_id")
        assert [hit.value.integer_value for hit in handle.stub.Facet(counts).hits] == [1, 2]
        ordered = q.ScrollPoints(collection_name=name, order_by=q.OrderBy(key="user_id", direction=q.Direction.Desc))
        assert [plain_id(found.id) for found in handle.stub.Scroll(ordered).result] == [2, 1]
        handle.stub.ClearPayload(q.ClearPayloadPoints(collection_name=name, wait=True, points=by_ids(2)))
        assert handle.payload(2) == by_alias.payload(2) == {}
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
