"""The encoding of bulk mode in Qdrant: an indexing threshold that no segment reaches.

Qdrant indexes a segment whose vectors take more than ``indexing_threshold`` kB. In bulk mode the threshold is
`HELD_FROM_KB` plus the previous threshold. So one number says that indexing is held back, and which threshold to
restore. It is set in one step, and does not depend on Redis or on the process that set it. A threshold of 0 would also
hold back indexing, but the previous threshold would be lost. ``m = 0`` would make Qdrant rebuild all indexed segments,
and again at the end.
"""

from __future__ import annotations

from qdrant_client import grpc as q

HELD_FROM_KB = 10**12
"""A petabyte. No segment is that large, and in bytes it is far below an overflow in Qdrant."""

_DEFAULT_KB = 10_000
"""Qdrant's default."""


def threshold_of(info: q.CollectionInfo) -> int:
    """Return a collection's threshold in kB."""
    optimizer = info.config.optimizer_config
    return optimizer.indexing_threshold if optimizer.HasField("indexing_threshold") else _DEFAULT_KB


def is_held(threshold_kb: int) -> bool:
    """Say whether a threshold means that bulk mode is on."""
    return threshold_kb >= HELD_FROM_KB


def held(threshold_kb: int) -> int:
    """Return the threshold that holds back indexing and encodes ``threshold_kb``."""
    return threshold_kb if is_held(threshold_kb) else HELD_FROM_KB + threshold_kb


def restored(threshold_kb: int) -> int:
    """Return the threshold without bulk mode."""
    return threshold_kb - HELD_FROM_KB if is_held(threshold_kb) else threshold_kb
