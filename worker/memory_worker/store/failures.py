"""Maps errors of gRPC and Qdrant to errors of this project: an outage, or a refused request.

Only INVALID_ARGUMENT and OUT_OF_RANGE concern the request itself. All other errors are outages, including a missing
collection and refused credentials. They end by themselves or when an operator acts, and no job is to blame.
"""

from __future__ import annotations

import math
import re

import grpc

from memory_worker.contract.errors import AnswerTooLarge, StoreError, StoreRefused, StoreUnavailable

_REFUSALS = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
_WITHOUT_AN_ANSWER = frozenset(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
"""Codes that the client may return by itself while the server is still working."""
_NEVER_SENT = "failed to connect"
_RETRY_AFTER = "retry-after"
_TOO_LARGE = re.compile(r"(?<!SERVER: )(?:Received|Decompressed) message larger than max \((\d+) vs")
"""The message of the client's gRPC about an answer above the limit of the channel."""


def store_error(doing: str, error: grpc.aio.AioRpcError) -> StoreError:
    """Return the error of this project for a failed call. ``doing`` describes the call in the message."""
    code, details = error.code(), error.details() or "no details"
    message = f"{doing}: {code.name}: {details}"
    if code in _REFUSALS:
        return StoreRefused(message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and (too_large := _TOO_LARGE.search(details)):
        return AnswerTooLarge(message, int(too_large[1]))
    in_doubt = code in _WITHOUT_AN_ANSWER and not details.startswith(_NEVER_SENT)
    return StoreUnavailable(message, code=code.name, retry_after_s=_retry_after_s(error), in_doubt=in_doubt)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == _RETRY_AFTER:
            try:
                seconds = float(value)
            except ValueError:
                return None
            return max(0.0, seconds) if math.isfinite(seconds) else None
    return None
