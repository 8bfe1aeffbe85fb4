"""What a client makes of values and of answers: partitions, ids, vectors, replies, receipts, errors of Redis."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from memory_worker.contract import Receipt, Reply, partition_of
from memory_worker.contract.errors import InvalidJob, MemoryWorkerError, ReadFailed
from memory_worker.contract.kinds import primary_id
from memory_worker.contract.vectors import check_vector, pack_vector
from memory_worker.wire.connection import close_redis, open_redis, queue_errors
from memory_worker.wire.scripts import scripts
from tests.golden_inputs.limits import LIMITS
from tests.golden_inputs.refused import OF_PYTHON
from tests.golden_inputs.replies import REPLIES
from tests.golden_inputs.values import CHECKED, NUMBERS, PARTITIONS, POINT_IDS, RECEIPTS, REDIS_ERRORS, USERS
from tests.golden_recorder import Recorder, call, meta_of
from tests.golden_values import to_form, to_value

_COMMAND = "GOLDEN"
_ATTRIBUTES = ("field", "code", "what", "limit", "actual", "reason", "detail")
SCRIPTS = ("call", "cancel", "push", "states")


def error_form(error: Exception) -> dict[str, Any]:
    """Return the class and the message of an error, and those of its other attributes that it has."""
    found = {"class": type(error).__name__, "message": str(error)}
    return found | {name: getattr(error, name) for name in _ATTRIBUTES if hasattr(error, name)}


def marked(error: Exception) -> dict[str, Any]:
    """Return the form of an error. It says if its message has a part that only Python makes."""
    of_python = {"message_is_from": "python"} if any(part in str(error) for part in OF_PYTHON) else {}
    return {**error_form(error), **of_python}


def partitions() -> Any:
    """Return users with their CRC-32, and with their partition for each number of partitions."""
    return [
        {
            "user_id": user,
            "crc32": zlib.crc32(str(user).encode()),
            "partitions": {str(count): partition_of(user, count) for count in PARTITIONS},
        }
        for user in USERS
    ]


def uuids() -> Any:
    """Return point ids with the UUIDs under which Qdrant stores the points."""
    return [{"point_id": point_id, "uuid": primary_id(point_id)} for point_id in POINT_IDS]


def vectors() -> Any:
    """Return numbers with their float32 bytes, and vectors with their errors."""
    packed = [
        {"name": name, "numbers": numbers, "hex": pack_vector(to_value(numbers)).hex()}
        for name, numbers in NUMBERS.items()
    ]
    return {"packed": packed, "checked": [_checked(distance, numbers) for distance, numbers in CHECKED]}


def _checked(distance: str, numbers: list[Any]) -> dict[str, Any]:
    case = {"distance": distance, "dimension": 2, "numbers": numbers, "error": None}
    try:
        check_vector(pack_vector(to_value(numbers)), 2, normalized=distance == "cosine")
    except InvalidJob as error:
        return {**case, "error": marked(error)}
    return case


def replies() -> Any:
    """Return replies to reads with the results or the errors of the calls."""
    return list(_replies())


def _replies() -> Iterator[dict[str, Any]]:
    for name, method, args, reply in REPLIES:
        case = {"name": name, "limits": "default", "method": method, "args": args, "msgpack": None, "json": None}
        found = None
        if reply is not None:
            body = msgspec.msgpack.encode(reply)
            case |= {"msgpack": body.hex(), "json": msgspec.json.encode(reply).decode()}
            found = msgspec.msgpack.decode(body, type=Reply)
        try:
            result = call(method, args, Recorder(meta_of(LIMITS["default"]), found))
        except ReadFailed as error:
            yield {**case, "error": error_form(error)}
        else:
            yield {**case, "result": to_form(result)}


def receipts() -> Any:
    """Return texts with the receipts that they stand for, or with errors."""
    return [_receipt(text) for text in RECEIPTS]


def _receipt(text: str) -> dict[str, Any]:
    try:
        found = Receipt.parse(text)
    except InvalidJob as error:
        return {"text": text, "error": marked(error)}
    return {"text": text, "receipt": {"partition": found.partition, "entry_id": found.entry_id, "text": str(found)}}


def redis_errors() -> Any:
    """Return error texts of Redis with the errors of the client."""
    return asyncio.run(_redis_errors())


async def _redis_errors() -> list[dict[str, Any]]:
    errors = await asyncio.gather(*map(_mapped, REDIS_ERRORS))
    return [{"redis": text, "error": marked(error)} for text, error in zip(REDIS_ERRORS, errors, strict=True)]


async def _mapped(text: str) -> Exception:
    """Return the error that a client raises when Redis answers a command with this text."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            refused = f"-{text}\r\n".encode() if _COMMAND.encode() in data else b"+OK\r\n" * _commands_in(data)
            writer.write(refused)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        redis = open_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=5)
        try:
            with queue_errors():
                await redis.execute_command(_COMMAND)
        except MemoryWorkerError as error:
            return error
        finally:
            await close_redis(redis)
    raise AssertionError(f"{text} is no error")


def _commands_in(data: bytes) -> int:
    return sum(line.startswith(b"*") for line in data.splitlines())


def script_hashes() -> Any:
    """Return the SHA-1 of each script that clients run, by its name."""
    return {name: hashlib.sha1(scripts.source(name).encode()).hexdigest() for name in SCRIPTS}
