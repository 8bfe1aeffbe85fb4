"""Child processes import the same modules as their parent, whatever files the working directory has."""

from __future__ import annotations

import json
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
    """Return the working directory of an app that has modules of the same names."""
    directory = tmp_path / "app"
    directory.mkdir()
    for name in ("worker", "redis", "logging", "queue", "memory_worker", "tasks", "client", "settings"):
        (directory / f"{name}.py").write_text("raise AssertionError(__file__)\n")
    monkeypatch.chdir(directory)
    return directory


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("entry", ["", "the absolute path"])
def test_the_working_directory_is_not_in_the_path_of_a_child(
    entry: str, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "show.py").write_text(SHOW)
    monkeypatch.setattr(sys, "path", [entry and str(app), str(tmp_path / "elsewhere"), *sys.path])
    found = json.loads(run(*python_command("show", ["--a", "b c"])))
    assert found["path"] == [path for path in sys.path if path and path != str(app)]
    assert not [file for file in found["files"] if str(app) in file]
    assert (found["arguments"], found["name"]) == (["--a", "b c"], "__main__")


def test_the_root_of_the_package_is_in_the_path_of_a_child(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != SOURCE_ROOT])
    (app.parent / "program.py").write_text("import memory_worker; print(memory_worker.__file__)")
    command = python_command("program", [])
    command[3] = command[3].replace("sys.path[:] = [", f"sys.path[:] = [{str(app.parent)!r}, ")
    assert run(*command).startswith(SOURCE_ROOT)


@pytest.mark.parametrize("command", [["-m", "memory_worker"], [str(Path(sys.executable).with_name("memory-worker"))]])
def test_the_commands_do_not_import_from_the_working_directory(command: list[str], app: Path) -> None:
    (app / "memory_worker.py").unlink()  # `python -m` imports it
    run(sys.executable, *command, "schema")


def test_the_client_can_be_imported_in_an_app_with_its_own_worker_module(tmp_path: Path) -> None:
    for name in ("worker", "tasks", "client", "settings"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError(__file__)\n")
    (tmp_path / "main.py").write_text("from memory_worker import MemoryQueue\nprint(MemoryQueue)\n")
    run(sys.executable, str(tmp_path / "main.py"))
