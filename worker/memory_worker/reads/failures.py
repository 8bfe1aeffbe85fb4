"""Errors of reads as error codes. An unexpected error is logged, and its details stay in the log."""

from __future__ import annotations

import logging

from memory_worker.contract import ReadError
from memory_worker.contract.errors import (
    AnswerTooLarge,
    DeadLettered,
    InvalidJob,
    NotApplied,
    QueueUnavailable,
    StoreRefused,
    StoreUnavailable,
)
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)


def too_large(size_bytes: int, max_bytes: int) -> ReadError:
    """Return the error for an answer of ``size_bytes``, of which ``max_bytes`` are allowed."""
    problem = f"the answer has {size_bytes:,} bytes, READ_MAX_BYTES allows {max_bytes:,}: ask for fewer points"
    return ReadError(code="too_large", message=problem)


def read_error(error: Exception, op: str, *, timeout_ms: int, max_bytes: int) -> ReadError:
    """Return the error code and the message for an error of a read."""
    match error:
        case AnswerTooLarge():
            return too_large(error.answer_bytes, max_bytes)
        case TimeoutError():
            return ReadError(code="timeout", message=f"no answer within {timeout_ms} ms")
        case StoreUnavailable(code="DEADLINE_EXCEEDED"):
            code = "timeout"
        case StoreUnavailable() | QueueUnavailable():
            code = "unavailable"
        case StoreRefused() | InvalidJob():
            code = "invalid"
        case NotApplied() | DeadLettered():
            code = "not_applied"
        case _:
            log_event(logger, logging.ERROR, "read_failed", failure=error, op=op)
            return ReadError(code="internal", message=type(error).__name__)
    return ReadError(code=code, message=str(error))
