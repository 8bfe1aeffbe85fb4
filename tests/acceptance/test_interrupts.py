"""Ctrl-C at any moment: one line, status 130, within two seconds, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WITHIN_S = 2.0
SLACK_S = 2.0
"""For a machine that is busy with other tests."""
# From the first line of the program on: before it, Python itself ends without a word.
STARTED = """
import os, signal, sys
from memory_worker.commands import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
interrupts.install()
os.write(int(sys.argv.pop(1)), b"!")
from memory_worker.__main__ import main
main()
"""


class Command:
    """A command that runs where nothing else is, with its own directory for temporary files."""

    def __init__(self, *arguments: str, directory: Path, **environment: str) -> None:
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTED, str(writer), *arguments],
            env={**os.environ, "PORT": "0", "BIND_HOST": "127.0.0.1", "TMPDIR": str(self.temporary), **environment},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(writer,),
        )
        os.close(writer)
        assert os.read(reader, 1) == b"!"
        os.close(reader)

    def interrupt(self, delay_s: float, *, times: int = 1) -> str | None:
        """Interrupt it after a time; return its standard error, ``None`` if it had ended before."""
        try:
            self.process.wait(delay_s)
        except subprocess.TimeoutExpired:
            pass
        else:
            self.process.communicate()
            return None
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        try:
            _, said = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert time.monotonic() - sent < WITHIN_S + SLACK_S
        return said

    def check(self, said: str | None) -> None:
        """Check how it ended, where it was interrupted."""
        if said:  # without a word: it had done its work
            assert self.process.returncode == 130, said
            assert "memory-worker: interrupted" in said.splitlines()
            assert "Traceback" not in said
        assert list(self.temporary.iterdir()) == []
        assert processes_with(str(self.temporary.parent)) == []


def processes_with(word: str) -> list[str]:
    """Return the command lines of processes that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


@pytest.mark.parametrize(("delay_s", "times"), [(0, 1), (0.3, 1), (1.0, 2), (1.6, 1), (2.3, 2), (3.0, 1)])
def test_the_demo(tmp_path: Path, delay_s: float, times: int) -> None:
    command = Command("demo", directory=tmp_path)
    command.check(command.interrupt(delay_s, times=times))


@pytest.mark.parametrize(("delay_s", "times"), [(1.3, 1), (2.3, 2), (4.0, 1)])
def test_a_worker_on_engines_of_its_own(tmp_path: Path, delay_s: float, times: int) -> None:
    command = Command("run", directory=tmp_path, DATA_DIR=str(tmp_path / "data"))
    command.check(command.interrupt(delay_s, times=times))


@pytest.mark.parametrize("delay_s", [0.5, 1.1])
@pytest.mark.parametrize("arguments", [("status",), ("dead", "list"), ("bulk",)], ids=" ".join)
def test_commands_that_look(
    tmp_path: Path, environment: dict[str, str], arguments: tuple[str, ...], delay_s: float
) -> None:
    command = Command(*arguments, directory=tmp_path, **environment)
    command.check(command.interrupt(delay_s))


@pytest.mark.parametrize("delay_s", [2.0, 4.0])
def test_a_benchmark_on_engines_of_its_own(tmp_path: Path, delay_s: float) -> None:
    small = ("--points", "200", "--users", "20", "--dimension", "16", "--rounds", "20")
    command = Command("bench", *small, directory=tmp_path)
    command.check(command.interrupt(delay_s))


def test_a_worker_on_servers_elsewhere_stops_in_good_order(tmp_path: Path, environment: dict[str, str]) -> None:
    command = Command("run", directory=tmp_path, **environment)
    assert command.process.stderr is not None
    for line in command.process.stderr:
        if " started " in line:
            break
    said = command.interrupt(0.5)
    assert said is not None
    assert " stopped " in said
    assert command.process.returncode == 130
