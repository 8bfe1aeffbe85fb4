"""How two measurements of the same round compare, and what we want that to be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from memory_worker.bench import names
from memory_worker.bench.figures import Figure, Round


class Spread(msgspec.Struct, frozen=True):
    """The median of what the rounds came to, the lowest and the highest."""

    median: float
    lowest: float
    highest: float


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison, what is wanted of it, and whether its median is so."""

    what: str
    value: Spread
    unit: str
    wanted: str
    met: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a round: ``of`` returns ``None`` where it was not measured."""

    what: str
    of: Callable[[Round], float | None]
    bound: Literal["at least", "at most"]
    limit: float
    unit: str = "times"

    def judge(self, rounds: Sequence[Round]) -> Compared | None:
        """Compare in each round by itself; ``None`` where no round has both sides."""
        value = spread([found for one in rounds if (found := self.of(one)) is not None])
        if value is None:
            return None
        met = value.median >= self.limit if self.bound == "at least" else value.median <= self.limit
        wanted = f"{self.bound} {self.limit:.3g}"
        return Compared(what=self.what, value=value, unit=self.unit, wanted=wanted, met=met)


def spread(values: Sequence[float]) -> Spread | None:
    """Return the spread of values; ``None`` where there are none."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def compared(rounds: Sequence[Round], callers: int) -> list[Compared]:
    """Compare what can be compared."""
    return [found for goal in goals(callers) if (found := goal.judge(rounds)) is not None]


def goals(callers: int) -> list[Goal]:
    """Return what we want, where ``callers`` is how many call at once."""
    by, rate, p50, p99 = names.by, _rate, _p50, _p99
    upserts = by(names.UPSERT, callers)
    searches, queries = by(names.SEARCH, callers), by(names.QUERY, callers)
    push, upsert, search, query = (by(path, 1) for path in (names.PUSH, names.UPSERT, names.SEARCH, names.QUERY))
    some_load = names.visible_at(0.2)
    return [
        Goal(f"{names.DRAIN}, to one arq job per write", _ratio(rate, names.DRAIN, names.ARQ), "at least", 10),
        Goal(f"{names.DRAIN}, to upload_points", _ratio(rate, names.DRAIN, names.UPLOAD), "at least", 0.9),
        Goal(f"{names.DRAIN}, to {upserts}", _ratio(rate, names.DRAIN, upserts), "at least", 3),
        Goal("p50 of a push to that of a direct upsert, one caller", _ratio(p50, push, upsert), "at most", 1 / 3),
        Goal(
            "p50 of a search above that of a direct query, one caller", _above(p50, search, query), "at most", 4, "ms"
        ),
        Goal(
            f"searches a second to direct queries, {callers} callers", _ratio(rate, searches, queries), "at least", 0.8
        ),
        Goal(f"p50 of a {some_load}", _only(p50, some_load), "at most", 15, "ms"),
        Goal(f"p99 of a {some_load}", _only(p99, some_load), "at most", 60, "ms"),
        Goal("p99 of a search during a full ingest, to idle", _ratio(p99, names.DURING_INGEST, search), "at most", 3),
    ]


def counterparts(callers: int) -> Mapping[str, str]:
    """Return, for each peer, what we do instead."""
    return {
        names.by(names.UPSERT, 1): names.by(names.PUSH, 1),
        names.by(names.UPSERT, callers): names.DRAIN,
        names.UPLOAD: names.DRAIN,
        names.ARQ: names.DRAIN,
        **{names.by(names.QUERY, number): names.by(names.SEARCH, number) for number in (1, callers)},
    }


def our_rate_to(peer: str, rounds: Sequence[Round], callers: int) -> Spread | None:
    """Return how many times the rate of a peer ours is; ``None`` for what is no peer."""
    ours = counterparts(callers).get(peer)
    if ours is None:
        return None
    ratio = _ratio(_rate, ours, peer)
    return spread([found for one in rounds if (found := ratio(one)) is not None])


_Measure = Callable[[Figure], float | None]


def _rate(figure: Figure) -> float | None:
    return figure.rate or None


def _p50(figure: Figure) -> float | None:
    return figure.p50_ms


def _p99(figure: Figure) -> float | None:
    return figure.p99_ms


def _only(measure: _Measure, name: str) -> Callable[[Round], float | None]:
    return lambda found: measure(found[name]) if name in found else None


def _ratio(measure: _Measure, ours: str, other: str) -> Callable[[Round], float | None]:
    def of(found: Round) -> float | None:
        one, two = _only(measure, ours)(found), _only(measure, other)(found)
        return one / two if one is not None and two else None

    return of


def _above(measure: _Measure, ours: str, other: str) -> Callable[[Round], float | None]:
    def of(found: Round) -> float | None:
        one, two = _only(measure, ours)(found), _only(measure, other)(found)
        return None if one is None or two is None else one - two

    return of
