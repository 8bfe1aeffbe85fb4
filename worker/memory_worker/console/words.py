"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from memory_worker.plain_text import age

NOTHING = "\N{EN DASH}"
"""What is shown where there is no figure."""
_KIB = 1024
_FEW, _SOME = 10, 100


def whole(number: float | None) -> str:
    """Return a count: ``12,345``."""
    return NOTHING if number is None else f"{number:,.0f}"


def rate_of(per_second: float | None) -> str:
    """Return a rate with a few significant digits: ``0.05``, ``3.2``, ``12,345``."""
    if per_second is None:
        return NOTHING
    if per_second == 0 or per_second >= _SOME:
        return f"{per_second:,.0f}"
    return f"{per_second:.3g}" if per_second >= _FEW else f"{per_second:.2g}"


def seconds_of(seconds: float | None) -> str:
    """Return a duration: ``3.4 ms``, ``120 ms``, ``12 s``, ``3 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if 0 < milliseconds < _FEW else f"{milliseconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _FEW else age(seconds)


def bytes_of(number: float | None) -> str:
    """Return a size: ``512 B``, ``3.4 KiB``, ``120 MiB``."""
    if number is None:
        return NOTHING
    size, units = float(number), ["B", "KiB", "MiB", "GiB"]
    while size >= _KIB and len(units) > 1:
        size, units = size / _KIB, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "B" or size >= _SOME else f"{size:.1f} {units[0]}"


def time_of(unix_s: float) -> str:
    """Return a time: ``2026-11-26 20:31:05 UTC``."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock_of(unix_s: float) -> str:
    """Return the time of a day: ``20:31``."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%H:%M}"
