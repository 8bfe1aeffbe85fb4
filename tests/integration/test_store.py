"""The store applies batches to Qdrant, and distinguishes outages from refusals."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from qdrant_client import grpc as q

from memory_worker.contract import Condition, Upsert
from memory_worker.contract.errors import DeadlinePassed, StoreRefused, StoreUnavailable
from memory_worker.embedded.engines import start_edge
from memory_worker.store import rpc
from memory_worker.store.operations import CollectionRef, DeleteMatching, DeletePoints, Operation, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY, SIGNAL_TIMEOUT_S, Contents
from tests.integration.jobs import DIMENSION, axis, chunk, memory
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, failing, never_answer
from tests.servers import free_port

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
OLD_VECTOR = [1.0] * DIMENSION


async def apply(store: VectorStore, *operations: Operation, ref: CollectionRef = MEMORIES) -> None:
    await store.apply(ref, operations, timeout_s=5)


def write(*points: Upsert) -> UpsertPoints:
    return UpsertPoints(points)


class TestUpsert:
    async def test_a_point_is_stored_as_the_main_app_writes_it(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1730, 12, at=3, category="personal", value="likes tea", created=5)))
        primary = str(uuid.uuid5(NAMESPACE, "mem_1730_12"))
        assert engine.primary_ids(shape.base("memory")) == {primary}
        assert engine.vector(shape.base("memory"), primary) == [0, 0, 0, 1, 0, 0, 0, 0]
        assert engine.payloads(shape.base("memory")) == {
            "mem_1730_12": {
                "user_id": 1730,
                "_point_id": "mem_1730_12",
                "active": True,
                "category": "personal",
                "value": "likes tea",
                "created": 5,
            }
        }

    async def test_values_of_every_type_keep_their_types(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        payload = {
            "text": "Grüße \U0001f375",
            "empty": "",
            "yes": True,
            "no": False,
            "zero": 0,
            "most": 2**63 - 1,
            "least": -(2**63),
            "float": 0.1,
            "whole": 2.0,
            "nothing": None,
            "list": [1, "two", [3.5, None], {"four": []}],
            "map": {"a": {"b": {}}},
        }
        await apply(store, write(memory(1, 1, **payload)))
        stored = engine.payloads(shape.base("memory"))["mem_1_1"]
        assert {name: stored[name] for name in payload} == payload
        assert {name: type(stored[name]) for name in payload} == {name: type(payload[name]) for name in payload}

    async def test_an_overwrite_replaces_the_whole_point(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1, 1, at=0, value="old", category="a"), memory(1, 2)))
        await apply(store, write(memory(1, 1, at=1, value="new")))
        payloads = engine.payloads(shape.base("memory"))
        assert set(payloads) == {"mem_1_1", "mem_1_2"}
        assert payloads["mem_1_1"]["value"] == "new"
        assert "category" not in payloads["mem_1_1"]
        assert engine.vector(shape.base("memory"), str(uuid.uuid5(NAMESPACE, "mem_1_1")))[:2] == [0, 1]

    async def test_an_overwrite_removes_an_older_point_of_that_id(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"))
        for number in (1, 2):
            engine.insert(
                shape.base("memory"), number, OLD_VECTOR, user_id=1, _point_id=f"mem_1_{number}", value="older"
            )
        await apply(store, write(memory(1, 1, value="new")))
        assert engine.primary_ids(shape.base("memory")) == {2, str(uuid.uuid5(NAMESPACE, "mem_1_1"))}
        assert engine.payloads(shape.base("memory"))["mem_1_1"]["value"] == "new"

    async def test_an_overwrite_that_is_applied_in_part_loses_nothing(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
    ) -> None:
        engine.create(shape.base("memory"))  # so that an upsert is two operations
        await apply(proxied_store, write(memory(1, 1, value="old")))

        async def apply_the_first_operation(call: Call) -> Any:
            del call.request.operations[1:]
            await call.forward()
            raise Refusal(grpc.StatusCode.UNAVAILABLE)

        qdrant_proxy.rules[UPDATE] = apply_the_first_operation
        with pytest.raises(StoreUnavailable):
            await apply(proxied_store, write(memory(1, 1, value="new")))
        assert engine.payloads(shape.base("memory"))["mem_1_1"]["value"] == "old"

    async def test_a_batch_that_is_applied_twice_changes_nothing_more(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        batch = (DeleteMatching(1), DeletePoints(("mem_2_1",)), write(memory(1, 1), memory(1, 2)))
        await apply(store, *batch)
        before = engine.payloads(shape.base("memory"))
        await apply(store, *batch)
        assert engine.payloads(shape.base("memory")) == before


class TestDelete:
    async def test_points_are_deleted_by_their_ids(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(*(memory(1, number) for number in range(4))))
        await apply(store, DeletePoints(("mem_1_1", "mem_1_3", "mem_1_99")))
        assert engine.points(shape.base("memory")) == {"mem_1_0", "mem_1_2"}

    async def test_a_delete_reaches_points_of_the_main_app(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await store.prepare()
        engine.insert(shape.base("memory"), 1, OLD_VECTOR, user_id=1, _point_id="mem_1_1")
        engine.insert(shape.base("memory"), 2, OLD_VECTOR, user_id=1, _point_id="mem_1_2")
        await apply(store, write(memory(1, 3)))
        await apply(store, DeletePoints(("mem_1_1", "mem_1_3")))
        assert engine.points(shape.base("memory")) == {"mem_1_2"}

    async def test_all_points_of_a_user_are_deleted(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1, 1), memory(1, 2, category="a"), memory(12, 1)))
        engine.insert(shape.base("memory"), 7, OLD_VECTOR, user_id=1, _point_id="mem_1_7")
        await apply(store, DeleteMatching(1))
        assert engine.points(shape.base("memory")) == {"mem_12_1"}

    async def test_a_delete_can_be_limited_to_a_category(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        points = [memory(1, 1, category="a"), memory(1, 2, category="b"), memory(1, 3), memory(2, 1, category="a")]
        await apply(store, write(*points))
        await apply(store, DeleteMatching(1, (Condition("category", "a"),)))
        assert engine.points(shape.base("memory")) == {"mem_1_2", "mem_1_3", "mem_2_1"}

    async def test_a_delete_can_be_limited_by_numbers_and_words(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        points = [chunk(1, 5, 0, group_key="g"), chunk(1, 5, 1, group_key="h"), chunk(1, 6, 0), chunk(2, 5, 0)]
        await apply(store, write(*points), ref=DOCUMENTS)
        await apply(store, DeleteMatching(1, (Condition("group_key", "g"), Condition("file_id", 5))), ref=DOCUMENTS)
        assert engine.points(shape.base("document")) == {"doc_1_5_1", "doc_1_6_0", "doc_2_5_0"}
        await apply(store, DeleteMatching(1, (Condition("file_id", 5),)), ref=DOCUMENTS)
        assert engine.points(shape.base("document")) == {"doc_1_6_0", "doc_2_5_0"}

    async def test_operations_are_applied_in_order(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1, 1), memory(2, 1), memory(3, 1)))
        await apply(store, DeleteMatching(1), DeletePoints(("mem_2_1",)), write(memory(1, 2), memory(2, 2)))
        assert engine.points(shape.base("memory")) == {"mem_1_2", "mem_2_2", "mem_3_1"}


class TestNotApplied:
    @pytest.mark.parametrize(
        "status", [name for name, number in q.UpdateStatus.items() if number != q.UpdateStatus.Completed]
    )
    async def test_an_operation_that_did_not_complete_is_an_outage(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, status: str
    ) -> None:
        async def last_differs(call: Call) -> Any:
            answer = await call.forward()
            answer.result[-1].status = q.UpdateStatus.Value(status)
            return answer

        qdrant_proxy.rules[UPDATE] = last_differs
        with pytest.raises(StoreUnavailable, match=f"operation 1 ended {status}"):
            await apply(proxied_store, DeletePoints(("mem_1_1",)), write(memory(1, 1)))
        with pytest.raises(StoreUnavailable, match=status):
            await proxied_store.probe(MEMORIES)

    async def test_too_few_results_are_an_outage(self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy) -> None:
        async def one_lacks(call: Call) -> Any:
            answer = await call.forward()
            del answer.result[-1]
            return answer

        qdrant_proxy.rules[UPDATE] = one_lacks
        with pytest.raises(StoreUnavailable, match="2 operations, 1 results") as incomplete:
            await apply(proxied_store, DeletePoints(("mem_1_1",)), write(memory(1, 1)))
        assert incomplete.value.code == "INCOMPLETE"

    async def test_a_refusal_is_not_an_outage(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        too_short = msgspec.structs.replace(memory(1, 2), vector=axis(0)[:16])
        with pytest.raises(StoreRefused, match=f"writing to {shape.base('memory')}.*dimension"):
            await apply(store, write(memory(1, 1), too_short))
        assert engine.points(shape.base("memory")) == set()

    async def test_an_answer_that_does_not_come_in_time_is_an_outage(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy
    ) -> None:
        await proxied_store.prepare()
        qdrant_proxy.rules[UPDATE] = never_answer
        with pytest.raises(StoreUnavailable) as late:
            await proxied_store.apply(MEMORIES, [write(memory(1, 1))], timeout_s=0.1)
        assert late.value.code == "DEADLINE_EXCEEDED"

    async def test_nothing_is_sent_after_the_deadline(
        self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy, shape: CollectionShape, engine: Contents
    ) -> None:
        await proxied_store.prepare()
        qdrant_proxy.calls.clear()
        with pytest.raises(DeadlinePassed):
            await proxied_store.send(MEMORIES, [write(memory(1, 1))], deadline=time.monotonic())
        assert qdrant_proxy.calls == []
        assert engine.points(shape.base("memory")) == set()

    async def test_nothing_is_sent_if_the_process_slept_past_the_deadline(
        self,
        proxied_store: VectorStore,
        shape: CollectionShape,
        engine: Contents,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """gRPC itself would still send the call: it notices its deadline only later."""
        await proxied_store.prepare()
        deadline = time.monotonic() + 0.3

        def sleep(place: str) -> None:
            while place == "sending" and time.monotonic() < deadline:
                time.sleep(0.01)  # as if the process was stopped

        monkeypatch.setattr(rpc, "failpoint", sleep)
        with pytest.raises(DeadlinePassed):
            await proxied_store.send(MEMORIES, [write(memory(1, 1))], deadline=deadline)
        assert engine.points(shape.base("memory")) == set()

    async def test_a_dropped_collection_is_created_again(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1, 1)))
        engine.drop(shape.base("memory"))
        with pytest.raises(StoreUnavailable) as missing:
            await apply(store, write(memory(1, 2)))
        assert missing.value.code == "NOT_FOUND"
        await apply(store, write(memory(1, 2)))
        assert engine.points(shape.base("memory")) == {"mem_1_2"}
        assert "user_id" in engine.info(shape.base("memory")).payload_schema


class TestProbe:
    async def test_a_probe_leaves_nothing_behind(
        self, store: VectorStore, shape: CollectionShape, engine: Contents
    ) -> None:
        await apply(store, write(memory(1, 1)))
        await store.probe(MEMORIES)
        assert engine.points(shape.base("memory")) == {"mem_1_1"}

    async def test_a_probe_fails_where_writes_fail(self, proxied_store: VectorStore, qdrant_proxy: QdrantProxy) -> None:
        qdrant_proxy.rules[UPDATE] = failing(grpc.StatusCode.INVALID_ARGUMENT)
        with pytest.raises(StoreRefused):
            await proxied_store.probe(MEMORIES)


class TestConnection:
    async def test_the_api_key_is_sent(self, tmp_path: Path) -> None:
        shape = CollectionShape(dimension=DIMENSION)
        with start_edge(tmp_path, api_key="right") as edge:
            async with VectorStore(edge.url, shape, api_key="right") as store:
                await apply(store, write(memory(1, 1)))
                assert [info.points for info in await store.info()] == [1]
            for wrong in ("wrong", None):
                async with VectorStore(edge.url, shape, api_key=wrong) as store:
                    with pytest.raises(StoreUnavailable) as refused:
                        await apply(store, write(memory(1, 1)))
                    assert refused.value.code == "UNAUTHENTICATED"

    async def test_a_store_reconnects_to_a_server_that_starts_late(self, tmp_path: Path) -> None:
        port = free_port()
        async with VectorStore(f"http://127.0.0.1:{port}", CollectionShape(dimension=DIMENSION)) as store:
            for _ in range(8):  # enough that gRPC waits longer before it connects again
                with pytest.raises(StoreUnavailable) as gone:
                    await apply(store, write(memory(1, 1)))
                assert gone.value.code == "UNAVAILABLE"
            with await asyncio.to_thread(start_edge, tmp_path, port=port):
                async with asyncio.timeout(SIGNAL_TIMEOUT_S):
                    while True:  # a channel has no signal for this
                        with suppress(StoreUnavailable):
                            await apply(store, write(memory(1, 1)))
                            break

    async def test_a_slow_connection_is_not_an_outage(self, qdrant_url: str, shape: CollectionShape) -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.5)  # as long as a TLS handshake over a slow network
            back_reader, back_writer = await asyncio.open_connection(*qdrant_url.removeprefix("http://").split(":"))
            await asyncio.gather(forward(reader, back_writer), forward(back_reader, writer))
            ended.set()

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                writer.write(data)
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with VectorStore(f"http://127.0.0.1:{port}", shape, api_key=API_KEY) as store:
                assert await store.version()
            await ended.wait()

    async def test_the_version_of_the_server_is_known(self, store: VectorStore) -> None:
        assert int((await store.version()).partition(".")[0]) >= 1
