"""Encode and decode jobs, and normalize jobs that were made in Python."""

from __future__ import annotations

import re
import zlib
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from memory_worker.contract.arguments import to_list, to_scalar
from memory_worker.contract.checks import AnyJob, check_size, checked
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import MAX_POINT_IDS, NARROWING, Limits, ReadJob, WriteJob
from memory_worker.contract.payloads import normalize_payload
from memory_worker.contract.results import Reply
from memory_worker.contract.vectors import pack_vector

CONTRACT_VERSION = 1

_JSON_OBJECT_STARTS = b"{ \t\r\n"
_MSGSPEC_PROBLEM = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_NULL_ADVICE = {
    **dict.fromkeys(("namespace", *NARROWING), "leave it out to delete or find more"),
    "kind": "leave it out for the default, which is both kinds for a purge",
}
"""What to do instead of passing null."""

_write_msgpack: msgspec.msgpack.Decoder[WriteJob] = msgspec.msgpack.Decoder(WriteJob)
_write_json: msgspec.json.Decoder[WriteJob] = msgspec.json.Decoder(WriteJob)
_encoder = msgspec.msgpack.Encoder()


def partition_of(user_id: int, partitions: int) -> int:
    """Return the partition of a user: the CRC-32 of the decimal user id, modulo ``partitions``."""
    return zlib.crc32(b"%d" % user_id) % partitions


def op_of(job: WriteJob | ReadJob) -> str:
    """Return the ``op`` of a job."""
    return str(type(job).__struct_config__.tag)


def encode_job(job: WriteJob | ReadJob) -> bytes:
    """Encode a job as MessagePack. Its fields must have their declared types."""
    return _encoder.encode(job)


def normalize_job(job: AnyJob) -> AnyJob:
    """Convert the fields of a job that was made in Python to the types of the contract.

    The vector may be anything that `pack_vector` accepts, the payload anything that `normalize_payload` accepts. Other
    fields may also be NumPy scalars and enums. Raises `InvalidJob`, which names the path of the wrong value.
    """
    fields: dict[str, Any] = {}
    for name in job.__struct_fields__:
        value = getattr(job, name)
        if value is not UNSET:
            normalize = _NORMALIZERS.get(name)
            fields[name] = to_scalar(value, name) if normalize is None else normalize(value)
    try:
        return msgspec.convert(fields, type(job))
    except msgspec.ValidationError as error:
        raise _invalid_job(error) from error


def encode_write(job: WriteJob, limits: Limits) -> bytes:
    """Encode a normalized write job that passes all checks of a worker. Raises `InvalidJob` if it does not."""
    checked(job, limits)
    body = encode_job(job)
    check_size(len(body), limits)
    return body


def decode_write(body: bytes) -> WriteJob:
    """Decode a write job from MessagePack or JSON. Raises `InvalidJob`."""
    decoder = _write_json if body[:1] in _JSON_OBJECT_STARTS and body else _write_msgpack
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid_job(error) from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidJob("job", f"is neither MessagePack nor JSON: {error}") from error


_Read = TypeVar("_Read", bound=ReadJob)


def convert_read(document: Any, job_type: type[_Read]) -> _Read:
    """Convert a decoded map to a read job. Raises `InvalidJob`."""
    try:
        return msgspec.convert(document, job_type)
    except msgspec.ValidationError as error:
        raise _invalid_job(error) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of all jobs and of the reply."""
    schema, definitions = msgspec.json.schema_components([WriteJob, ReadJob, Reply])[:2]
    write, read, reply = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "memory-worker wire contract",
        "version": CONTRACT_VERSION,
        "oneOf": [
            {"title": "write job", **write},
            {"title": "read job", **read},
            {"title": "reply", **reply},
        ],
        "$defs": definitions,
    }


def _point_ids(values: Any) -> list[Any]:
    ids = to_list("point_ids", values, of="point ids", max_items=MAX_POINT_IDS)
    return [to_scalar(value, f"point_ids[{position}]") for position, value in enumerate(ids)]


_NORMALIZERS = {"vector": pack_vector, "payload": normalize_payload, "point_ids": _point_ids}


def _invalid_job(error: msgspec.ValidationError) -> InvalidJob:
    """Convert an error of msgspec, such as ``Expected `int`, got `str` - at `$.user_id```."""
    found = _MSGSPEC_PROBLEM.fullmatch(str(error))
    problem, of_key, path = found.groups() if found else (str(error), None, "")
    named = re.search(r"(?:missing required|unknown) field `(.+)`", problem)
    field = named[1] if named else path.lstrip(".")
    problem = f"a field name: {problem}" if of_key else problem[0].lower() + problem[1:]
    if field in _NULL_ADVICE and problem.endswith(("got `null`", "got `None`")):
        problem = f"must not be null: {_NULL_ADVICE[field]}"
    return InvalidJob(field or "job", problem)
