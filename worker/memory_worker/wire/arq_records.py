"""Encode and decode arq's jobs and results, as MessagePack or as JSON.

arq uses pickle by default. Whoever can write to Redis could then run code in the worker. So a pickled job is refused,
and never unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from memory_worker.contract.errors import InvalidJob

PICKLED = (
    "the job is pickled, as arq does by default, and a pickled job is never read: give create_pool "
    "job_serializer=msgspec.msgpack.encode and job_deserializer=msgspec.msgpack.decode"
)

TRACE = "trace"
"""The key of the trace context in a record. arq and workers of older versions ignore it."""

_PICKLE_START = b"\x80"


def _describe(value: Any) -> Any:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    raise NotImplementedError(f"a {type(value).__name__} cannot be encoded")


_encoder = msgspec.msgpack.Encoder(enc_hook=_describe)
_json_encoder = msgspec.json.Encoder(enc_hook=_describe)
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_json_decoder = msgspec.json.Decoder(dict[str, Any])


def is_pickled(body: bytes) -> bool:
    """Return whether a job is pickled. No job in MessagePack or JSON begins with this byte."""
    return body[:1] == _PICKLE_START


def is_json(body: bytes) -> bool:
    """Return whether a job is JSON, so that its result must be JSON, too."""
    return body[:1] == b"{"


def encode_arq(record: dict[str, Any], *, as_json: bool = False) -> bytes:
    """Encode one of arq's jobs or results as MessagePack, or as JSON.

    A result is stored without the job's arguments. A result of ``None`` becomes empty bytes, which arq does not store.
    """
    encoder = _json_encoder if as_json else _encoder
    if "r" not in record:
        return encoder.encode(record)
    if record["r"] is None:
        return b""
    return encoder.encode({**record, "a": (), "k": {}})


def decode_arq(body: bytes) -> dict[str, Any]:
    """Decode one of arq's jobs or results. Raises ``msgspec.DecodeError``."""
    if is_pickled(body):
        raise msgspec.DecodeError(PICKLED)
    try:
        return _json_decoder.decode(body) if is_json(body) else _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def job_of_arguments(arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """Return the job in the arguments of ``enqueue_job``: one map, or named arguments. Raises `InvalidJob`."""
    if not arguments:
        return named
    if len(arguments) > 1 or named:
        given = f"{len(arguments)} arguments and {len(named)} named ones"
        raise InvalidJob("job", f"expected one map, or named arguments only, got {given}")
    return arguments[0]
