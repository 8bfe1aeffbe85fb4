"""Jobs with small vectors, each along one axis, so that their distances are obvious."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

from memory_worker.contract import Limits, Upsert, WriteJob, checked, encode_job
from memory_worker.contract.kinds import with_collections
from memory_worker.store.shape import CollectionShape

DIMENSION = 8
LIMITS = Limits(dimension=DIMENSION, max_job_bytes=65_536)
PARTITIONS = 4


def axis(number: int, *, tilt: float = 0.0) -> bytes:
    """Return the unit vector along one axis. ``tilt`` turns it towards the next axis, which lowers its score."""
    numbers = [0.0] * DIMENSION
    numbers[number % DIMENSION] = 1.0
    numbers[(number + 1) % DIMENSION] = tilt
    return array("f", numbers).tobytes()


def memory(user_id: int, number: int, *, at: int = 0, tilt: float = 0.0, **options: Any) -> Upsert:
    """Return the upsert of a memory, complete as a worker has it after decoding."""
    namespace, vector = options.pop("namespace", None), options.pop("vector", axis(at, tilt=tilt))
    job = Upsert(
        user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=vector, payload=options, namespace=namespace
    )
    return checked(job, LIMITS)


def chunk(user_id: int, file_id: int, number: int, *, at: int = 0, tilt: float = 0.0, **payload: Any) -> Upsert:
    """Return the upsert of a document chunk, complete as a worker has it after decoding."""
    job = Upsert(
        kind="document",
        user_id=user_id,
        point_id=f"doc_{user_id}_{file_id}_{number}",
        vector=axis(at, tilt=tilt),
        payload={"file_id": file_id, **payload},
    )
    return checked(job, LIMITS)


def bodies(*jobs: WriteJob, partition: int = 0) -> list[tuple[int, bytes]]:
    """Return jobs as `memory_worker.wire.push.push` takes them, all for one partition."""
    return [(partition, encode_job(job)) for job in jobs]


def renamed(shape: CollectionShape, **collections: str) -> CollectionShape:
    """Return the same settings with other base collections, by kind."""
    return replace(shape, kinds=with_collections(shape.kinds, collections))
