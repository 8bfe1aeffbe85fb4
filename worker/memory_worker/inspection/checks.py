"""The result of one check of ``memory-worker check``."""

from __future__ import annotations

import msgspec

from memory_worker.queue.server import Verdict


class Check(msgspec.Struct, frozen=True):
    """The result of a check: its name, the verdict, what was found, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""
