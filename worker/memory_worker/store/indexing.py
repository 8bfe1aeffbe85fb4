"""Bulk mode as it stands in Qdrant: a threshold of indexing that no segment reaches.

Qdrant indexes a segment whose vectors measure more than ``indexing_threshold`` kB. In bulk mode that is `HELD_FROM_KB`
plus the threshold before, so that one number says both that indexing is held back and what it is to be again. It is set
in one step, and outlives Redis and whoever set it. 0 would hold indexing back as well, and forget the threshold before;
``m = 0`` would make Qdrant rebuild the segments that are indexed already, and once more when it ends.
"""

from __future__ import annotations

from qdrant_client import grpc as q

HELD_FROM_KB = 10**12
"""A petabyte: above any segment, and far from where Qdrant's reckoning in bytes overflows."""

_QDRANTS_OWN_KB = 10_000


def threshold_of(info: q.CollectionInfo) -> int:
    """Return a collection's threshold in kB; Qdrant's own default where it reports none."""
    optimizer = info.config.optimizer_config
    return optimizer.indexing_threshold if optimizer.HasField("indexing_threshold") else _QDRANTS_OWN_KB


def is_held(threshold_kb: int) -> bool:
    """Say whether a threshold is one of bulk mode."""
    return threshold_kb >= HELD_FROM_KB


def held(threshold_kb: int) -> int:
    """Return the threshold that holds indexing back and remembers ``threshold_kb``."""
    return threshold_kb if is_held(threshold_kb) else HELD_FROM_KB + threshold_kb


def restored(threshold_kb: int) -> int:
    """Return the threshold without bulk mode."""
    return threshold_kb - HELD_FROM_KB if is_held(threshold_kb) else threshold_kb
