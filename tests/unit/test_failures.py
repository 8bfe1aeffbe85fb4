from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from memory_worker.contract.errors import StoreRefused, StoreUnavailable
from memory_worker.store.failures import store_error

REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
OUTAGES = set(grpc.StatusCode) - REFUSALS


def failed(code: grpc.StatusCode, details: str | None = "because", trailing: Metadata | None = None) -> AioRpcError:
    return AioRpcError(code, Metadata(), trailing or Metadata(), details)


def named(codes: set[grpc.StatusCode]) -> list[grpc.StatusCode]:
    return sorted(codes, key=lambda code: code.name)


@pytest.mark.parametrize("code", named(REFUSALS), ids=lambda code: code.name)
def test_a_refusal_is_an_error_of_the_request(code: grpc.StatusCode) -> None:
    error = store_error("writing to x", failed(code))
    assert type(error) is StoreRefused
    assert str(error) == f"writing to x: {code.name}: because"


@pytest.mark.parametrize("code", named(OUTAGES), ids=lambda code: code.name)
def test_any_other_code_is_an_outage(code: grpc.StatusCode) -> None:
    error = store_error("writing to x", failed(code))
    assert type(error) is StoreUnavailable
    assert (error.code, error.retry_after_s) == (code.name, None)
    assert str(error) == f"writing to x: {code.name}: because"


IN_DOUBT = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


@pytest.mark.parametrize("code", named(OUTAGES), ids=lambda code: code.name)
def test_a_request_is_in_doubt_if_the_code_may_come_without_an_answer(code: grpc.StatusCode) -> None:
    error = store_error("writing to x", failed(code))
    assert isinstance(error, StoreUnavailable)
    assert error.in_doubt == (code in IN_DOUBT)


def test_a_request_that_was_never_sent_is_not_in_doubt() -> None:
    """The error is gRPC's own, for an address without a server."""

    async def ask() -> AioRpcError:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            try:
                await channel.unary_unary("/qdrant.Points/UpdateBatch")(b"", timeout=10)
            except AioRpcError as error:
                return error
        raise AssertionError

    raised = asyncio.run(ask())
    error = store_error("writing to x", raised)
    assert isinstance(error, StoreUnavailable)
    assert (error.code, error.in_doubt) == ("UNAVAILABLE", False), raised.details()


@pytest.mark.parametrize("details", [None, ""], ids=["none", "empty"])
def test_a_failure_without_details_says_so(details: str | None) -> None:
    error = store_error("reading", failed(grpc.StatusCode.UNKNOWN, details))
    assert str(error) == "reading: UNKNOWN: no details"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0.25", 0.25),
        (" 3 ", 3.0),
        ("-1", 0.0),
        ("0", 0.0),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e999", None),
    ],
    ids=repr,
)
def test_the_retry_after_of_the_server_is_read(value: str, seconds: float | None) -> None:
    trailing = Metadata(("other", "7"), ("retry-after", value))
    error = store_error("writing", failed(grpc.StatusCode.RESOURCE_EXHAUSTED, trailing=trailing))
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after_s == seconds
