"""The phases of a run, the names of its figures, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

PHASES: Final = ("push", "drain", "visible", "search", "get", "delete", "ingest")
"""Our own paths."""
PEERS: Final = ("upsert", "upload", "arq", "query", "retrieve", "direct-delete", "equal-load")
"""The calls that an app without memory-worker makes instead. ``equal-load`` measures both sides in open loops."""
EXTRAS: Final = ("timeline", "no-store", "tracing", "viewers")
"""What is measured only if it is asked for."""

PUSH, SEARCH, GET, DELETED = "push", "search", "get", "delete until applied"
DRAIN, NO_STORE = "drain of single writes", "drain without a store"
UNTRACED, TRACED, TRACED_PUSH = "drain, not traced", "drain, 1% of the writes traced", "push, 1% traced"
VISIBLE = "write until searchable"
IDLE, LOADED, LOAD = f"{VISIBLE}, idle", f"{VISIBLE}, 20% load", "pushes of the 20% load"
UPSERT, QUERY, RETRIEVE, DIRECT_DELETE = "direct upsert", "direct query", "direct retrieve", "direct delete"
UPLOAD, ARQ = "upload_points", "one arq job per write"
UNWATCHED, WATCHED = "search, nobody at the console", "search, 50 viewers of the console"
PUSH_MANY, ENQUEUE, PAUSE = "push, many in one call", "enqueue arq jobs", "no reads"
APPLIED, STEPS = "write until applied", "step of a write: "
OPEN_LOOP, DURING = "/s open loop", " during a full ingest"
SEARCH_BESIDE, QUERY_BESIDE = f"{SEARCH}{DURING}", f"{QUERY}{DURING}"

COUNTERPARTS: Final = {UPSERT: PUSH, QUERY: SEARCH, RETRIEVE: GET, DIRECT_DELETE: DELETED}
"""For each direct call of Qdrant, the path of ours that it is compared with."""


def by(path: str, callers: int) -> str:
    """Return the name of calls in a closed loop."""
    if path == VISIBLE and callers == 1:
        return IDLE
    return f"{path}, one caller" if callers == 1 else f"{path}, {callers} callers"


def at(path: str, rate: float) -> str:
    """Return the name of calls in an open loop."""
    return f"{path}, {rate:g}{OPEN_LOOP}"


def drained_by(path: str, processes: int) -> str:
    """Return the name of a drain."""
    return path if processes == 1 else f"{path}, {processes} processes"


def beside(reads: str) -> str:
    """Return the name of the drain beside reads."""
    return f"drain beside: {reads}"


def counterparts(concurrency: Sequence[int]) -> Mapping[str, str]:
    """Return, for each path of a peer, the path of ours that it is compared with."""
    pairs = {by(peer, count): by(path, count) for peer, path in COUNTERPARTS.items() for count in (1, *concurrency)}
    written = {by(UPSERT, count): DRAIN for count in concurrency if count > 1}
    return {**pairs, **written, UPLOAD: DRAIN, ARQ: DRAIN}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a run.

    ``points`` are stored before the first measurement, so that reads find them. In each round ``jobs`` writes are
    drained, by one process and, if there are more, by all ``ingest_processes`` together. ``calls`` are made for each
    latency. ``concurrency`` callers make ten times as many, for at most ``seconds``. The open loops of the equal load
    have these ``rates`` (calls per second). ``delay_ms`` delays the network in each direction. ``store_delay_ms`` is
    the time that the stand-in for Qdrant takes for a batch.
    """

    points: int = 10_000
    jobs: int = 10_000
    calls: int = 300
    users: int = 1_000
    rounds: int = 3
    concurrency: tuple[int, ...] = (32,)
    ingest_processes: int = 1
    seconds: float = 3.0
    rates: tuple[float, ...] = (100, 300, 600, 900)
    delay_ms: float = 0.0
    store_delay_ms: float = 5.0
    seed: int = 1
    only: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    peers: bool = False

    def wants(self, phase: str) -> bool:
        """Say whether to run a phase or a peer."""
        if self.only:
            return phase in self.only
        return phase in PHASES or phase in self.also or (self.peers and phase in PEERS)
