"""Check and encode the writes of arq's own client, as the client of this project does before a push.

Nothing is lost silently: a write that is refused becomes an entry, too, from which the drain makes a dead letter.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import msgspec

from memory_worker.contract import (
    CONTRACT_VERSION,
    WriteJob,
    decode_write,
    encode_write,
    normalize_job,
    partition_of,
    unknown_kind,
    version_of,
)
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.jobs import WRITE_OPS
from memory_worker.queue.arq_writes import ArqResult, ArqWrite, NewEntry
from memory_worker.telemetry.logs import log_event
from memory_worker.wire.arq_records import PICKLED, decode_arq, is_json, is_pickled, job_of_arguments
from memory_worker.wire.meta import QueueMeta

logger = logging.getLogger(__name__)

_RAW_PARTITION, _NO_USER = 0, ""
"""The partition and the user of a write whose user cannot be read."""
_LARGEST_RECORD = 4
"""The largest record that is read, in times of the largest job. As JSON, a job may be a few times as large."""
_UNKNOWN = "unknown"
_MAX_NAME = 200
_LATEST_MS = 253_402_300_799_000  # the end of the year 9999


class _Unreadable(Exception):
    """A write without a job that can be checked. ``reason`` is the kind of the ``error``."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.error = InvalidJob("job", problem)


class _Record(msgspec.Struct):
    """A job as arq encodes it."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    et: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)] = 0


def largest_record_bytes(meta: QueueMeta) -> int:
    """Return the size of the largest record that is read, in bytes."""
    return _LARGEST_RECORD * meta.limits.max_job_bytes


def new_entry(write: ArqWrite, meta: QueueMeta) -> NewEntry:
    """Return the entry that a write becomes, with arq's result. If the write is refused, the result is an error."""
    as_json = is_json(write.record) or is_pickled(write.record)  # an error is readable text in JSON
    function, enqueued_ms = _UNKNOWN, 0
    document = b""
    try:
        record = _record_of(write, meta)
        function, enqueued_ms = record.f[:_MAX_NAME], record.et
        document = _document_of(record, as_json=as_json)
        job = normalize_job(decode_write(document))
        body = encode_write(job, meta.limits)
    except (_Unreadable, InvalidJob) as problem:
        reason, error = _reason_and_error(problem)
        result = ArqResult(function, enqueued_ms, as_json, f"InvalidJob: {error}", reason)
        return _refused(write, document, meta, result)
    except Exception as failure:  # noqa: BLE001  # one bad job must not delay the others
        log_event(logger, logging.ERROR, "arq_write_failed", failure=failure)
        result = ArqResult(function, enqueued_ms, as_json, f"internal error: {type(failure).__name__}", "internal")
        return _refused(write, b"", meta, result)
    partition, version = partition_of(job.user_id, meta.partitions), version_of(job, meta.limits)
    return NewEntry(write, job.user_id, partition, version, body, ArqResult(function, enqueued_ms, as_json))


def _record_of(write: ArqWrite, meta: QueueMeta) -> _Record:
    if is_pickled(write.record):
        raise _Unreadable("pickled", PICKLED)
    if write.is_too_large:
        largest = largest_record_bytes(meta)
        raise _Unreadable("too_large", f"at most {largest:,} bytes are allowed as arq's job, got {write.size_bytes:,}")
    try:
        return msgspec.convert(decode_arq(write.record), _Record)
    except msgspec.MsgspecError as error:
        raise _Unreadable("malformed", f"is no job of arq in MessagePack or JSON: {error}") from error


def _document_of(record: _Record, *, as_json: bool) -> bytes:
    """Return the job in the arguments, encoded as the record."""
    if record.f not in WRITE_OPS:
        raise _Unreadable("unknown_function", f"the function {record.f[:80]!r} is none of {', '.join(WRITE_OPS)}")
    document = job_of_arguments(record.a, record.k)
    if not isinstance(document, dict):
        raise InvalidJob("job", f"expected a map, got {type(document).__name__}")
    if document.get("op", record.f) != record.f:
        raise InvalidJob("op", f"differs from the function {record.f!r}")
    encode = msgspec.json.encode if as_json else msgspec.msgpack.encode
    try:
        return encode({"op": record.f, **document})
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise InvalidJob("job", f"cannot be encoded: {error}") from error


def _refused(write: ArqWrite, document: bytes, meta: QueueMeta, result: ArqResult) -> NewEntry:
    """Return the entry from which a drain makes a dead letter: the job if the record has one, or the record.

    A drain does not refuse an unknown kind but waits for a worker that has it, so such a job is stored as its record.
    """
    job = _decoded_or_none(document)
    if not document or (job is not None and unknown_kind(job, meta.limits)):
        # A record that is a job itself would be applied. In a map it is none.
        body = b"" if _decoded_or_none(write.record) is None else msgspec.msgpack.encode({"record": write.record})
        return NewEntry(write, _NO_USER, _RAW_PARTITION, CONTRACT_VERSION, body, result)
    if job is None:
        return NewEntry(write, _NO_USER, _RAW_PARTITION, CONTRACT_VERSION, document, result)
    partition = partition_of(job.user_id, meta.partitions)
    return NewEntry(write, job.user_id, partition, CONTRACT_VERSION, document, result)


def problem_of_record(body: bytes) -> InvalidJob | None:
    """Return why a record of arq that was stored as an entry was refused; ``None`` if the entry is no such record."""
    if is_pickled(body):
        return InvalidJob("job", PICKLED)
    try:
        record = msgspec.convert(decode_arq(body), _Record)
    except msgspec.MsgspecError:
        return None
    try:
        _document_of(record, as_json=is_json(body))
    except (_Unreadable, InvalidJob) as problem:
        return _reason_and_error(problem)[1]
    return InvalidJob("job", "is a write of arq's own client that was refused, for example because of its kind")


def _reason_and_error(problem: _Unreadable | InvalidJob) -> tuple[str, InvalidJob]:
    return (problem.reason, problem.error) if isinstance(problem, _Unreadable) else ("invalid", problem)


def _decoded_or_none(document: bytes) -> WriteJob | None:
    try:
        return decode_write(document)
    except InvalidJob:
        return None
