"""Jobs as bytes, and jobs made in Python as jobs of the contract."""

from __future__ import annotations

import re
import zlib
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from memory_worker.contract.arguments import listed, plain, type_name
from memory_worker.contract.checks import AnyJob, check_size, checked
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import MAX_POINT_IDS, NARROWING, Delete, Limits, Purge, ReadJob, Upsert, WriteJob
from memory_worker.contract.payloads import plain_payload
from memory_worker.contract.results import Reply
from memory_worker.contract.vectors import pack_vector

CONTRACT_VERSION = 1

_JSON_OBJECT_STARTS = b"{ \t\r\n"
_MSGSPEC_PROBLEM = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_WITHOUT = {
    **dict.fromkeys(("namespace", *NARROWING), "leave it out to delete or find more"),
    "kind": "leave it out for the default, which is both kinds for a purge",
}
"""What a null may have been meant for."""

_write_msgpack: msgspec.msgpack.Decoder[WriteJob] = msgspec.msgpack.Decoder(WriteJob)
_write_json: msgspec.json.Decoder[WriteJob] = msgspec.json.Decoder(WriteJob)
_encoder = msgspec.msgpack.Encoder()


def partition_of(user_id: int, partitions: int) -> int:
    """Return the partition that holds all jobs of a user: CRC-32 of the decimal user id, modulo ``partitions``."""
    return zlib.crc32(b"%d" % user_id) % partitions


def op_of(job: WriteJob | ReadJob) -> str:
    """Return the ``op`` under which a job goes over the wire."""
    return str(type(job).__struct_config__.tag)


def encode_job(job: WriteJob | ReadJob) -> bytes:
    """Return a job whose fields have their types as MessagePack."""
    return _encoder.encode(job)


def plain_job(job: AnyJob) -> AnyJob:
    """Return a job made in Python as a worker will read it; raises `InvalidJob` with the path of what is of no use.

    The vector may be anything that `pack_vector` takes, the payload anything that `plain_payload` does. Other fields
    may be NumPy scalars and enums, too.
    """
    fields: dict[str, Any] = {}
    for name in job.__struct_fields__:
        value = getattr(job, name)
        if value is not UNSET:
            form = _FORMS.get(name)
            fields[name] = plain(value, name) if form is None else form(value)
    try:
        return msgspec.convert(fields, type(job))
    except msgspec.ValidationError as error:
        raise _named(error) from error


def encode_checked(job: WriteJob, limits: Limits) -> bytes:
    """Return a job made in Python as MessagePack once it has passed all that a worker will check.

    Takes what `plain_job` takes; raises `InvalidJob`.
    """
    if not isinstance(job, (Upsert, Delete, Purge)):
        raise InvalidJob("op", f"expected an Upsert, a Delete or a Purge, got {type_name(job)}")
    return encode_plain(plain_job(job), limits)


def encode_plain(job: WriteJob, limits: Limits) -> bytes:
    """Return a job that `plain_job` has made, as `encode_checked` does."""
    checked(job, limits)
    body = encode_job(job)
    check_size(len(body), limits)
    return body


def checked_read(job: AnyJob, limits: Limits) -> AnyJob:
    """Return a read job made in Python once it has passed all that a worker will check; raises `InvalidJob`."""
    return checked(plain_job(job), limits)


def decode_write(body: bytes) -> WriteJob:
    """Return the write job in ``body`` (MessagePack or JSON); raises `InvalidJob`."""
    decoder = _write_json if body[:1] in _JSON_OBJECT_STARTS and body else _write_msgpack
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidJob("job", f"is neither MessagePack nor JSON: {error}") from error


_Read = TypeVar("_Read", bound=ReadJob)


def convert_read(document: Any, kind_of_job: type[_Read]) -> _Read:
    """Return the read job in an already decoded map; raises `InvalidJob`."""
    try:
        return msgspec.convert(document, kind_of_job)
    except msgspec.ValidationError as error:
        raise _named(error) from error


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
    listed_ids = listed("point_ids", values, of="point ids", most=MAX_POINT_IDS)
    return [plain(value, f"point_ids[{position}]") for position, value in enumerate(listed_ids)]


_FORMS = {"vector": pack_vector, "payload": plain_payload, "point_ids": _point_ids}


def _named(error: msgspec.ValidationError) -> InvalidJob:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.user_id``` into an error with the field's name."""
    found = _MSGSPEC_PROBLEM.fullmatch(str(error))
    problem, of_key, path = found.groups() if found else (str(error), None, "")
    named = re.search(r"(?:missing required|unknown) field `(.+)`", problem)
    field = named[1] if named else path.lstrip(".")
    problem = f"a field name: {problem}" if of_key else problem[0].lower() + problem[1:]
    if field in _WITHOUT and problem.endswith(("got `null`", "got `None`")):
        problem = f"must not be null: {_WITHOUT[field]}"
    return InvalidJob(field or "job", problem)
