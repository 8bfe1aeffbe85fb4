"""What the commands print for people: tables and lines, in which no foreign text can do anything.

Foreign text is whatever this program did not write itself: payloads, details of dead letters, names of collections,
messages of servers. All of it passes `plain`, which escapes control characters and what the terminal cannot show.
`Sheet` and `foreign` do that for every cell and every piece of a line, so only texts of our own hold rich's markup.
"""

from __future__ import annotations

import json
import sys
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def open_console(*, stderr: bool = False) -> Console:
    """Return the console for standard output (or standard error). It never fails for a character."""
    stream = sys.stderr if stderr else sys.stdout
    never_fail(stream)
    return Console(stderr=stderr, emoji=False, highlight=False)


def never_fail(stream: IO[str] | None) -> None:
    """Have a stream write characters as escapes where its encoding has no others for them."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def plain(text: str, encoding: str = "utf-8") -> str:
    """Return foreign text on one line, with everything escaped that does not print, as `repr` does.

    That covers control characters, line breaks, marks that change the direction of text, and what ``encoding`` cannot
    encode.
    """
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def foreign(text: str, console: Console) -> str:
    """Return foreign text as a piece of a line with markup."""
    return escape(plain(text, console.encoding))


class Sheet:
    """A table whose cells are foreign text, unless they are `Text` or come from `styled`."""

    def __init__(self, console: Console, title: str, *, header: bool = True) -> None:
        self._console = console
        self._table = Table(title=title, title_justify="left", show_header=header)

    def columns(self, *headings: str, right: bool = False, whole: bool = False, style: str = "") -> None:
        """Add columns; ``right`` for numbers, ``whole`` for what must never be broken."""
        for heading in headings:
            self._table.add_column(
                heading, justify="right" if right else "left", no_wrap=right or whole, overflow="fold", style=style
            )

    def row(self, *cells: str | Text) -> None:
        """Add a row."""
        encoding = self._console.encoding
        self._table.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell, encoding)) for cell in cells))

    def show(self) -> None:
        """Print the table."""
        self._console.print(self._table)


def styled(markup: str) -> Text:
    """Return a cell of our own words, with markup."""
    return Text.from_markup(markup, emoji=False)


def print_json(document: Any, *, indent: int | None = None) -> None:
    """Print a document as JSON, in ASCII: no terminal and no encoding can garble it."""
    sys.stdout.write(f"{json.dumps(document, indent=indent)}\n")
