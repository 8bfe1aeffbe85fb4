"""The errors of calls: status and message of gRPC, in the words of a Qdrant server."""

from __future__ import annotations

import functools
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from google.protobuf.message import Message

# Edge raises plain exceptions, so only the beginning of their text shows their type.
_BAD_INPUT_PREFIXES = (
    "Vector dimension error",
    "Not existing vector name error",
    "Wrong input",
    "Validation error",
    "Bad request",
    "No appropriate index for faceting",
    "No range index for `order_by` key",
)
_NO_POINT_PREFIX = "No point with id"
_BAD_PATH_PREFIX = "invalid JSON path "


class Refused(Exception):
    """A call that is answered with an error. The client gets ``code`` and ``message``."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def bad_argument(message: str) -> Refused:
    """Return the refusal of a malformed request."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def bad_input(description: str) -> Refused:
    """Return the refusal of a request that does not fit the collection."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {description}")


def empty_update() -> Refused:
    """Return the refusal of an operation that names no points."""
    return bad_argument("Bad request: Empty update request")


def out_of_range(field: str, value: object, rule: str) -> Refused:
    """Return the refusal of a field whose value Qdrant's request validation forbids."""
    return bad_argument(f"Validation error in body: [{field}: value {value} invalid, {rule}]")


def no_collection(name: str) -> Refused:
    """Return the refusal of a request that names an unknown collection."""
    return Refused(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")


def no_alias(name: str) -> Refused:
    """Return the refusal to rename an alias that does not exist."""
    return Refused(grpc.StatusCode.NOT_FOUND, f"Not found: Alias {name} does not exists!")


def no_point(point_id: object) -> Refused:
    """Return the refusal of a query by a point that does not exist."""
    return Refused(grpc.StatusCode.NOT_FOUND, f"Not found: {_NO_POINT_PREFIX} {point_id} found")


def alias_exists(name: str) -> Refused:
    """Return the refusal to create a collection whose name is an alias."""
    return bad_input(f"Can't create collection with name {name}. Alias with the same name already exists")


def collection_exists(name: str) -> Refused:
    """Return the refusal to create a collection that exists."""
    return Refused(grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!")


def wrong_dimension(expected: int, got: int) -> Refused:
    """Return the refusal of a vector of ``got`` numbers in a collection of ``expected``."""
    return bad_input(f"Vector dimension error: expected dim: {expected}, got {got}")


def not_served(what: str) -> Refused:
    """Return the refusal of a feature of Qdrant that this front does not have."""
    return Refused(grpc.StatusCode.UNIMPLEMENTED, f"The embedded engine does not support {what}")


def serve_only(message: Message, fields: Collection[str]) -> None:
    """Refuse ``message`` if a field other than ``fields`` is set. Unsupported fields are never ignored."""
    for field, _ in message.ListFields():
        if field.name not in fields:
            raise not_served(f"{message.DESCRIPTOR.name}.{field.name}")


def engine_refusal(error: BaseException) -> Refused:
    """Return the answer of a Qdrant server for an ``error`` of Edge."""
    text = str(error)
    if text.startswith(_NO_POINT_PREFIX):
        return Refused(grpc.StatusCode.NOT_FOUND, f"Not found: {text} found")
    if text.startswith(_BAD_PATH_PREFIX):
        return bad_argument(f"Invalid json path: '{text.removeprefix(_BAD_PATH_PREFIX)}'")
    if text.startswith(_BAD_INPUT_PREFIXES):
        return bad_input(text)
    return Refused(grpc.StatusCode.INTERNAL, f"Service internal error: {text or type(error).__name__}")


class _TimedResponse(Protocol):
    time: float


_Servicer = TypeVar("_Servicer")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response", bound=_TimedResponse)


def answering(
    method: Callable[[_Servicer, _Request], _Response],
) -> Callable[[_Servicer, _Request, grpc.ServicerContext], _Response]:
    """Turn a method from request to response into a gRPC handler, which sets the status and the time."""

    @functools.wraps(method)
    def handler(servicer: _Servicer, request: _Request, context: grpc.ServicerContext) -> _Response:
        started = time.perf_counter()
        try:
            response = method(servicer, request)
        except BaseException as error:  # noqa: BLE001 - such as a panic inside Edge, which must not end the thread
            refusal = error if isinstance(error, Refused) else engine_refusal(error)
            if refusal.code is grpc.StatusCode.INTERNAL:
                traceback.print_exc()
            context.abort(refusal.code, refusal.message)
        response.time = time.perf_counter() - started
        return response

    return handler


class ApiKeyCheck(grpc.ServerInterceptor):
    """Accepts only calls with the API key, as ``api-key`` or as a bearer token, and all health checks."""

    def __init__(self, api_key: str) -> None:
        self._accepted = {("api-key", api_key), ("authorization", f"Bearer {api_key}")}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the call, or one that refuses it with UNAUTHENTICATED."""
        metadata = dict(handler_call_details.invocation_metadata)
        if handler_call_details.method == "/qdrant.Qdrant/HealthCheck" or self._accepted & metadata.items():
            return continuation(handler_call_details)
        given = "api-key" in metadata or "authorization" in metadata
        return _REFUSE_WRONG_KEY if given else _REFUSE_NO_KEY


def _refusing(message: str) -> grpc.RpcMethodHandler[Any, Any]:
    def refuse(_request: object, context: grpc.ServicerContext) -> object:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    return grpc.unary_unary_rpc_method_handler(refuse)


_REFUSE_WRONG_KEY = _refusing("Invalid API key or JWT")
_REFUSE_NO_KEY = _refusing("Must provide an API key or an Authorization bearer token")
