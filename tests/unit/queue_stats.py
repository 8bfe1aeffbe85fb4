"""Queue stats in which every figure has a value, and a collector that has collected them."""

from __future__ import annotations

from memory_worker.contract import CollectionInfo
from memory_worker.inspection.queue_stats import StatsCollector
from memory_worker.inspection.status import PartitionStatus, Status

STATUS = Status(
    at=1_790_000_000.5,
    partitions=[
        PartitionStatus(
            partition=number,
            waiting=2,
            oldest_age_s=1.5,
            draining=number == 0,
            lease_s=None,
            held=number == 1,
            dead=1,
            needs="contract version 9" if number == 1 else None,
        )
        for number in range(2)
    ],
    waiting=4,
    waiting_bytes=400,
    oldest_age_s=1.5,
    draining=1,
    dead=2,
    reads_waiting=3,
    arq_writes_waiting=6,
    max_jobs=10,
    max_bytes=1000,
    redis_memory_bytes=1000,
    redis_memory_limit_bytes=2000,
    collections=[
        CollectionInfo(
            name="user_memories",
            kind="memory",
            namespace=None,
            status="green",
            points=5,
            indexed_vectors=5,
            segments=1,
            dimension=8,
            payload_indexes=["user_id"],
        )
    ],
    store_error=None,
)


class Collected(StatsCollector):
    """A stats collector that needs no servers."""

    def __init__(self) -> None:
        pass

    def latest_as_leader(self) -> Status:
        return STATUS
