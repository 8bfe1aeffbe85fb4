"""Read the Markdown documents of the repository: code blocks, commands, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from urllib.parse import urlsplit

import click
from click.testing import CliRunner

from memory_worker.commands.main import main

ROOT = Path(__file__).parents[1]

_FENCED = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"memory-worker +([a-z][^\n`#&;]*)")


@dataclass(frozen=True)
class Block:
    """One fenced block of code, without its indentation. ``line`` is the line of its opening fence."""

    path: Path
    line: int
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


@cache
def text(path: Path) -> str:
    """Return the whole document."""
    return path.read_text(encoding="utf-8")


def joined(path: Path) -> str:
    """Return the whole document in one line, to find phrases that a line end may split."""
    return re.sub(r"\s+", " ", text(path))


@cache
def prose(path: Path) -> str:
    """Return the document without its fenced blocks."""
    return _FENCED.sub("", text(path))


def blocks(paths: Iterable[Path], language: str | None = None) -> list[Block]:
    """Return the fenced blocks of the documents in order: those of one language (``""`` is none), or all."""
    return [
        Block(path, text(path).count("\n", 0, match.start()) + 1, match[1], dedent(match[2]))
        for path in paths
        for match in _FENCED.finditer(text(path))
        if language is None or match[1] == language
    ]


def inline_code(path: Path) -> list[str]:
    """Return what is in backticks within the lines of the document."""
    return _INLINE.findall(prose(path))


def code(path: Path) -> list[str]:
    """Return all code of the document: the bodies of its blocks, then the code within its lines."""
    return [*(block.body for block in blocks([path])), *inline_code(path)]


def found_in_code(paths: Iterable[Path], pattern: str) -> list[str]:
    """Return what the pattern finds in the code of the documents, sorted, once each."""
    return sorted({found for path in paths for piece in code(path) for found in re.findall(pattern, piece)})


def commands(paths: Iterable[Path]) -> list[str]:
    """Return what follows ``memory-worker`` in the code of the documents, up to the end of each command."""
    found = found_in_code(paths, _COMMAND.pattern)
    return sorted({command.replace("\\|", "|").strip() for command in found})


def unknown_in_command(line: str) -> list[str]:
    """Return the subcommand or the options in ``line`` that ``memory-worker`` does not have."""
    words = line.split()
    command: click.Command = main
    path: list[str] = []
    while isinstance(command, click.Group):
        if not words:
            return [f"{line!r} lacks a subcommand"]
        path.append(words.pop(0))
        found = command.get_command(click.Context(command), path[-1])
        if found is None:
            return [path[-1]]
        command = found
    known = CliRunner().invoke(main, [*path, "--help"]).output
    return [option for option in re.findall(r"--[a-z-]+", line) if option not in known]


def links(path: Path) -> list[str]:
    """Return the targets of the document's links, sorted, once each."""
    return sorted(set(_LINK.findall(prose(path))))


def broken_links(path: Path) -> list[str]:
    """Return the links into the repository that lead to no file or no heading; other sites are not asked."""
    return [target for target in links(path) if not urlsplit(target).scheme and not _leads_somewhere(path, target)]


def _leads_somewhere(path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    there = (path.parent / name).resolve() if name else path
    return there.exists() and (not anchor or anchor in anchors(there))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of the document's headings."""
    seen: list[str] = []
    found = set()
    for heading in _HEADING.findall(prose(path)):
        anchor = slug(heading)
        found.add(f"{anchor}-{seen.count(anchor)}" if anchor in seen else anchor)
        seen.append(anchor)
    return found


def sections(path: Path) -> dict[str, str]:
    """Return the prose below each heading of the second level or deeper, by the heading's anchor."""
    parts = _SECTION.split(prose(path))
    return {slug(heading): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def slug(heading: str) -> str:
    """Return the anchor of a heading that occurs once."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
