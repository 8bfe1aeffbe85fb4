"""How the demo looks: a story line by line, each with its time, and a bar below it while the demo runs.

Only a terminal shows the bar. All lines fit into 80 columns, and need neither colours nor characters beyond ASCII.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.text import Text

from memory_worker.demo.answers import Answer
from memory_worker.demo.verdict import Verdict
from memory_worker.plain_text import plain
from memory_worker.terminal import open_progress

_MOST_COLUMNS = 100
_BAR_COLUMNS = 24
_NAMED_POINTS = 5


class Screen:
    """Prints what happens. ``total`` is the number of requests. Times count from the making of the screen."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._width = min(console.width, _MOST_COLUMNS)
        self._started = time.monotonic()
        self._state = ""
        columns = TextColumn(" "), BarColumn(_BAR_COLUMNS), TextColumn("{task.description}")
        self._bar = open_progress(console, *columns, auto_refresh=False)
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def introduce(self, title: str, text: str) -> None:
        """Print what the demo is about."""
        self._line("", f"[bold]{title}[/]")
        self._line("", text)
        self._console.print()

    def say(self, text: str, *, state: str | None = None) -> None:
        """Print the next line of the story. ``text`` may have markup. From now on the bar shows ``state``."""
        if state is not None:
            self._state = state
            self._bar.update(self._task, description=f"[red]{state}[/]")
        self._line(f"[dim] {time.monotonic() - self._started:4.1f} s  [/]", text)

    def progress(self, pushed: int, waiting: int) -> None:
        """Show in the bar how many requests were pushed and how many of them wait."""
        counts = f"[green]{pushed - waiting} applied[/], {waiting} waiting"
        state = f", [red]{self._state}[/]" if self._state else ""
        self._bar.update(self._task, completed=pushed - waiting, description=counts + state, refresh=True)

    def head(self, title: str, text: str) -> None:
        """Print the title of a part. From then on there is no bar."""
        self._stop_bar()
        self._console.print()
        self._line("", f"[bold]{title}[/]  {text}")

    def answers(self, answers: Sequence[Answer]) -> None:
        """Print questions with the best answers."""
        for answer in answers:
            question, found = answer.question, self._foreign(answer.text, "cyan") if answer.hits else Text("Nothing.")
            asked = question.text if question.category is None else f"{question.text} ({question.category})"
            if answer.deleted:
                found.append(" The app deleted this memory while Qdrant was down.")
            if not answer.right:
                found.append(f" WRONG, expected: {', '.join(answer.question.expected) or 'nothing'}", "bold red")
            user = f"  user {question.user_id}  "
            self._line(f"[dim]{user}[/]", self._foreign(asked))
            self._line(" " * len(user), found)

    def times(self, times_ms: Mapping[str, Sequence[float]]) -> None:
        """Print the median and the 99th percentile of each series of times, in milliseconds."""
        self._line("", f"[dim]{'':40}{'half within':>14}{'99 % within':>14}[/]")
        for name, series in times_ms.items():
            cuts = statistics.quantiles(series, n=100)
            self._line("", f"  {name:38}{cuts[49]:>11.1f} ms{cuts[98]:>11.1f} ms")

    def verdict(self, verdict: Verdict) -> None:
        """Print the verdict, with the names of points that are wrong."""
        asked = f"{verdict.points - verdict.wrong} of {verdict.points} points are as the app asked"
        if not verdict.wrong:
            self._line("  ", f"[bold green]{asked}[/]: {verdict.there} are there, {verdict.gone} are deleted.")
            self._line("  ", "Nothing was lost, nothing is out of date, nothing came back.")
            return
        self._line("  ", f"[bold red]{asked}, {verdict.wrong} not.[/]")
        for fault, names in (
            ("lost", verdict.missing),
            ("out of date", verdict.outdated),
            ("not wanted, but there", verdict.unwanted),
        ):
            if names:
                more = f" and {len(names) - _NAMED_POINTS} more" if len(names) > _NAMED_POINTS else ""
                self._line("  ", self._foreign(f"{len(names)} {fault}: {', '.join(names[:_NAMED_POINTS])}{more}"))

    def next_steps(self, steps: Mapping[str, str]) -> None:
        """Print what to do next, and what it does."""
        for step, effect in steps.items():
            self._line(f"  [bold]{step:20}[/]", effect)

    def _foreign(self, text: str, style: str = "") -> Text:
        return Text(plain(text, self._console.encoding), style=style)

    def _line(self, lead: str, text: str | Text) -> None:
        """Print text behind ``lead``, with further lines below its beginning. Both may have markup, if they are str."""
        first = Text.from_markup(lead)
        body = Text.from_markup(text) if isinstance(text, str) else text
        for number, line in enumerate(body.wrap(self._console, self._width - len(first))):
            line.rstrip()
            self._console.print(Text.assemble(first if number == 0 else " " * len(first), line), soft_wrap=True)
