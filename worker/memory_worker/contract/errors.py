"""Every exception this project raises on purpose.

    MemoryWorkerError
    ├── ConfigurationError          a setting, a collection or a Redis that cannot work; says which and why
    │   └── PartitionMismatch       QUEUE_PARTITIONS differs from what is fixed in Redis
    ├── InvalidJob                  a job that can never be applied; names the field and the limit
    ├── QueueError                  Redis
    │   ├── QueueUnavailable        Redis cannot be reached, does not answer in time, or refuses
    │   │   ├── QueueOutOfMemory    Redis has no room for what was to be written
    │   │   ├── TooLate             a push that got to Redis after its caller had given it up; nothing was stored
    │   │   └── NotReplicated       too few replicas of Redis have what was written; it may be lost in a failover
    │   ├── QueueFull               the backlog is at its limit; nothing was stored
    │   ├── QueueNotEmpty           the number of partitions can only be changed while nothing waits
    │   ├── PushedInPart            of many jobs only the first were stored
    │   ├── LeaseLost               another drain holds the partition now
    │   ├── ReplayRefused           a dead letter that is not replayed without force
    │   │   ├── Superseded          its replay would undo newer jobs
    │   │   └── Unguarded           it is not known what its replay would undo
    │   ├── NotApplied              the job of a receipt is not known to be applied
    │   │   └── UnknownReceipt      Redis has lost what it knew of the receipt; the job may be lost, too
    │   └── DeadLettered            the job of a receipt stands in the dead letters
    ├── StoreError                  Qdrant
    │   ├── StoreUnavailable        an outage: try again, for as long as it takes
    │   │   └── AnswerTooLarge      an answer of more bytes than are taken
    │   ├── StoreRefused            a request that Qdrant refuses; the cause may be one bad point
    │   │   └── CollectionUnfit     the collection of a namespace can never take what a job asks of it
    │   └── DeadlinePassed          the time in which a request may be sent was over; nothing was sent
    ├── ReadFailed                  a search or another read returned an error
    └── EmbeddedEngineError         an embedded engine is not installed, does not start, or died

Exceptions of the client libraries are mapped to these at one seam per library: ``memory_worker.wire.connection`` for
Redis, ``memory_worker.store.failures`` for Qdrant.
"""

from __future__ import annotations

from typing import Any


class MemoryWorkerError(Exception):
    """Base of all errors of this project."""


class ConfigurationError(MemoryWorkerError):
    """A setting, a collection or a server that cannot work as configured."""


class PartitionMismatch(ConfigurationError):
    """``QUEUE_PARTITIONS`` differs from the number that is fixed in Redis."""

    def __init__(self, wanted: int | None, actual: int) -> None:
        setting = "" if wanted is None else f"QUEUE_PARTITIONS is {wanted}, but "
        super().__init__(f"{setting}this Redis holds a queue of {actual} partitions")
        self.wanted = wanted
        self.actual = actual


class InvalidJob(MemoryWorkerError):
    """A job that can never be applied.

    ``field`` is the path of the offending field (``vector``, ``payload.category``); the message names the limit.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class QueueError(MemoryWorkerError):
    """Something about the queue in Redis."""


class QueueUnavailable(QueueError):
    """Redis cannot be reached, did not answer in time, or refuses.

    So does everything that may pass by itself, or by somebody's mending Redis: a script that keeps it busy, too many
    connections or open files, a primary that has become a replica, a login that is refused, a cluster that is not one
    server.
    """


class QueueOutOfMemory(QueueUnavailable):
    """Redis has no room; nothing was written."""


class TooLate(QueueUnavailable):
    """A push got to Redis after its caller had given it up, and was not stored."""


class NotReplicated(QueueUnavailable):
    """Too few replicas of Redis have what was written: it is stored, but a failover may lose it. Push it again."""


class QueueFull(QueueError):
    """The backlog is at its limit; nothing of this push was stored."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the queue is full: at most {limit:,} {what} may wait; nothing was stored")
        self.what = what
        self.limit = limit


