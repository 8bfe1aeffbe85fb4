"""The package is divided into rooms. Files and functions are short, and each room says what belongs there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memory_worker

PACKAGE = Path(memory_worker.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 40


def functions() -> Iterator[tuple[str, int]]:
    """Yield the name of each function, with its number of lines."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: lines for path, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE}


def test_no_function_is_long() -> None:
    assert not [(name, lines) for name, lines in functions() if lines > MOST_LINES_OF_A_FUNCTION]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_belongs_there_and_what_does_not(room: str) -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert "Here: " in text
    assert "Not here: " in text or "Not here:\n" in text or "Not\nhere: " in text
