"""arq by Redis's clock. arq compares the times at which jobs are due with the local clock of whoever asks, so that a
worker whose clock is slow would not see a job for as long, and one whose clock is fast would not wait for any.
"""

from __future__ import annotations

import arq.worker

from memory_worker.wire.clock import RedisClock


def follow(clock: RedisClock) -> None:
    """Let the arq workers of this process go by ``clock``: the function by which they tell the time is replaced."""
    arq.worker.timestamp_ms = lambda: int(clock.now_ms())  # type: ignore[attr-defined]