class QueueNotEmpty(QueueError):
    """The number of partitions cannot be changed: jobs wait, drains hold leases, or dead letters are left."""

    def __init__(self, jobs: int, leases: int, dead_letters: int) -> None:
        super().__init__(f"the queue is not empty: {jobs} jobs wait, {leases} drains, {dead_letters} dead letters")
        self.jobs = jobs
        self.leases = leases
        self.dead_letters = dead_letters


class PushedInPart(QueueError):
    """Many jobs were pushed, but only the first of them were stored, in order; ``stored`` are their receipts.

    The cause says why: `QueueFull`, `QueueUnavailable` (then the next few may have been stored too) or another.
    """

    def __init__(self, stored: list[Any], wanted: int) -> None:
        super().__init__(f"only the first {len(stored):,} of {wanted:,} jobs were stored")
        self.stored = stored
        self.wanted = wanted


class LeaseLost(QueueError):
    """The lease on a partition expired or was taken over; nothing more may be done in its name."""

    def __init__(self) -> None:
        super().__init__("the lease on the partition is no longer held")


class ReplayRefused(QueueError):
    """A dead letter that is not replayed, unless it is forced."""


class Superseded(ReplayRefused):
    """Newer jobs of the same points have been applied since the letter died: its replay would undo them."""

    def __init__(self) -> None:
        super().__init__("newer jobs of the same points have been applied since")


class Unguarded(ReplayRefused):
    """The job could not be read when it died, so it is not known which newer jobs its replay would undo."""

    def __init__(self) -> None:
        super().__init__("it is not known what newer jobs its replay would undo")


class NotApplied(QueueError):
    """The time to wait for a receipt ran out before the job was applied; it is still queued."""


class UnknownReceipt(NotApplied):
    """Redis has lost data since the receipt was given: nobody knows whether its job was applied. Push it again.

    It was emptied, came back without its file, or evicted the stream.
    """


class DeadLettered(QueueError):
    """The job of a receipt can never be applied and stands in the dead letters, with this reason."""

    def __init__(self, receipt: str, reason: str, detail: str) -> None:
        super().__init__(f"job {receipt} is a dead letter ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


class StoreError(MemoryWorkerError):
    """Something about Qdrant."""


class StoreUnavailable(StoreError):
    """An outage: unreachable, too slow, out of quota, credentials refused, collection missing, disk full.

    ``code`` is the gRPC status name; ``retry_after_s`` is the server's wish in seconds, where it gave one. ``in_doubt``
    says that the server may still be at work on the request. ``of_one_job`` is set where only one job fails while
    Qdrant takes others.
    """

    of_one_job = False

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s
        self.in_doubt = in_doubt


class AnswerTooLarge(StoreUnavailable):
    """Qdrant's answer has more bytes than are taken here: ``answer_bytes``."""

    def __init__(self, message: str, answer_bytes: int) -> None:
        super().__init__(message, code="RESOURCE_EXHAUSTED")
        self.answer_bytes = answer_bytes


class StoreRefused(StoreError):
    """Qdrant refuses the request as invalid; the cause may be a single bad point in it."""


class CollectionUnfit(StoreRefused):
    """The collection of a namespace can never take what a job asks of it, such as vectors of another dimension.

    No other collection is concerned, so the jobs that name the namespace are to blame.
    """


class DeadlinePassed(StoreError):
    """The time in which a request may be sent was over before it was on its way; nothing was sent."""


class ReadFailed(MemoryWorkerError):
    """A read returned an error.

    ``code`` is ``invalid``, ``too_large`` (ask for fewer points), ``unavailable``, ``timeout`` or ``internal``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class EmbeddedEngineError(MemoryWorkerError):
    """An embedded engine is not installed, does not start, or died."""
