"""When to try again after an outage: not sooner than the engine asks, within reason, and never in step."""

from __future__ import annotations

import random
from dataclasses import dataclass

MOST_RETRY_AFTER_S = 30.0
"""An engine that asks for more is asked again all the same: the job waits, and so may its user."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays double from ``base_s`` to ``max_s``; up to half of each is left to chance."""

    base_s: float = 0.1
    max_s: float = 4.0

    def delay_s(self, failures: int, *, retry_after_s: float | None = None, chance: float | None = None) -> float:
        """Return the delay in seconds after so many failures in a row (1 is the first).

        ``retry_after_s`` is the engine's wish; ``chance`` (0 to 1) stands in for the random part.
        """
        doubled = self.base_s * 2.0 ** min(failures - 1, 32)
        part = random.random() if chance is None else chance
        return max(min(doubled, self.max_s) * (1 - part / 2), min(retry_after_s or 0.0, MOST_RETRY_AFTER_S))
