"""Every exception this project raises on purpose.

    MemoryWorkerError
    ├── ConfigurationError          a setting, a collection or a Redis that cannot work; says which and why
    │   └── PartitionMismatch       QUEUE_PARTITIONS differs from the number that is fixed in Redis
    ├── InvalidJob                  a job that can never be applied; names the field and the limit
    ├── QueueError                  Redis
    │   ├── QueueUnavailable        Redis cannot be reached, does not answer in time, or refuses the request
    │   │   ├── QueueOutOfMemory    Redis has no memory left; nothing was written
    │   │   ├── TooLate             a push reached Redis after its caller had given up; nothing was stored
    │   │   └── NotReplicated       too few replicas of Redis have the write; a failover may lose it
    │   ├── QueueFull               the backlog is at its limit; nothing was stored
    │   ├── QueueNotEmpty           the number of partitions can only be changed while the queue is empty
    │   ├── QueuePaused             the queue is paused, so no partition is given to a drain
    │   ├── NotPaused               a command needs a paused queue in which no batch is in flight
    │   ├── PushedInPart            only the first of many jobs were stored
    │   ├── LeaseLost               the lease on a partition is no longer held
    │   ├── ReplayRefused           a dead letter is not replayed without force
    │   │   ├── Superseded          its replay would undo newer jobs
    │   │   └── Unguarded           it is unknown what its replay would undo
    │   ├── NotApplied              the job of a receipt is not known to be applied
    │   │   └── UnknownReceipt      Redis has lost data since the push; the job may be lost, too
    │   └── DeadLettered            the job of a receipt is a dead letter
    ├── StoreError                  Qdrant
    │   ├── StoreUnavailable        an outage: try again, for as long as it takes
    │   │   └── AnswerTooLarge      an answer has more bytes than are allowed
    │   ├── StoreRefused            Qdrant refuses a request; the cause may be one bad point
    │   │   └── CollectionUnfit     the collection of a namespace can never hold the points of a job
    │   └── DeadlinePassed          the time to send a request was over; nothing was sent
    ├── ReadFailed                  a search or another read returned an error
    ├── RequestRefused              the console refuses a request of a browser
    └── EmbeddedEngineError         an embedded engine is not installed, does not start, or died

The exceptions of each client library are mapped to these in one module: ``memory_worker.wire.connection`` for Redis,
``memory_worker.store.failures`` for Qdrant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MOST_NUMBERS = 5


class MemoryWorkerError(Exception):
    """Base of all errors of this project."""


class ConfigurationError(MemoryWorkerError):
    """A setting, a collection or a server cannot work as it is configured."""


class PartitionMismatch(ConfigurationError):
    """``QUEUE_PARTITIONS`` differs from the number that is fixed in Redis."""

    def __init__(self, wanted: int | None, actual: int) -> None:
        setting = "" if wanted is None else f"QUEUE_PARTITIONS is {wanted}, but "
        super().__init__(f"{setting}this Redis holds a queue of {actual} partitions")
        self.wanted = wanted
        self.actual = actual


class InvalidJob(MemoryWorkerError):
    """A job that can never be applied.

    ``field`` is the path of the wrong field, such as ``vector`` or ``payload.category``. The message names the limit.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class QueueError(MemoryWorkerError):
    """Base of all errors about the queue in Redis."""


class QueueUnavailable(QueueError):
    """Redis cannot be reached, did not answer in time, or refuses the request.

    The same request may succeed later, perhaps after Redis has been repaired. Causes include a script that keeps Redis
    busy, too many connections or open files, a primary that became a replica, a refused login, and a
    cluster that moves the queue to another node.
    """


class QueueOutOfMemory(QueueUnavailable):
    """Redis has no memory left. Nothing was written."""


class TooLate(QueueUnavailable):
    """A push reached Redis after its caller had given up. Nothing was stored."""


class NotReplicated(QueueUnavailable):
    """Too few replicas of Redis have the write. It is stored, but a failover may lose it, so push again."""


