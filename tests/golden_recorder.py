"""The Python client without Redis: it records what it would send, for the golden files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
from msgspec import NODEFAULT, UNSET

from memory_worker.client import AdminQueue, MemoryQueue
from memory_worker.client.opened import Opened
from memory_worker.contract import (
    HealthReport,
    ReadJob,
    Receipt,
    Reply,
    WriteJob,
    checked,
    encode_write,
    normalize_job,
    partition_of,
    version_of,
)
from memory_worker.contract.building import map_jobs, to_write_jobs
from memory_worker.contract.errors import ReadFailed
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta
from tests.golden_values import to_value

ADMIN = "_all"
"""The end of a method's name that stands for a method of `AdminQueue`."""
ANY_REPLY = Reply(ok=True, health=HealthReport(version="", engine_ms=0))
PARTITIONS = (32, 7)


class Recorder:
    """A producer that checks and encodes as the real one does, and sends nothing."""

    def __init__(self, meta: QueueMeta, reply: Reply | None = ANY_REPLY) -> None:
        self.jobs: list[Any] = []
        self.limits = meta.limits
        self._reply = reply

    async def push(self, given: Iterable[WriteJob]) -> list[Receipt]:
        jobs = map_jobs(normalize_job, to_write_jobs(given))
        map_jobs(partial(encode_write, limits=self.limits), jobs)
        self.jobs += jobs
        return [Receipt(0, "1-0") for _ in jobs]

    async def call(self, job: ReadJob) -> Reply:
        normalized = normalize_job(job)
        self.jobs.append(checked(normalized, self.limits))
        if self._reply is None:
            raise ReadFailed("timeout", f"no worker answered within {normalized.timeout_ms} ms")
        if self._reply.error is not None:
            raise ReadFailed(self._reply.error.code, self._reply.error.message)
        return self._reply

    async def wait_applied(self, receipt: Receipt, *, timeout_s: float) -> None:
        raise AssertionError(f"{receipt} is waited for {timeout_s} s")

    async def outcomes(self, **arguments: Any) -> None:
        raise AssertionError(f"outcomes are read: {arguments}")


class _Meta:
    """A Redis that has only ``mw:meta``."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = meta_fields(fields)

    async def execute_command(self, *_command: str) -> dict[bytes, bytes]:
        return {name.encode(): value.encode() for name, value in self._fields.items()}


def meta_fields(limits: dict[str, Any]) -> dict[str, str]:
    """Return the fields of ``mw:meta`` as texts."""
    return {name: json.dumps(value) for name, value in limits.items()}


def meta_of(limits: dict[str, Any]) -> QueueMeta:
    """Return what a producer reads from ``mw:meta``."""
    return asyncio.run(read_meta(_Meta(limits), Keys())) or QueueMeta()  # type: ignore[arg-type]


def call(method: str, args: dict[str, Any], recorder: Recorder) -> Any:
    """Call a method of the client with the arguments of a golden file, and return its result."""
    client = Opened.__new__(AdminQueue if method.endswith(ADMIN) else MemoryQueue)
    client._producer = recorder  # type: ignore[assignment]
    return asyncio.run(invoke(client, method, args))


async def invoke(client: Any, method: str, args: dict[str, Any]) -> Any:
    """Call a method of a client with the arguments of a golden file."""
    return await getattr(client, method.removesuffix(ADMIN))(**{name: to_value(value) for name, value in args.items()})


def plain(value: Any) -> Any:
    """Return a job as the map that is sent: ``op`` first, then the fields that differ from their defaults."""
    match value:
        case msgspec.Struct():
            found = {"op": op} if (op := type(value).__struct_config__.tag) else {}
            for field in msgspec.structs.fields(value):
                given = getattr(value, field.name)
                if given is not UNSET and not _is_default(field, given):
                    found[field.encode_name] = plain(given)
            return found
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def _is_default(field: msgspec.structs.FieldInfo, value: Any) -> bool:
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return type(value) is type(default) and value == default


def version_and_partitions(job: WriteJob, recorder: Recorder) -> dict[str, Any]:
    """Return the contract version of a job, and its partition for some numbers of partitions."""
    return {
        "version": version_of(job, recorder.limits),
        "partitions": {str(count): partition_of(job.user_id, count) for count in PARTITIONS},
    }
