"""The phases of a run, the names of its figures, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

PHASES: Final = ("push", "drain", "visible", "search", "get", "delete", "ingest")
"""Our own paths."""
PEERS: Final = ("upsert", "upload", "arq", "query")
"""The calls that an app without memory-worker makes instead."""

PUSH, SEARCH, GET, DELETED = "push", "search", "get", "delete until applied"
DRAIN = "drain of single writes"
VISIBLE = "write until searchable"
IDLE, LOADED, LOAD = f"{VISIBLE}, idle", f"{VISIBLE}, 20% load", "pushes of the 20% load"
UNQUEUED, DURING_INGEST = "search without the queue", "search during a full ingest"
UPSERT, QUERY, UPLOAD, ARQ = "direct upsert", "direct query", "upload_points", "one arq job per write"
PUSH_MANY, ENQUEUE = "push, many in one call", "enqueue arq jobs"


def by(path: str, callers: int) -> str:
    """Return the name of calls in a closed loop."""
    return f"{path}, one caller" if callers == 1 else f"{path}, {callers} callers"


def counterparts(callers: int) -> Mapping[str, str]:
    """Return, for each path of a peer, the path of ours that it is compared with."""
    return {
        by(UPSERT, 1): by(PUSH, 1),
        by(UPSERT, callers): DRAIN,
        UPLOAD: DRAIN,
        ARQ: DRAIN,
        by(QUERY, 1): by(SEARCH, 1),
        by(QUERY, callers): by(SEARCH, callers),
    }


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a run.

    ``points`` are stored before the first measurement, so that reads find them. In each round ``jobs`` writes are
    drained, and ``calls`` are made for each latency. ``concurrency`` callers make ten times as many, for at most
    ``seconds``. A ``rate`` (calls per second) adds open loops. ``delay_ms`` delays the network in each direction.
    """

    points: int = 10_000
    jobs: int = 10_000
    calls: int = 300
    users: int = 1_000
    rounds: int = 3
    concurrency: int = 32
    seconds: float = 3.0
    rate: float = 0.0
    delay_ms: float = 0.0
    seed: int = 1
    only: tuple[str, ...] = ()
    peers: bool = False

    def wants(self, phase: str) -> bool:
        """Say whether to run a phase or a peer."""
        return phase in self.only if self.only else phase in PHASES or self.peers
