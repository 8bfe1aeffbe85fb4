"""Ctrl-C ends a command at any time with one line and status 130, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENDS_WITHIN_S = 10.0
# `install` is called first: an interrupt before it ends Python itself, without a message.
STARTED = """
import os, signal, sys
from memory_worker.commands import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell ignore it
interrupts.install()
os.write(int(sys.argv.pop(1)), b"!")
from memory_worker.__main__ import main
main()
"""


class Command:
    """A command in an empty directory, with a directory for its temporary files."""

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
        """Interrupt it after a time; return its standard error, or ``None`` if it had ended before."""
        try:
            self.process.wait(delay_s)
        except subprocess.TimeoutExpired:
            pass
        else:
            self.process.communicate()
            return None
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.communicate(timeout=ENDS_WITHIN_S)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def check(self, output: str | None) -> None:
        """Check how it ended; its status is 0 if it was finished at that moment."""
        if output and self.process.returncode == 0:
            assert "interrupted" not in output
        elif output:
            assert self.process.returncode == 130, output
            assert "memory-worker: interrupted" in output.splitlines()
            assert "Traceback" not in output
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


@pytest.mark.parametrize(("delay_s", "times"), [(0, 1), (0.3, 1), (1.0, 2)])
def test_the_demo_is_interrupted(tmp_path: Path, delay_s: float, times: int) -> None:
    command = Command("demo", directory=tmp_path)
    command.check(command.interrupt(delay_s, times=times))


def test_the_demo_is_interrupted_while_it_starts_a_process(tmp_path: Path) -> None:
    command = Command("demo", directory=tmp_path)
    assert command.process.stdout is not None
    assert any("Qdrant is started again" in printed for printed in command.process.stdout)
    command.check(command.interrupt(0))


@pytest.mark.parametrize(("delay_s", "times"), [(1.3, 1), (2.3, 2), (4.0, 1)])
def test_a_worker_with_embedded_engines_is_interrupted(tmp_path: Path, delay_s: float, times: int) -> None:
    command = Command("run", directory=tmp_path, DATA_DIR=str(tmp_path / "data"))
    command.check(command.interrupt(delay_s, times=times))


@pytest.mark.parametrize("delay_s", [0.5, 1.1])
@pytest.mark.parametrize("arguments", [("status",), ("dead", "list"), ("bulk",)], ids=" ".join)
def test_other_commands_are_interrupted(
    tmp_path: Path, environment: dict[str, str], arguments: tuple[str, ...], delay_s: float
) -> None:
    command = Command(*arguments, directory=tmp_path, **environment)
    command.check(command.interrupt(delay_s))


def test_a_worker_with_external_servers_is_interrupted(tmp_path: Path, environment: dict[str, str]) -> None:
    command = Command("run", directory=tmp_path, **environment)
    assert command.process.stderr is not None
    for line in command.process.stderr:
        if " started " in line:
            break
    output = command.interrupt(0.5)
    assert output is not None
    assert " stopped " in output
    assert command.process.returncode == 130
