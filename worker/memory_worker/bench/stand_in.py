"""A stand-in for Qdrant that stores nothing: it answers each batch of writes after a fixed time.

    python -m memory_worker.bench.stand_in DELAY_MS

It writes ``ready PORT`` to standard error, and forwards all other calls to ``QDRANT_URL``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvloop
from qdrant_client import grpc as q

from memory_worker.bench.timer import Line
from memory_worker.settings import load_settings
from memory_worker.store.channel import open_channel


class _StandIn(grpc.GenericRpcHandler):
    def __init__(self, delay_s: float) -> None:
        settings, self._line = load_settings(), Line(delay_s)
        self._channel = open_channel(settings.qdrant_url or "", tls_ca_file=settings.qdrant_tls_ca_file)
        key = settings.qdrant_api_key
        self._metadata = (("api-key", key.get_secret_value()),) if key else ()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/qdrant.Points/UpdateBatch":
            # A batch of 256 points is decoded in 0.1 ms, as fast as it could be skipped.
            decode, encode = q.UpdateBatchPoints.FromString, q.UpdateBatchResponse.SerializeToString
            return grpc.unary_unary_rpc_method_handler(self._write, decode, encode)
        return grpc.unary_unary_rpc_method_handler(self._forwarded(self._channel.unary_unary(details.method)))

    async def _write(self, request: q.UpdateBatchPoints, _: object) -> q.UpdateBatchResponse:
        is_over = asyncio.get_running_loop().create_future()
        self._line.later(is_over.set_result, None)
        await is_over
        applied = q.UpdateResult(status=q.UpdateStatus.Completed)
        return q.UpdateBatchResponse(result=[applied] * len(request.operations))

    def _forwarded(self, call: Callable[..., Awaitable[bytes]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def forward(request: bytes, context: Any) -> bytes:
            try:
                return await call(request, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
                raise

        return forward


async def _main(delay_ms: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([_StandIn(float(delay_ms) / 1000)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stderr.write(f"ready {port}\n")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
