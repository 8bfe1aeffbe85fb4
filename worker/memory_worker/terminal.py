"""Output of commands for people: tables, lines and progress, in which foreign text is harmless.

Foreign text is text that this program did not write itself: payloads, details of dead letters, names of collections,
messages of servers. All of it passes through `plain`, which escapes control characters and characters that the terminal
cannot show. `Sheet` does that for each cell, and `foreign` for a part of a line. So only our own texts contain markup.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from memory_worker.plain_text import never_fail, plain


def open_console(*, stderr: bool = False) -> Console:
    """Return the console for standard output or standard error. It can print every character."""
    stream = sys.stderr if stderr else sys.stdout
    never_fail(stream)
    return Console(stderr=stderr, emoji=False, highlight=False)


def open_progress(console: Console, *columns: ProgressColumn, auto_refresh: bool = True) -> Progress:
    """Return a progress display with these ``columns``. It is shown only on a terminal, and disappears at its end.

    Without ``auto_refresh`` no thread draws it, so that it is not drawn again after Ctrl-C.
    """
    return Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=auto_refresh
    )


def foreign(text: str, console: Console) -> str:
    """Return foreign text for a line with markup."""
    return escape(plain(text, console.encoding))


class Sheet:
    """A table. Its cells are foreign text, unless they are `Text`, as from `styled`."""

    def __init__(self, console: Console, title: str, *, header: bool = True) -> None:
        self._console = console
        self._table = Table(title=title, title_justify="left", show_header=header)

    def columns(self, *headings: str, right: bool = False, whole: bool = False, style: str = "") -> None:
        """Add columns: ``right`` aligned for numbers, ``whole`` for text that must not be wrapped."""
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
    """Return a cell with our own text and markup."""
    return Text.from_markup(markup, emoji=False)
