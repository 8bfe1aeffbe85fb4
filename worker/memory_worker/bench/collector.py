"""A collector of OpenTelemetry's spans that keeps none, so that a traced worker has somewhere to send them.

    python -m memory_worker.bench.collector

It writes ``ready PORT`` to standard error.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_NO_COMPLAINTS = b""


class _Collector(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(_take) if details.method == _METHOD else None


async def _take(_request: bytes, _context: object) -> bytes:
    await asyncio.sleep(0)
    return _NO_COMPLAINTS


async def _main() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_Collector()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stderr.write(f"ready {port}\n")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_main())
