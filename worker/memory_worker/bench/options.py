"""What is measured, and how much of it."""

from __future__ import annotations

from typing import Final

import msgspec

OWN: Final = ("push", "drain", "visible", "search", "get", "delete", "mixed", "ingest", "network")
"""Our own phases, in the order of a round; ``network`` comes once, behind the rounds."""

PEERS: Final = ("upsert", "upload", "arq", "query")
"""What would be used instead of us."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    ``points`` are stored before anything is measured, for reads to find. In each round ``jobs`` writes are drained,
    ``peer_jobs`` by slow peers; ``calls`` are made for each latency, ten times as many by ``concurrency`` callers at
    once, but those for no longer than ``seconds``. ``rate`` (calls a second; 0: none) asks for open loops as well.
    ``delay_ms`` is added to the network each way, for everything; ``delays_ms`` are those of the network phase.
    ``backlogs`` are the sizes of backlogs to compare.
    """

    points: int = 10_000
    jobs: int = 10_000
    peer_jobs: int = 3_000
    calls: int = 300
    users: int = 1_000
    rounds: int = 3
    concurrency: int = 32
    seconds: float = 3.0
    rate: float = 0.0
    seed: int = 1
    only: tuple[str, ...] = ()
    peers: bool = False
    delay_ms: float = 0.0
    delays_ms: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0)
    backlogs: tuple[int, ...] = ()

    def wants(self, phase: str) -> bool:
        """Say whether a phase, or a peer, is to be run."""
        if self.only:
            return phase in self.only
        return phase in OWN or self.peers
