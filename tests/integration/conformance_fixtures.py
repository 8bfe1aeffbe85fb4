"""Fixtures of the suites of conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import INDEXES, Handle, creation

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def collections(qdrant_channel: grpc.Channel) -> q.CollectionsStub:
    return q.CollectionsStub(qdrant_channel)


@pytest.fixture
def points(qdrant_channel: grpc.Channel) -> q.PointsStub:
    return q.PointsStub(qdrant_channel)


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
