"""The log events: their levels and fields from the calls of `log_event`, their meanings from `EVENTS`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import memory_worker
from memory_worker.commands.reference.markdown import table
from memory_worker.telemetry.events import EVENTS

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


_NO_FIELDS = ("failure", "trace")


class LoggedEvent(NamedTuple):
    """One call of `log_event`."""

    name: str
    levels: frozenset[str]
    fields: tuple[str, ...]


def table_of_events() -> str:
    """Return a table of all log events."""
    calls = list(logged_events())
    return table(("event", "level", "fields", "meaning"), (_row(name, calls) for name in sorted(EVENTS)))


def logged_events() -> Iterator[LoggedEvent]:
    """Yield each call of `log_event` in the package."""
    for path in sorted(Path(memory_worker.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _calls_in(function)


def _calls_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[LoggedEvent]:
    for call in ast.walk(function):
        match call:
            case ast.Call(func=ast.Name("log_event"), args=[_, level, ast.Constant(str(name))], keywords=given):
                fields = tuple(field.arg for field in given if field.arg and field.arg not in _NO_FIELDS)
                yield LoggedEvent(name, _levels(level) or _levels(function), fields)


def _levels(node: ast.AST) -> frozenset[str]:
    """Return the levels of `logging` that are named within ``node``."""
    return frozenset(
        found.attr for found in ast.walk(node) if isinstance(found, ast.Attribute) and found.attr in _LEVELS
    )


def _row(name: str, calls: list[LoggedEvent]) -> tuple[str, ...]:
    own = [call for call in calls if call.name == name]
    levels = sorted({level for call in own for level in call.levels}, key=_LEVELS.index)
    fields = dict.fromkeys(field for call in own for field in call.fields)
    return f"`{name}`", ", ".join(levels), ", ".join(f"`{field}`" for field in fields), EVENTS[name]
