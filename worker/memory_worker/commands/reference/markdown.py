"""Markdown tables, and docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(docstring: str | None) -> str:
    """Return a docstring as Markdown: its paragraphs as lines, its double or single backticks as code."""
    text = re.sub(r"``|`", "`", inspect.cleandoc(docstring or ""))
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)
