"""Ends a command on Ctrl-C or SIGTERM at any moment: with one line, and with nothing left behind.

An exception that a signal handler raises gets lost in an import, in a destructor, or in code of others. So the handler
itself ends the process. It ends all child processes first, then removes temporary directories, then exits with
128 + the number of the signal.

A command that has something to finish names how to stop it (`gently`). Then the first signal stops it that way. The
process still ends as above when that takes too long, and on the second signal.

Imports little, because it is loaded before anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

GENTLE_S = 0.8
"""How long Ctrl-C lets a command finish by itself."""
_CHILDREN_S = 0.4
_REMOVAL_S = 0.3
_LOOK_AGAIN_S = 0.01
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"

_directories: list[str] = []
_stops: list[_Stop] = []
_received: list[int] = []


class _Stop:
    """How to stop what runs: within how many seconds, and which signals are no interruption but the usual end."""

    def __init__(self, call: Callable[[], object], within_s: float, usual: Collection[int]) -> None:
        self.call = call
        self.within_s = within_s
        self.usual = usual


def install() -> None:
    """Handle SIGINT and SIGTERM from now on. A SIGINT that the shell has us ignore stays ignored."""
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle)


@contextmanager
def gently(stop: Callable[[], object], *, within_s: float = GENTLE_S, usual: Collection[int] = ()) -> Iterator[None]:
    """Have the first signal call ``stop`` in the main thread; it must make the block end soon.

    Ctrl-C gives the block ``within_s`` seconds for that, SIGTERM all the time it takes. ``usual`` are signals that end
    the command in the usual way, with status 0 and without a word.
    """
    _stops.append(_Stop(stop, within_s, usual))
    try:
        yield
    finally:
        _stops.pop()


@contextmanager
def temporary_directory(prefix: str) -> Iterator[str]:
    """Yield a new directory that is removed at the end, also by a signal at any moment."""
    import secrets  # noqa: PLC0415  # most commands need neither
    import tempfile  # noqa: PLC0415

    path = f"{tempfile.gettempdir()}/{prefix}{secrets.token_hex(6)}"
    _directories.append(path)  # before it is there: between the two a signal may come
    os.mkdir(path, mode=0o700)  # noqa: PTH102  # pathlib is not loaded for this alone
    try:
        yield path
    finally:
        _remove(path)
        _directories.remove(path)


def finished() -> None:
    """Ignore signals from now on: the command has done its work, and Python takes a moment to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def exit_status() -> int | None:
    """Return the status with which a command that was stopped gently must exit; ``None``: no signal has come."""
    return 128 + _received[0] if _received else None


def _handle(number: int, _frame: object) -> None:
    stop = _stops[-1] if _stops else None
    if stop is not None and number in stop.usual:
        stop.call()
        return
    first = not _received
    if first:
        _received.append(number)
        _say(number)
    if not first or stop is None:
        _end()
        return
    if number == signal.SIGINT:
        signal.signal(signal.SIGALRM, _handle)
        signal.setitimer(signal.ITIMER_REAL, stop.within_s)
    stop.call()


def _say(number: int) -> None:
    """Write straight to standard error: the handler may have come in the middle of another write."""
    erase = _SHOW_CURSOR if sys.stderr is not None and os.isatty(2) else ""
    with suppress(OSError):
        os.write(2, f"{erase}memory-worker: {_WORDS[signal.Signals(number)]}\n".encode())


def _end() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    _end_children()
    for path in _directories:
        _remove(path)
    os._exit(128 + _received[0])


def kill_children() -> None:
    """Kill all descendants."""
    for pid in _descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _end_children() -> None:
    """Ask all descendants to end; kill those that do not."""
    asked = _descendants(os.getpid())
    for number, patience_s in ((signal.SIGTERM, _CHILDREN_S), (signal.SIGKILL, _CHILDREN_S)):
        for pid in asked:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + patience_s
        while asked and time.monotonic() < until:
            asked = [pid for pid in asked if _lives(pid)]
            time.sleep(_LOOK_AGAIN_S)


def _descendants(pid: int) -> list[int]:
    """Return all processes below one. Where there is no /proc they end by themselves, as their owner is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                found += [int(word) for word in file.read().split()]
    return [*found, *(below for child in found for below in _descendants(child))]


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _remove(path: str) -> None:
    """Remove a directory and all that is in it, again while somebody still writes there."""
    until = time.monotonic() + _REMOVAL_S
    while os.path.lexists(path) and time.monotonic() < until:
        for directory, folders, files in os.walk(path, topdown=False):
            for name in (*files, *folders):
                entry = f"{directory}/{name}"
                with suppress(OSError):
                    (os.rmdir if name in folders and not os.path.islink(entry) else os.unlink)(entry)  # noqa: PTH114
        with suppress(OSError):
            os.rmdir(path)  # noqa: PTH106
