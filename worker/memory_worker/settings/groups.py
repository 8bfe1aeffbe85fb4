"""The groups of settings, for the pages that show all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic.fields import FieldInfo

from memory_worker.settings.model import Settings

_GROUPS: Final = {
    "redis_url": ("Redis", "How a worker connects to Redis, and how long it waits for it."),
    "qdrant_url": ("Qdrant", "How a worker connects to Qdrant, and how long it waits for it."),
    "kinds_file": (
        "Kinds and collections",
        "The kinds of points, and the names and dimensions of their collections. "
        "All workers of a queue need the same values.",
    ),
    "qdrant_quantization": (
        "New collections",
        "The worker uses these values when it creates a collection, and leaves existing collections as they are. "
        "`memory-worker tune` applies those of the index to existing ones.",
    ),
    "worker_role": ("Worker", "The work of one process, and how much of it at a time."),
    "search_concurrency": ("Reads", "Limits of searches and other reads. They matter to the role `search` only."),
    "batch_max_jobs": (
        "Batches, leases and retries",
        "How the role `ingest` applies writes. `LEASE_TTL_S` must be at least 2 s longer than `QDRANT_TIMEOUT_S`.",
    ),
    "queue_prefix": (
        "Queue",
        "The queue in Redis. All its workers need the same values. Workers publish the limits in Redis, where "
        "producers read them.",
    ),
    "port": ("HTTP and logs", "What a worker serves and logs."),
    "console_enabled": (
        "Console",
        "The console for operators, on the same port. Without a password, only the network protects it.",
    ),
    "data_dir": ("Embedded engines", "The engines that replace an unset `REDIS_URL` or `QDRANT_URL`."),
}
"""The groups of settings: title and description, by the first field of each."""


def groups() -> Iterator[tuple[str, str, list[tuple[str, FieldInfo]]]]:
    """Yield each group: its title, its description, and its settings by the names of their variables."""
    fields = Settings.model_fields
    names = [*fields]
    starts = [names.index(name) for name in _GROUPS]
    for (title, about), start, end in zip(_GROUPS.values(), starts, [*starts[1:], len(names)], strict=True):
        yield title, about, [(name.upper(), fields[name]) for name in names[start:end]]
