"""The drain job: the arq job that makes a worker drain a partition. At most one waits per partition."""

from __future__ import annotations

from functools import lru_cache

from memory_worker.wire.arq_records import encode_arq

DRAIN = "drain"
DRAIN_JOB_LIFE_MS = 24 * 3600 * 1000


@lru_cache(maxsize=4096)
def drain_job(partition: int) -> bytes:
    """Return the drain job of a partition, encoded as arq itself encodes it.

    Its enqueue time is zero, because the ids of the entries show how long they have waited.
    """
    return encode_arq({"t": None, "f": DRAIN, "a": (partition,), "k": {}, "et": 0})
