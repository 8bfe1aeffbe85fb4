"""A gRPC server that answers as a Qdrant server would, over Qdrant Edge.

    python -m memory_worker.embedded.front --data-dir D --port P [--nonce N] [--api-key-file F] [--optimize]

It serves the subset of Qdrant that this project uses, on 127.0.0.1; all else answers UNIMPLEMENTED. When it is
ready it writes ``ready PORT`` to its standard output, its only line. It ends on SIGTERM and when its standard
input ends, after the calls in flight (2 seconds at most). What an update returned survives even ``kill -9``.
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
# More than the calls that wait for their turn to update, so that reads and health checks always find a thread.
THREADS = 32
# How long a write may keep a read from the interpreter. At Python's 5 ms, searches beside a full ingest take twice as
# long; at 0.1 ms, writes get fewer.
SWITCH_S = 0.0005

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.http2.max_ping_strikes", 0),  # clients may ping as often as they like, as a Qdrant server lets them
    ("grpc.keepalive_permit_without_calls", 1),
)


class _ToldToEnd(Exception):
    """SIGTERM arrived."""


def main(argv: list[str] | None = None) -> None:
    """Serve until told to end."""
    arguments = _arguments(argv)
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGTERM, _tell_to_end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which ends this process in turn
    directory = arguments.data_dir / "collections"
    with suppress(_ToldToEnd), closing(Shards(directory, optimize=arguments.optimize)) as shards:
        _serve(shards, arguments)


def _serve(shards: Shards, arguments: argparse.Namespace) -> None:
    server = _server(shards, arguments.api_key_file, arguments.nonce)
    port = _bound_port(server, arguments.port)
    server.start()
    gc.freeze()  # what is loaded by now stays: no collection needs to look through it again
    try:
        os.write(sys.stdout.fileno(), f"ready {port}\n".encode())
        _wait_for_end()
    finally:
        server.stop(GRACE_S).wait()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m memory_worker.embedded.front", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the collections are stored")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--nonce", default="", help="what health checks return, so that this process can be recognised")
    parser.add_argument("--api-key-file", type=Path, help="a file that holds the API key callers must send")
    parser.add_argument("--optimize", action="store_true", help="build the indexes anew before serving")
    return parser.parse_args(argv)


def _server(shards: Shards, api_key_file: Path | None, nonce: str) -> grpc.Server:
    checks: list[grpc.ServerInterceptor] = (
        [ApiKeyCheck(api_key_file.read_text(encoding="utf-8").strip())] if api_key_file else []
    )
    server = grpc.server(CallThreads(THREADS, shards.way), interceptors=checks, options=_SERVER_OPTIONS)
    q.add_QdrantServicer_to_server(HealthService(nonce), server)  # type: ignore[no-untyped-call]
    q.add_CollectionsServicer_to_server(CollectionsService(shards), server)  # type: ignore[no-untyped-call]
    q.add_PointsServicer_to_server(PointsService(shards), server)  # type: ignore[no-untyped-call]
    return server


def _bound_port(server: grpc.Server, port: int) -> int:
    try:
        return server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        sys.exit(f"cannot listen on {HOST}:{port}: {error}")


def _tell_to_end(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _ToldToEnd


def _wait_for_end() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        ...


if __name__ == "__main__":
    main()
