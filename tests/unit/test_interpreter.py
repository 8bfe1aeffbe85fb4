"""Children import what their parent does, whatever lies in the working directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memory_worker.embedded.interpreter import SOURCE_ROOT, python_command

SHOW = """
import json, sys, logging, queue, redis
found = [module.__file__ for module in (logging, queue, redis)]
print(json.dumps({"path": sys.path, "files": found, "arguments": sys.argv[1:], "name": __name__}))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of an app that has modules of such names."""
    directory = tmp_path / "app"
    directory.mkdir()
    for name in ("worker", "redis", "logging", "queue", "memory_worker"):
        (directory / f"{name}.py").write_text("raise AssertionError(__file__)\n")
    monkeypatch.chdir(directory)
    return directory


def run(module: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run(python_command(module, arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("entry", ["", "the absolute path"])
def test_the_working_directory_is_no_part_of_the_path(
    entry: str, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "show.py").write_text(SHOW)
    monkeypatch.setattr(sys, "path", [entry and str(app), str(tmp_path / "elsewhere"), *sys.path])
    found = run("show", "--a", "b c")
    assert found["path"] == [path for path in sys.path if path and path != str(app)]
    assert not [file for file in found["files"] if str(app) in file]  # type: ignore[attr-defined]
    assert (found["arguments"], found["name"]) == (["--a", "b c"], "__main__")


def test_the_root_of_this_package_is_always_a_part_of_it(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != SOURCE_ROOT])
    assert run_text("import memory_worker; print(memory_worker.__file__)", app).startswith(SOURCE_ROOT)


def run_text(program: str, app: Path) -> str:
    (app.parent / "program.py").write_text(program)
    command = python_command("program", [])
    command[3] = command[3].replace("sys.path[:] = [", f"sys.path[:] = [{str(app.parent)!r}, ")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", [["-m", "memory_worker"], [str(Path(sys.executable).with_name("memory-worker"))]])
def test_the_commands_do_not_import_from_the_working_directory(command: list[str], tmp_path: Path) -> None:
    for name in ("worker", "redis", "logging", "queue"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError(__file__)\n")
    done = subprocess.run(
        [sys.executable, *command, "schema"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_client_can_be_imported_beside_an_apps_own_worker(tmp_path: Path) -> None:
    for name in ("worker", "tasks", "client", "settings"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError(__file__)\n")
    (tmp_path / "main.py").write_text("from memory_worker.client.memory_queue import MemoryQueue\n")
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True)
