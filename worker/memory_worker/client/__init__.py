"""The client for producers: `MemoryQueue`, with its jobs, results and errors.

Here: the public methods and their checks, the limits that workers have published, deadlines. It imports only
`memory_worker.contract` and `memory_worker.wire`, so that producers install only msgspec and redis. Not here: anything
about Qdrant.
"""

from __future__ import annotations

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import (
    CollectionInfo,
    Delete,
    Get,
    Hit,
    Info,
    JobState,
    Outcome,
    Patch,
    Point,
    Prune,
    Purge,
    Receipt,
    Search,
    Upsert,
    WriteJob,
)
from memory_worker.contract.errors import (
    ConfigurationError,
    DeadLettered,
    InvalidJob,
    MemoryWorkerError,
    NotApplied,
    NotReplicated,
    PushedInPart,
    QueueError,
    QueueFull,
    QueueOutOfMemory,
    QueueUnavailable,
    ReadFailed,
    UnknownReceipt,
)

__all__ = [
    "CollectionInfo",
    "ConfigurationError",
    "DeadLettered",
    "Delete",
    "Get",
    "Hit",
    "Info",
    "InvalidJob",
    "JobState",
    "MemoryQueue",
    "MemoryWorkerError",
    "NotApplied",
    "NotReplicated",
    "Outcome",
    "Patch",
    "Point",
    "Prune",
    "Purge",
    "PushedInPart",
    "QueueError",
    "QueueFull",
    "QueueOutOfMemory",
    "QueueUnavailable",
    "ReadFailed",
    "Receipt",
    "Search",
    "UnknownReceipt",
    "Upsert",
    "WriteJob",
]
