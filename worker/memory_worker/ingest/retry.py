"""The retry policy: delays after an outage grow, are random, and respect what the engine asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass

MAX_RETRY_AFTER_S = 30.0
"""Longer delays that an engine asks for are cut to this."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays double from ``base_s`` to ``max_s``. Up to half of each delay is random."""

    base_s: float = 0.1
    max_s: float = 4.0

    def delay_s(self, failures: int, *, retry_after_s: float | None = None, chance: float | None = None) -> float:
        """Return the delay in seconds after ``failures`` failures in a row (1 is the first).

        The delay is at least ``retry_after_s``, which the engine asked for. ``chance`` (0 to 1) replaces the random
        number.
        """
        doubled = self.base_s * 2.0 ** min(failures - 1, 32)
        part = random.random() if chance is None else chance
        return max(min(doubled, self.max_s) * (1 - part / 2), min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
