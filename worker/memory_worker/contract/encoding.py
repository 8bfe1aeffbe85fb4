"""Encode and decode jobs, and normalize jobs that were made in Python."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import UNSET

from memory_worker.contract.checks import AnyJob, check_size, checked
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import (
    WRITE_OPS,
    Delete,
    Limits,
    Patch,
    Prune,
    Purge,
    WriteJob,
)
from memory_worker.contract.kinds import ALL_NAMESPACES, KINDS, KindName, UserId
from memory_worker.contract.msgspec_errors import invalid_job
from memory_worker.contract.normalizing import normalize_field
from memory_worker.contract.read_jobs import (
    ReadJob,
)
from memory_worker.contract.results import Reply

CONTRACT_VERSION = 2
"""The newest version that this worker understands. `version_of` returns the lowest version that can hold a job."""

_JSON_OBJECT_STARTS = b"{ \t\r\n"
_WRITE_TYPES = dict(zip(WRITE_OPS, get_args(WriteJob), strict=True))


class _Tagged(msgspec.Struct):
    """The only field of a write job that is read if the job is wrong."""

    op: str


_write_msgpack: msgspec.msgpack.Decoder[WriteJob] = msgspec.msgpack.Decoder(WriteJob)
_write_json: msgspec.json.Decoder[WriteJob] = msgspec.json.Decoder(WriteJob)
_tagged_msgpack = msgspec.msgpack.Decoder(_Tagged)
_tagged_json = msgspec.json.Decoder(_Tagged)
_encoder = msgspec.msgpack.Encoder()


def partition_of(user_id: UserId, partitions: int) -> int:
    """Return the partition of a user: the CRC-32 of the user id, modulo ``partitions``.

    An integer counts as its decimal digits, a text as UTF-8.
    """
    text = b"%d" % user_id if isinstance(user_id, int) else user_id.encode()
    return zlib.crc32(text) % partitions


def op_of(job: WriteJob | ReadJob) -> str:
    """Return the ``op`` of a job."""
    return str(type(job).__struct_config__.tag)


def version_of(job: WriteJob, limits: Limits) -> int:
    """Return the lowest contract version that can hold a job, so that older workers can apply as many as possible.

    Version 1 has upserts, deletes and purges of the built-in kinds, with one dimension for both.
    """
    kind_name = job.only_kind if isinstance(job, Purge) else job.kind
    is_new = (
        isinstance(job, (Patch, Prune))
        or (isinstance(job, Delete) and job.namespace == ALL_NAMESPACES)
        or (isinstance(job, Purge) and (job.before is not UNSET or job.other_than_model is not UNSET))
        or isinstance(job.user_id, str)
        or bool(job.ref or job.notify)
        or (kind_name is not None and _has_new_kind(kind_name, limits))
    )
    return 2 if is_new else 1


def _has_new_kind(name: KindName, limits: Limits) -> bool:
    """Return whether version 1 does not have this kind, or not with its own dimension."""
    kind = limits.kinds.get(name)
    return name not in KINDS or (kind is not None and kind.dimension not in (None, limits.dimension))


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
            fields[name] = _normalize_searches(value) if name == "searches" else normalize_field(name, value)
    try:
        return msgspec.convert(fields, type(job))
    except msgspec.ValidationError as error:
        raise invalid_job(error, type(job), fields) from error


def encode_write(job: WriteJob, limits: Limits) -> bytes:
    """Encode a normalized write job that passes all checks of a worker. Raises `InvalidJob` if it does not."""
    checked(job, limits)
    body = encode_job(job)
    check_size(len(body), limits)
    return body


def decode_write(body: bytes) -> WriteJob:
    """Decode a write job from MessagePack or JSON. Raises `InvalidJob`."""
    is_json = body != b"" and body[:1] in _JSON_OBJECT_STARTS
    try:
        return (_write_json if is_json else _write_msgpack).decode(body)
    except msgspec.ValidationError as error:
        raise invalid_job(error, _write_type(_tagged_json if is_json else _tagged_msgpack, body)) from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidJob("job", f"is neither MessagePack nor JSON: {error}") from error


def _write_type(decoder: Any, body: bytes) -> type | None:
    """Return the type of a wrong write job, or ``None`` if that is wrong, too."""
    try:
        return _WRITE_TYPES.get(decoder.decode(body).op)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


_Read = TypeVar("_Read", bound=ReadJob)


def convert_read(document: Any, job_type: type[_Read]) -> _Read:
    """Convert a decoded map to a read job. Raises `InvalidJob`."""
    try:
        return msgspec.convert(document, job_type)
    except msgspec.ValidationError as error:
        raise invalid_job(error, job_type, document) from error


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


def _normalize_searches(searches: Any) -> Any:
    """Normalize the searches of a `SearchMany`. `memory_worker.contract.building` has made them."""
    found = []
    for position, search in enumerate(searches):
        try:
            found.append(normalize_job(search))
        except InvalidJob as error:
            raise InvalidJob(f"searches[{position}].{error.field}", error.problem) from error
    return found
