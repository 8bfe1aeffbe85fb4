"""Charts of the last hour as points of SVG paths. The templates draw them.

While there are only a few minutes of samples, the charts show only these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import floor
from typing import NamedTuple

from memory_worker.console.words import clock_of
from memory_worker.inspection.history import EVERY_S, OVER_S, Sample
from memory_worker.plain_text import age

WIDTH, HEIGHT = 600, 120
_MARGIN = 4
_GAP_S = 3.5 * EVERY_S
_BINS = 60
_WINDOWS_S = (300.0, 900.0, 1800.0, OVER_S)
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

Value = Callable[[Sample], float | None]


class _Frame(NamedTuple):
    """The scales of a chart: the time at its right edge, the seconds that it shows, and the value at its top."""

    now: float
    over_s: float
    top: float

    def x(self, at: float) -> float:
        """Return the place of a time."""
        return max(0.0, WIDTH * (1 - (self.now - at) / self.over_s))

    def y(self, value: float) -> float:
        """Return the height of a value, from the top."""
        return HEIGHT - (HEIGHT - _MARGIN) * value / self.top


class Line(NamedTuple):
    """A line of a chart: its name, the value to follow, and how it is drawn."""

    name: str
    value: Value
    is_filled: bool = False


class Drawn(NamedTuple):
    """A line as SVG paths. ``latest`` and ``most`` are texts."""

    name: str
    path: str
    area: str
    latest: str
    most: str


class Slot(NamedTuple):
    """A minute of a chart, with what to show for it."""

    x: float
    width: float
    text: str


class Chart(NamedTuple):
    """A chart that ends now, as texts: ``top`` is the value at its upper edge, ``begins`` the time at its left one."""

    title: str
    unit: str
    lines: list[Drawn]
    top: str
    begins: str
    slots: list[Slot]
    summary: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw yet."""
        return not any(line.path for line in self.lines)


def chart(
    title: str, unit: str, samples: Sequence[Sample], lines: Sequence[Line], *, shown: Callable[..., str], now: float
) -> Chart:
    """Draw some values of the samples. ``shown`` turns a value into text."""
    values = [value for line in lines for sample in samples if (value := line.value(sample)) is not None]
    top = nice_top(max(values, default=0.0))
    frame = _Frame(now, window_s(samples, now), top)
    drawn = [_drawn(line, samples, frame, shown) for line in lines]
    summary = "; ".join(f"{line.name} now {line.latest}, at most {line.most}" for line in drawn)
    begins = f"{age(frame.over_s)} ago"
    return Chart(title, unit, drawn, shown(top), begins, list(_slots(samples, lines, shown, frame)), summary)


def window_s(samples: Sequence[Sample], now: float) -> float:
    """Return how many seconds the charts show: up to an hour, as far as there are samples."""
    reach_s = now - samples[0].at if samples else 0.0
    return next((window for window in _WINDOWS_S if reach_s <= window), OVER_S)


def nice_top(most: float) -> float:
    """Return the value at the upper edge: a round number, and not below ``most``."""
    if most <= 0:
        return 1.0
    power = 10.0 ** int(f"{most:e}".partition("e")[2])
    return next(step * power for step in _STEPS if most <= step * power * (1 + 1e-9))


def _drawn(line: Line, samples: Sequence[Sample], frame: _Frame, shown: Callable[..., str]) -> Drawn:
    runs, values = [*_runs(line.value, samples)], [*_known(line.value, samples)]
    points = [[(frame.x(at), frame.y(value)) for at, value in run] for run in runs]
    path = "".join(f"M{'L'.join(f'{x:.1f} {y:.1f}' for x, y in run)}" for run in points)
    area = "".join(
        f"M{run[0][0]:.1f} {HEIGHT}L{'L'.join(f'{x:.1f} {y:.1f}' for x, y in run)}L{run[-1][0]:.1f} {HEIGHT}Z"
        for run in points
    )
    latest = line.value(samples[-1]) if samples else None
    return Drawn(line.name, path, area if line.is_filled else "", shown(latest), shown(max(values, default=None)))


def _known(value: Value, samples: Sequence[Sample]) -> Iterator[float]:
    return (found for sample in samples if (found := value(sample)) is not None)


def _runs(value: Value, samples: Sequence[Sample]) -> Iterator[list[tuple[float, float]]]:
    """Yield the values without gaps between them, each with its time. A single value is drawn as a short line."""
    run: list[tuple[float, float]] = []
    for sample in samples:
        found = value(sample)
        if run and (found is None or sample.at - run[-1][0] > _GAP_S):
            yield _at_least_two(run)
            run = []
        if found is not None:
            run.append((sample.at, found))
    if run:
        yield _at_least_two(run)


def _at_least_two(run: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return run if len(run) > 1 else [(run[0][0] - EVERY_S, run[0][1]), run[0]]


def _slots(
    samples: Sequence[Sample], lines: Sequence[Line], shown: Callable[..., str], frame: _Frame
) -> Iterator[Slot]:
    """Yield what is shown for each minute of an hour, or a part of a shorter time: the largest values in it."""
    width, began, step_s = WIDTH / _BINS, frame.now - frame.over_s, frame.over_s / _BINS
    for number, found in groupby(samples, key=lambda sample: floor((sample.at - began) / step_s)):
        if 0 <= number < _BINS:
            within = [*found]
            parts = (f"{line.name} {shown(max(_known(line.value, within), default=None))}" for line in lines)
            yield Slot(number * width, width, f"{clock_of(began + number * step_s)} UTC: {', '.join(parts)}")