class QueueFull(QueueError):
    """The backlog is at its limit. Nothing of this push was stored."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the queue is full: at most {limit:,} {what} may wait; nothing was stored")
        self.what = what
        self.limit = limit


class QueueNotEmpty(QueueError):
    """The number of partitions cannot be changed, because there are jobs, leases or dead letters."""

    def __init__(self, jobs: int, leases: int, dead_letters: int) -> None:
        super().__init__(f"the queue is not empty: {jobs} jobs wait, {leases} drains, {dead_letters} dead letters")
        self.jobs = jobs
        self.leases = leases
        self.dead_letters = dead_letters


class QueuePaused(QueueError):
    """The queue is paused, so no partition is given to a drain, and no further entries are read."""

    def __init__(self) -> None:
        super().__init__("the queue is paused; `memory-worker resume` ends the pause")


class NotPaused(QueueError):
    """A command needs a paused queue in which no batch is in flight. ``leased`` are the partitions that are drained."""

    def __init__(self, leased: Sequence[int] = ()) -> None:
        numbers = ", ".join(map(str, leased[:_MOST_NUMBERS])) + (", ..." if len(leased) > _MOST_NUMBERS else "")
        in_flight = f"the queue is paused, but batches are still in flight, in {len(leased)} partitions ({numbers})"
        super().__init__(
            f"{in_flight}; run `memory-worker pause` again to wait for them"
            if leased
            else "the queue is not paused; run `memory-worker pause` first"
        )
        self.leased = leased


class PushedInPart(QueueError):
    """Of many jobs, only the first were stored, in order. ``stored`` has their receipts.

    The ``__cause__`` says why. If it is `QueueUnavailable`, the next few jobs may have been stored, too.
    """

    def __init__(self, stored: list[Any], wanted: int) -> None:
        super().__init__(f"only the first {len(stored):,} of {wanted:,} jobs were stored")
        self.stored = stored
        self.wanted = wanted


class LeaseLost(QueueError):
    """The lease on a partition expired or was taken over, so the drain must not write any more."""

    def __init__(self) -> None:
        super().__init__("the lease on the partition is no longer held")


class ReplayRefused(QueueError):
    """A dead letter is not replayed unless the replay is forced."""


class Superseded(ReplayRefused):
    """Newer jobs of the same points have been applied, and the replay of the dead letter would undo them."""

    def __init__(self) -> None:
        super().__init__("newer jobs of the same points have been applied since")


class Unguarded(ReplayRefused):
    """The job could not be decoded, so it is unknown which newer jobs its replay would undo."""

    def __init__(self) -> None:
        super().__init__("it is unknown which newer jobs its replay would undo")


class NotApplied(QueueError):
    """The job of a receipt was not applied within the time to wait. It is still queued."""


class UnknownReceipt(NotApplied):
    """Redis has lost data since the push, so it is unknown whether the job was applied. Push it again.

    Redis was emptied, restarted without its data, or evicted the stream. Or many dead letters of later jobs were
    dropped or replayed, of which Redis remembers a limited number.
    """


class DeadLettered(QueueError):
    """The job of a receipt can never be applied. It is a dead letter with this reason."""

    def __init__(self, receipt: str, reason: str, detail: str) -> None:
        super().__init__(f"job {receipt} is a dead letter ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


class StoreError(MemoryWorkerError):
    """Base of all errors about Qdrant."""


class StoreUnavailable(StoreError):
    """An outage: unreachable, too slow, out of quota, credentials refused, collection missing, disk full.

    ``code`` is the gRPC status name. ``retry_after_s`` is the delay in seconds that the server asked for, if it did.
    ``in_doubt`` means that the server may still apply the request. ``of_one_job`` means that only one job fails, while
    Qdrant accepts others.
    """

    of_one_job = False

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s
        self.in_doubt = in_doubt


class AnswerTooLarge(StoreUnavailable):
    """Qdrant's answer has ``answer_bytes`` bytes, which is more than is allowed."""

    def __init__(self, message: str, answer_bytes: int) -> None:
        super().__init__(message, code="RESOURCE_EXHAUSTED")
        self.answer_bytes = answer_bytes


class StoreRefused(StoreError):
    """Qdrant refuses the request as invalid. The cause may be a single bad point in it."""


class CollectionUnfit(StoreRefused):
    """The collection of a namespace can never hold the points of a job, for example because of their dimension.

    Other collections are not affected, so only the jobs of this namespace become dead letters.
    """


class DeadlinePassed(StoreError):
    """The time to send a request was over before it was sent. Nothing was sent."""


class ReadFailed(MemoryWorkerError):
    """A read returned an error.

    ``code`` is ``invalid``, ``too_large`` (ask for fewer points), ``unavailable``, ``timeout``, ``not_applied`` (the
    job of ``after`` has not been applied) or ``internal``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class RequestRefused(MemoryWorkerError):
    """The console refuses a request of a browser. ``status`` is the HTTP status."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class EmbeddedEngineError(MemoryWorkerError):
    """An embedded engine is not installed, does not start, or died."""
