"""The README's command for tests installs all packages that the tests import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
BUILD = PYPROJECT["tool"]["hatch"]["build"]
EXTRAS = ("embedded", "test")
BY_HAND = {"atheris"}
"""Imported by what is started by hand alone; its page says how to install it."""


def imported() -> set[str]:
    """Return the modules from outside that the tests import, anywhere in their code."""
    names = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    tops = {name.partition(".")[0] for name in names}
    return tops - sys.stdlib_module_names - {"memory_worker", "tests"} - BY_HAND


def installed() -> set[str]:
    """Return the distributions that the README's command for tests brings, with all that they need."""
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra])]
    found: set[str] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        requirement = waiting.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            waiting += [needed for needed in _requirements(name) if _is_needed(needed, extras)]
    return found


def _requirements(name: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return []


def _is_needed(requirement: Requirement, extras: set[str]) -> bool:
    if requirement.marker is None:
        return True
    needed = any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    requirement.marker = None
    return needed


@pytest.mark.parametrize("module", sorted(imported()))
def test_what_tests_import_is_installed_for_them(module: str) -> None:
    brought_by = {canonicalize_name(name) for name in packages_distributions()[module]}
    assert brought_by & installed(), f"{module} is in no extra of {', '.join(EXTRAS)}"


def test_the_wheel_has_the_package_alone() -> None:
    assert set(BUILD) == {"targets"}
    assert BUILD["targets"]["wheel"] == {"packages": ["worker/memory_worker"]}
    assert [path for path in (ROOT / "worker").rglob("*") if path.is_symlink()] == []


def test_the_source_distribution_has_all_that_its_tests_read() -> None:
    assert {"worker", "clients", "tests", "docs", "deploy"} <= set(BUILD["targets"]["sdist"]["include"])


@pytest.mark.parametrize(
    ("ending", "whole"),
    [
        ("&& memory-worker demo", "pip install '.[embedded]' && memory-worker demo"),
        ("&& pytest", "pip install '.[test]' && pytest"),
    ],
)
def test_ci_finds_the_commands_of_the_readme(ending: str, whole: str) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "readme_command"), *ending.split()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{whole}\n"


def test_ci_fails_where_the_readme_has_no_such_command() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "readme_command"), "&&", "no-such-command"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exactly one code block" in done.stderr
