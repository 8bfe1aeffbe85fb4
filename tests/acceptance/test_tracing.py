"""A worker exports its spans with OpenTelemetry's protocol, and works if nobody takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import ClassVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from memory_worker.client.memory_queue import MemoryQueue
from tests.acceptance.conftest import VECTOR, StartWorker
from tests.servers import free_port

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
PATIENCE_S = 20


class Collector(BaseHTTPRequestHandler):
    """A collector of OpenTelemetry's traces over HTTP."""

    received: ClassVar[Queue[ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.put(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no log."""


@contextmanager
def collector() -> Iterator[tuple[str, Queue[ExportTraceServiceRequest]]]:
    """Run a collector; yield its address and what it receives."""
    handler = type("OwnCollector", (Collector,), {"received": Queue()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.received
        server.shutdown()
        thread.join()


async def test_a_worker_exports_its_spans(start_worker: StartWorker, queue: MemoryQueue) -> None:
    with collector() as (address, received):
        worker = start_worker("ingest", OTEL_EXPORTER_OTLP_ENDPOINT=address, **SOON)
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR), timeout=PATIENCE_S)
        spans: set[str] = set()
        while not {"process", "commit"} <= spans:  # they come in several requests if the worker is slow
            [resource] = received.get(timeout=PATIENCE_S).resource_spans
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert attributes["service.name"] == "memory-worker"
            spans |= {span.name.partition(" ")[0] for scope in resource.scope_spans for span in scope.spans}
        assert worker.terminate() == 0


async def test_a_dead_exporter_loses_spans_but_no_work(start_worker: StartWorker, queue: MemoryQueue) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    worker = start_worker(
        "all", OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_EXPORTER_OTLP_TIMEOUT="1", WORKER_GRACE_S="2", **SOON
    )
    for number in range(3):
        receipt = await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=VECTOR)
        await queue.wait_applied(receipt, timeout=PATIENCE_S)
    assert len(await queue.search(user_id=1, vector=VECTOR)) == 3
    worker.wait_for("spans_lost")
    assert worker.terminate() == 0
    assert not [line for line in worker.lines if "Traceback" in line or "retrying" in line.lower()]
    assert len([line for line in worker.lines if "spans_lost" in line]) == 1


async def test_a_worker_is_not_traced_unless_it_is_asked_to_be(start_worker: StartWorker, queue: MemoryQueue) -> None:
    worker = start_worker("ingest")
    await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=VECTOR), timeout=PATIENCE_S)
    assert worker.terminate() == 0
    assert not [line for line in worker.lines if "tracing" in line or "trace_id" in line]
