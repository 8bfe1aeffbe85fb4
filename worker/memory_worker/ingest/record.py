"""Records what drains do, in the log and in the metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from memory_worker.contract import op_of
from memory_worker.contract.errors import NotReplicated, StoreRefused, StoreUnavailable
from memory_worker.ingest.outcome import Outcome
from memory_worker.queue.lease import Lease
from memory_worker.queue.log import Entry, Head, pushed_at_s
from memory_worker.telemetry import metrics
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)


def leases_requested(given: Sequence[tuple[Lease, Head]], *, busy: int) -> None:
    """Record the leases that were given, and the number of those that other drains hold."""
    metrics.LEASES.labels("busy").inc(busy)
    metrics.LEASES.labels("acquired").inc(len(given))
    metrics.LEASES_HELD.inc(len(given))
    for lease, head in given:
        if head.was_orphaned:
            metrics.LEASES.labels("taken_over").inc()
            log_event(logger, logging.WARNING, "lease_taken_over", partition=lease.partition)


def lease_lost(partition: int) -> None:
    """Record that a lease expired or was taken over during its drain."""
    metrics.LEASES.labels("lost").inc()
    log_event(logger, logging.WARNING, "lease_lost", partition=partition)


def leases_released(count: int) -> None:
    """Record that drains no longer use their leases."""
    metrics.LEASES_HELD.dec(count)


def batch_committed(
    partition: int, entries: Sequence[Entry], outcome: Outcome, *, now_ms: float, apply_s: float
) -> None:
    """Record a batch that left its stream. ``now_ms`` is the time of Redis's clock in unix milliseconds."""
    for dead_letter in outcome.dead:
        op = dead_letter.op or metrics.UNKNOWN
        metrics.DEAD_LETTERS.labels(dead_letter.reason, op).inc()
        metrics.JOBS.labels(op, metrics.UNKNOWN, "dead").inc()
        log_event(
            logger,
            # A point that was not deleted is worse than a point that is missing or old.
            logging.CRITICAL if dead_letter.op in ("delete", "purge", "prune") else logging.ERROR,
            "dead_letter",
            receipt=f"{partition}/{dead_letter.entry.entry_id}",
            reason=dead_letter.reason,
            op=dead_letter.op,
            trace=dead_letter.entry.trace,
        )
    for (op, kind), count in Counter((op_of(job), job.kind) for _, job in outcome.jobs).items():
        metrics.JOBS.labels(op, kind or "all", "applied").inc(count)
    if purged := len(entries) - len(outcome.jobs) - len(outcome.dead):
        # Dead letters and replays that a later purge in the batch removed.
        metrics.JOBS.labels(metrics.UNKNOWN, metrics.UNKNOWN, "purged").inc(purged)
    for entry, _ in outcome.jobs:
        metrics.PUSH_TO_APPLIED.observe(max(0.0, now_ms / 1000 - pushed_at_s(entry.entry_id)))
    size_bytes = sum(entry.size_bytes for entry in entries)
    metrics.BATCH_JOBS.observe(len(entries))
    metrics.BATCH_BYTES.observe(size_bytes)
    log_event(
        logger,
        logging.DEBUG,
        "batch_applied",
        partition=partition,
        jobs=len(entries),
        dead=len(outcome.dead),
        bytes=size_bytes,
        apply_ms=apply_s * 1000,
        oldest_s=now_ms / 1000 - pushed_at_s(entries[0].entry_id),
    )


def batch_failed(partition: int, error: Exception, *, failures: int, delay_s: float) -> str:
    """Record that a batch could not be applied and is tried again in ``delay_s`` seconds. Return the reason.

    ``failures`` is how many batches of the partition have failed in a row.
    """
    reason = _reason(error)
    log_event(
        logger,
        logging.DEBUG,
        "batch_failed",
        partition=partition,
        failures=failures,
        retry_in_s=delay_s,
        error=str(error),
    )
    metrics.RETRIES.labels(reason).inc()
    metrics.BACKOFF.labels(reason).inc(delay_s)
    return reason


def _reason(error: Exception) -> str:
    match error:
        case StoreUnavailable():
            return error.code
        case StoreRefused():
            return "REFUSED"
        case NotReplicated():
            return "NOT_REPLICATED"
    return "CONFIGURATION"
