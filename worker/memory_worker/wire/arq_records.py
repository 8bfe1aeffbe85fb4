"""Encode arq's jobs and results as MessagePack. Jobs may also arrive as JSON.

arq uses pickle by default. Whoever can write to Redis could then run code in the worker.
"""

from __future__ import annotations

from typing import Any

import msgspec


def _describe(value: Any) -> Any:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    raise NotImplementedError(f"a {type(value).__name__} cannot be encoded")


_encoder = msgspec.msgpack.Encoder(enc_hook=_describe)
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_json_decoder = msgspec.json.Decoder(dict[str, Any])


def encode_arq(record: dict[str, Any]) -> bytes:
    """Encode one of arq's jobs or results.

    A result is stored without the job's arguments. A result of ``None`` becomes empty bytes, which arq does not store.
    """
    if "r" not in record:
        return _encoder.encode(record)
    if record["r"] is None:
        return b""
    return _encoder.encode({**record, "a": (), "k": {}})


def decode_arq(body: bytes) -> dict[str, Any]:
    """Decode one of arq's jobs or results. Raises ``msgspec.DecodeError``."""
    try:
        return _json_decoder.decode(body) if body[:1] == b"{" else _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
