from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import memory_worker
from memory_worker.queue import scripts as worker_side
from memory_worker.wire import scripts as producer_side

WORKER = Path(memory_worker.__file__).parent
SCRIPTS = {
    path.stem: side.scripts
    for side in (worker_side, producer_side)
    for path in Path(side.__file__).parent.glob("*.lua")
}
LUA = sorted(SCRIPTS)

# A script that adds jobs must fail if Redis is full. All others must work then, so that drains can free memory.
GROWING = {"push", "replay", "take_over"}


def run_by_modules() -> set[str]:
    """Return the names of the scripts in calls of ``scripts.run``."""
    names = set()
    for path in WORKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("scripts.run", "scripts.run_replicated"):
                assert isinstance(node.args[1], ast.Constant)
                names.add(node.args[1].value)
    return names


def comment_and_code(name: str) -> tuple[str, str]:
    lines = [line for line in SCRIPTS[name].source(name).splitlines() if not line.startswith("#!")]
    code_starts = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:code_starts]), "\n".join(lines[code_starts:])


def test_every_script_is_used_and_exists() -> None:
    assert run_by_modules() == set(LUA)


@pytest.mark.parametrize("name", LUA)
def test_a_script_documents_what_it_does_and_its_arguments(name: str) -> None:
    comment, code = comment_and_code(name)
    assert re.match(r"-- [A-Z].*[.:,]", comment)
    assert re.search(r"^-- KEYS  \S", comment, re.MULTILINE)
    assert bool(re.search(r"^-- ARGV  \S", comment, re.MULTILINE)) == ("ARGV" in code)


@pytest.mark.parametrize("name", LUA)
def test_a_script_uses_as_many_keys_as_it_documents(name: str) -> None:
    comment, code = comment_and_code(name)
    line = re.search(r"^-- KEYS  (.*)$", comment, re.MULTILINE)
    assert line is not None
    described = line[1].split(", then")[0].split(", ") if "for each" not in line[1].split(",")[0] else []
    used = [int(number) for number in re.findall(r"KEYS\[(\d+)\]", code)]
    assert max(used, default=0) == len(described)


@pytest.mark.parametrize("name", LUA)
def test_a_script_contains_no_names_of_keys(name: str) -> None:
    _, code = comment_and_code(name)
    assert "'mw" not in code
    assert "arq:" not in code


@pytest.mark.parametrize("name", LUA)
def test_only_scripts_that_add_jobs_fail_when_redis_is_full(name: str) -> None:
    assert SCRIPTS[name].source(name).startswith("#!lua flags=allow-oom\n") == (name not in GROWING)
