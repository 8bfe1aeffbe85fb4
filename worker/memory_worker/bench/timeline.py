"""The steps of a write on an idle system, from the times of its caller and from the trace of its worker."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from memory_worker.bench.loops import Figure, percentiles_ms
from memory_worker.bench.options import STEPS
from memory_worker.bench.traced import MARK

_TRACED = re.compile(rf"^{MARK} (\S+) (\S+) (\S+)$", re.MULTILINE)
_WRITE = "Qdrant:update_batch"


class _Request(NamedTuple):
    name: str
    began: float
    ended: float


def steps(times: Sequence[Sequence[float]], log: str) -> dict[str, Figure]:
    """Return a figure for each step. ``times`` has when each write began, was stored, and was known to be applied.

    Some writes are left out: those during which the worker also made requests for another purpose.
    """
    traced = [_Request(name, float(began), float(ended)) for name, began, ended in _TRACED.findall(log)]
    writes = [(times_of, found) for times_of in times if (found := _requests_of(times_of, traced))]
    usual = Counter(tuple(request.name for request in found) for _, found in writes).most_common(1)
    taken: dict[str, list[float]] = {}
    for times_of, found in writes:
        if [request.name for request in found] == [*usual[0][0]]:
            for name, took_s in _steps(times_of, found).items():
                taken.setdefault(name, []).append(took_s)
    return {
        f"{STEPS}{name}": Figure(calls=len(took_s), sent=len(took_s), rate=0.0, ms=percentiles_ms(took_s))
        for name, took_s in taken.items()
    }


def _requests_of(times: Sequence[float], traced: Sequence[_Request]) -> list[_Request]:
    """Return the requests of a write: the last one is that behind the write to Qdrant, which is the commit."""
    found = sorted((one for one in traced if times[0] <= one.began <= times[-1]), key=lambda one: one.began)
    names = [request.name for request in found]
    return found[: names.index(_WRITE) + 2] if _WRITE in names else []


def _steps(times: Sequence[float], requests: Sequence[_Request]) -> dict[str, float]:
    """Return the seconds of each step. They follow each other, except that the caller has its receipt during one."""
    began, stored, applied = times
    found = {"push, wake and claim": requests[0].ended - began}  # the claim is behind the command that waits
    for before, request in pairwise(requests):
        server, _, name = request.name.partition(":")
        found[f"worker, before {name}"] = request.began - before.ended
        found[f"{server}: {name}"] = request.ended - request.began
    found["reply to the caller"] = applied - requests[-1].ended
    return {**found, "all": applied - began, "the caller had its receipt after": stored - began}
