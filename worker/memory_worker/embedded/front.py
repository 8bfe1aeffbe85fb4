"""A gRPC server that answers as a Qdrant server would, over Qdrant Edge.

    python -m memory_worker.embedded.front --data-dir D --port P [--nonce N] [--api-key-file F] [--optimize]

It serves the subset of Qdrant that this project uses, on 127.0.0.1. Other calls get UNIMPLEMENTED. When it is ready, it
writes ``ready PORT`` to its standard output. It ends on SIGTERM and when its standard input ends. Running calls may
finish within 2 seconds. An update that has returned survives even ``kill -9``.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

import grpc
from qdrant_client import grpc as q

from memory_worker.embedded.collections_service import CollectionsService, HealthService
from memory_worker.embedded.points_service import PointsService
from memory_worker.embedded.read_priority import CallThreads
from memory_worker.embedded.refusals import ApiKeyCheck
from memory_worker.embedded.shards import Shards

HOST = "127.0.0.1"
GRACE_S = 2
THREADS = 32
"""More than the updates that wait for their turn, so that a thread is always free for reads and health checks."""
SWITCH_S = 0.0005
"""How long a write may block a read from running. With Python's 5 ms, searches during a full ingest take twice as long;
with 0.1 ms, writes are slower."""

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port in use is an error
    ("grpc.http2.max_ping_strikes", 0),  # clients may ping at any rate, as in a Qdrant server
    ("grpc.keepalive_permit_without_calls", 1),
)


class _Terminated(Exception):
    """SIGTERM arrived."""


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM, or until the standard input ends."""
    arguments = _arguments(argv)
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then ends this process
    directory = arguments.data_dir / "collections"
    with suppress(_Terminated), closing(Shards(directory, optimize=arguments.optimize)) as shards:
        _serve(shards, arguments)


def _serve(shards: Shards, arguments: argparse.Namespace) -> None:
    server = _server(shards, arguments.api_key_file, arguments.nonce)
    port = _bound_port(server, arguments.port)
    server.start()
    gc.freeze()  # loaded modules stay forever, so collections need not scan them
    try:
        os.write(sys.stdout.fileno(), f"ready {port}\n".encode())
        _wait_for_end()
    finally:
        server.stop(GRACE_S).wait()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m memory_worker.embedded.front", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the collections are stored")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--nonce", default="", help="returned by health checks, to identify this process")
    parser.add_argument("--api-key-file", type=Path, help="a file with the API key that callers must send")
    parser.add_argument("--optimize", action="store_true", help="rebuild the indexes before serving")
    return parser.parse_args(argv)


def _server(shards: Shards, api_key_file: Path | None, nonce: str) -> grpc.Server:
    checks: list[grpc.ServerInterceptor] = (
        [ApiKeyCheck(api_key_file.read_text(encoding="utf-8").strip())] if api_key_file else []
    )
    server = grpc.server(CallThreads(THREADS, shards.read_priority), interceptors=checks, options=_SERVER_OPTIONS)
    q.add_QdrantServicer_to_server(HealthService(nonce), server)  # type: ignore[no-untyped-call]
    q.add_CollectionsServicer_to_server(CollectionsService(shards), server)  # type: ignore[no-untyped-call]
    q.add_PointsServicer_to_server(PointsService(shards), server)  # type: ignore[no-untyped-call]
    return server


def _bound_port(server: grpc.Server, port: int) -> int:
    try:
        return server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        sys.exit(f"cannot listen on {HOST}:{port}: {error}")


def _terminate(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # raise only once
    raise _Terminated


def _wait_for_end() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        ...


if __name__ == "__main__":
    main()
