"""The PHP client of docs/php.md works against a real worker. It needs PHP with the phpredis extension."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from memory_worker import MemoryQueue, Receipt
from memory_worker.settings import Settings
from memory_worker.wire.keys import Keys
from tests.documents import ROOT, blocks
from tests.integration.conftest import running
from tests.tools import tool

PROGRAM, CLASS = (block.body for block in blocks([ROOT / "docs" / "php.md"], "php"))
SCRIPTS = ROOT / "worker" / "memory_worker" / "wire" / "scripts"
USER, POINT = 1730, "mem_1730_12345"


class Php:
    """Runs programs with the class of the page, and with ``$queue`` for this test's own queue."""

    def __init__(self, interpreter: str, directory: Path, redis_url: str, prefix: str) -> None:
        self._interpreter = interpreter
        self._directory = directory
        self._address = urlsplit(redis_url)
        self._prefix = prefix
        (directory / "lua").mkdir()
        for name in ("push.lua", "call.lua"):
            shutil.copy(SCRIPTS / name, directory / "lua")
        (directory / "MemoryQueue.php").write_text(CLASS, encoding="utf-8")

    def start_of_the_page(self) -> str:
        """Return the program of the page up to its first push, with the address and the prefix of this test."""
        start, _, _ = PROGRAM.partition("$receipt =")
        return self._here(start)

    def whole_page(self) -> str:
        return self._here(PROGRAM)

    def _here(self, program: str) -> str:
        host, port = self._address.hostname, self._address.port
        assert "'127.0.0.1', 6379," in program
        assert "__DIR__ . '/lua')" in program
        return program.replace("'127.0.0.1', 6379,", f"'{host}', {port},").replace(
            "__DIR__ . '/lua')", f"__DIR__ . '/lua', '{self._prefix}')"
        )

    async def run(self, program: str) -> str:
        """Return what the program prints."""
        path = self._directory / "program.php"
        path.write_text(program, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            self._interpreter, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    async def value(self, expression: str) -> Any:
        """Return the value of an expression; what it throws is returned as class and message."""
        caught = "catch (Exception $error) { echo json_encode([get_class($error), $error->getMessage()]); }"
        found = await self.run(f"{self.start_of_the_page()}\ntry {{ echo json_encode({expression}); }} {caught}")
        return json.loads(found)


@pytest.fixture
def php(tmp_path: Path, redis_url: str, redis_prefix: str) -> Php:
    interpreter = tool("php")
    modules = subprocess.run([interpreter, "-m"], capture_output=True, text=True, check=True).stdout.splitlines()
    if "redis" not in modules:
        pytest.skip("PHP has no phpredis")
    return Php(interpreter, tmp_path, redis_url, redis_prefix)


@pytest.fixture
def wide(settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Make settings for the vectors of the page."""

    def make(**overrides: Any) -> Settings:
        return settings(qdrant_vector_dimension=1024, **overrides)

    return make


UPSERT = f"""['op' => 'upsert', 'user_id' => {USER}, 'point_id' => '{POINT}', 'vector' => MemoryQueue::vector($numbers),
    'payload' => ['value' => 'Mag Züge', 'created' => 1]]"""


async def test_the_program_of_the_page(php: Php, wide: Callable[..., Settings], queue: MemoryQueue) -> None:
    async with running(wide()):
        printed = await php.run(f"{php.whole_page()}\necho json_encode([$receipt, $hits]);")
        receipt, hits = json.loads(printed)
        assert [hit["point_id"] for hit in hits] in ([], [POINT])
        await queue.wait_applied(Receipt.parse(receipt), timeout=20)
        # The purge was pushed last, so it is applied once a later job of the same user is.
        await queue.wait_applied(await queue.delete(user_id=USER, point_id="mem_1730_1"), timeout=20)
        assert not await queue.get(user_id=USER, point_ids=[POINT])


async def test_reads_and_writes(php: Php, wide: Callable[..., Settings], queue: MemoryQueue) -> None:
    async with running(wide()):
        receipt = Receipt.parse(await php.value(f"$queue->push({UPSERT})"))
        await queue.wait_applied(receipt, timeout=20)
        (hit,) = await php.value(
            f"$queue->call(['op' => 'search', 'user_id' => {USER}, 'vector' => MemoryQueue::vector($numbers)])['hits']"
        )
        assert hit["point_id"] == POINT
        assert hit["payload"]["value"] == "Mag Züge"
        wrong, problem = await php.value(f"$queue->call(['op' => 'get', 'user_id' => {USER}, 'point_ids' => []])")
        assert (wrong, problem.partition(":")[0]) == ("RuntimeException", "invalid")


async def test_a_push_with_the_same_token_is_stored_once(php: Php, redis: Redis, keys: Keys) -> None:
    once, again = await php.value(f"[$queue->push({UPSERT}, 'token'), $queue->push({UPSERT}, 'token')]")
    assert once == again
    assert await redis.xlen(keys.stream(Receipt.parse(once).partition)) == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_jobs", 0, "QUEUEFULL jobs 0"),
        ("max_bytes", 100, "QUEUEFULL bytes 100"),
        ("max_job_bytes", 100, "TOOLARGE"),
    ],
)
async def test_a_push_that_is_refused_says_why(
    php: Php, redis: Redis, keys: Keys, field: str, value: int, message: str
) -> None:
    await redis.hset(keys.meta, mapping={"partitions": 4, field: value})
    kind, problem = await php.value(f"$queue->push({UPSERT})")
    assert (kind, problem[: len(message)]) == ("RedisException", message)


async def test_another_number_of_partitions(php: Php, redis: Redis, keys: Keys) -> None:
    program = f"""{php.start_of_the_page()}
    $redis->hSet('{keys.meta}', 'partitions', 16);
    try {{ $queue->push({UPSERT}); }} catch (RedisException $error) {{ echo $error->getMessage(); }}"""
    assert await php.run(program) == "PARTITIONS 16"
    assert not await redis.exists(keys.stream(0))


async def test_no_worker_answers(php: Php) -> None:
    kind, problem = await php.value("$queue->call(['op' => 'info', 'timeout_ms' => 1])")
    assert (kind, problem) == ("RuntimeException", "timeout: no worker answered within 1 ms")
