"""Scrolls and reads by id, on the embedded engine or on a server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from qdrant_client import grpc as q

from tests.integration.conformance_calls import (
    ALL_PAYLOAD,
    ALL_VECTORS,
    Handle,
    numbers,
    pid,
    plain,
    plain_id,
    point,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.integration.conformance_fixtures"]


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
