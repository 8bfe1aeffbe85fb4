"""The figures of all rounds as texts: medians, ranges and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TypeAlias

from memory_worker.bench.loops import Figure, Round
from memory_worker.bench.options import by

_HUNDRED = 100

Pick: TypeAlias = Callable[[Figure], float | None]
"""Takes one value from a figure."""


def rate(figure: Figure) -> float | None:
    """Take calls per second."""
    return figure.rate


def ms(percentile: str) -> Pick:
    """Return what takes a percentile of the latencies, in ms."""
    return lambda figure: figure.ms.get(percentile)


class Medians:
    """The figures of all rounds by path. A text is empty for what was not measured."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds
        self.paths = [*dict.fromkeys(path for one in rounds for path in one)]

    def values(self, path: str, pick: Pick) -> list[float]:
        """Return the value of each round that has one."""
        found = (pick(one[path]) for one in self._rounds if path in one)
        return [value for value in found if value is not None]

    def text(self, path: str, pick: Pick = rate) -> str:
        """Return the median."""
        values = self.values(path, pick)
        return number(statistics.median(values)) if values else ""

    def row(self, path: str) -> tuple[str, str, str]:
        """Return p50, p99, both in ms, and calls per second."""
        return self.text(path, ms("p50")), self.text(path, ms("p99")), self.text(path)

    def range(self, path: str) -> str:
        """Return the lowest and the highest rate."""
        return _range(self.values(path, rate))

    def ratio(self, above: str, below: str, pick: Pick = rate, *, with_range: bool = False) -> str:
        """Return the median of the ratios of each round. Within a round the machine was equally fast for both."""
        pairs = [(pick(one[above]), pick(one[below])) for one in self._rounds if above in one and below in one]
        ratios = [first / second for first, second in pairs if first is not None and second]
        if not ratios:
            return ""
        return f"{number(statistics.median(ratios))}{f' ({_range(ratios, digits=2)})' if with_range else ''}"

    def best(self, path: str, counts: Sequence[int]) -> int:
        """Return the number of callers with which a path has the highest median rate; 0 if it was not measured."""
        rates = {count: self.values(by(path, count), rate) for count in counts}
        return max(
            (count for count in counts if rates[count]), key=lambda count: statistics.median(rates[count]), default=0
        )


def number(value: float, digits: int = 3) -> str:
    """Return a value with so many digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if value >= _HUNDRED else f"{value:.{digits}g}"


def _range(values: Sequence[float], digits: int = 3) -> str:
    return f"{number(min(values), digits)}-{number(max(values), digits)}"
