"""What gRPC and Qdrant report, as this project's errors: an outage, or a request refused.

Only INVALID_ARGUMENT and OUT_OF_RANGE speak of the request itself. Everything else, a missing collection and refused
credentials among them, is an outage: it passes, or an operator ends it, and no job is to blame.
"""

from __future__ import annotations

import math

import grpc

from worker.errors import StoreError, StoreRefused, StoreUnavailable

_REFUSALS = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
_RETRY_AFTER = "retry-after"


def store_error(doing: str, error: grpc.aio.AioRpcError) -> StoreError:
    """Return what a failed call means."""
    code, details = error.code(), error.details() or "no details"
    message = f"{doing}: {code.name}: {details}"
    if code in _REFUSALS:
        return StoreRefused(message)
    return StoreUnavailable(message, code=code.name, retry_after_s=_retry_after_s(error))


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == _RETRY_AFTER:
            try:
                seconds = float(value)
            except ValueError:
                return None
            return max(0.0, seconds) if math.isfinite(seconds) else None
    return None
