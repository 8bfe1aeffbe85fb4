"""Asks the Edge front for its nonce, which is the commit in its health check."""

from __future__ import annotations

import grpc
from qdrant_client import grpc as q

from memory_worker.embedded.proof import HOST, TIMEOUT_S

_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


def is_front(port: int, nonce: str) -> bool:
    """Say whether the front with ``nonce`` serves on ``port``."""
    with grpc.insecure_channel(f"{HOST}:{port}", options=_OPTIONS) as channel:
        try:
            reply = q.QdrantStub(channel).HealthCheck(q.HealthCheckRequest(), timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]
        except grpc.RpcError:
            return False
        return bool(reply.commit == nonce)
