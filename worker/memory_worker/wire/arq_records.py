"""How arq's own records are encoded: MessagePack, or JSON from producers that prefer it; never pickle.

arq's default would run code that anyone who can write to Redis may have put there.
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
    """Encode a job or a result of arq's. A result keeps no arguments; one that is ``None`` is not kept at all."""
    if "r" not in record:
        return _encoder.encode(record)
    if record["r"] is None:
        return b""
    return _encoder.encode({**record, "a": (), "k": {}})


def decode_arq(body: bytes) -> dict[str, Any]:
    """Decode a job or a result of arq's; raises ``msgspec.DecodeError``."""
    try:
        return _json_decoder.decode(body) if body[:1] == b"{" else _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
