"""Every request of the client keeps its deadline, waits while there is time, and raises a documented error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import hiredis
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.contract.errors import ConfigurationError, NotApplied, QueueUnavailable
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.connection import open_redis, queue_errors
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration.conftest import SIGNAL_TIMEOUT_S, MakeSettings, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.servers import RedisServer

TIMEOUT_S = 1.0
KEYS = Keys()


@pytest.fixture
async def redis(own_redis: RedisServer) -> AsyncIterator[Redis]:
    async with connected(own_redis.url) as opened:
        await publish_meta(opened, KEYS, QueueMeta(partitions=PARTITIONS, limits=LIMITS))
        yield opened


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Run a server that answers every request with ``answer``; return its URL."""
    served: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(cast("asyncio.Task[Any]", asyncio.current_task()))
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                while parser.gets() is not False:
                    writer.write(answer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await asyncio.gather(*served, return_exceptions=True)
    await server.wait_closed()


REQUESTS: dict[str, Callable[[MemoryQueue], Any]] = {
    "push": lambda queue: queue.delete(user_id=1, point_id="mem_1_1"),
    "search": lambda queue: queue.search(user_id=1, vector=axis(0), timeout=TIMEOUT_S),
    "info": lambda queue: queue.info(timeout=TIMEOUT_S),
    "wait": lambda queue: queue.wait_applied(Receipt(0, f"{int(time.time() * 1000) + 60_000}-0"), timeout=TIMEOUT_S),
}


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_ends_at_its_deadline_if_redis_hangs(
    own_redis: RedisServer, redis: Redis, request_: Any, warm: bool
) -> None:
    """A push has the timeout of the client. Reads and waits have their own, even if that of the client is longer."""
    timeout_s = TIMEOUT_S if request_ is REQUESTS["push"] else 1000
    async with MemoryQueue.connect(own_redis.url, timeout_s=timeout_s) as queue:
        if warm:
            await queue.delete(user_id=1, point_id="mem_1_1")
        own_redis.freeze()
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            with pytest.raises(QueueUnavailable):
                await request_(queue)
        own_redis.thaw()


async def test_a_search_ends_at_its_deadline_if_redis_begins_to_hang(own_redis: RedisServer, redis: Redis) -> None:
    async with MemoryQueue.connect(own_redis.url, timeout_s=1000) as queue:
        searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=TIMEOUT_S))
        while not await redis.zcard(KEYS.search_queue):
            pass
        own_redis.freeze()
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            with pytest.raises(QueueUnavailable):
                await searching
        own_redis.thaw()


class TestManyRequests:
    async def test_many_searches_share_a_few_connections(
        self, settings: MakeSettings, own_redis: RedisServer, redis: Redis
    ) -> None:
        chosen = settings(redis_url=SecretStr(own_redis.url), queue_prefix="mw")
        async with running(chosen), MemoryQueue.connect(own_redis.url, max_connections=50) as queue:
            found = await asyncio.gather(
                *(queue.search(user_id=user, vector=axis(0), timeout=60) for user in range(1, 1201))
            )
            clients = await redis.client_list()
            assert len([client for client in clients if client["cmd"] in ("blpop", "evalsha")]) <= 50 + 10
        assert found == [[]] * 1200

    async def test_many_pushes_and_waits_share_a_few_connections(
        self, settings: MakeSettings, own_redis: RedisServer, redis: Redis
    ) -> None:
        chosen = settings(redis_url=SecretStr(own_redis.url), queue_prefix="mw")
        async with running(chosen), MemoryQueue.connect(own_redis.url, max_connections=20, timeout_s=60) as queue:

            async def write(user: int) -> None:
                receipt = await queue.delete(user_id=user, point_id=f"mem_{user}_1")
                await queue.wait_applied(receipt, timeout=60)

            await asyncio.gather(*map(write, range(1, 1201)))

    async def test_a_wait_without_a_free_connection_fails_at_its_deadline(
        self, own_redis: RedisServer, redis: Redis
    ) -> None:
        async with MemoryQueue.connect(own_redis.url, max_connections=4) as queue:
            receipt = await queue.delete(user_id=1, point_id="mem_1_1")
            found = await asyncio.gather(
                *(queue.wait_applied(receipt, timeout=TIMEOUT_S) for _ in range(20)), return_exceptions=True
            )
            assert {type(error) for error in found} == {NotApplied, QueueUnavailable}
            await queue.delete(user_id=1, point_id="mem_1_1")  # pushes have their own connections

    async def test_cancelled_waits_free_their_connections(self, own_redis: RedisServer, redis: Redis) -> None:
        async with MemoryQueue.connect(own_redis.url, max_connections=4) as queue:
            receipt = await queue.delete(user_id=1, point_id="mem_1_1")
            for _ in range(3):
                waiting = [asyncio.create_task(queue.wait_applied(receipt, timeout=30)) for _ in range(20)]
                while len([client for client in await redis.client_list() if client["cmd"] == "xread"]) < 3:
                    pass
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            with pytest.raises(NotApplied, match="not applied within"):
                await queue.wait_applied(receipt, timeout=0.1)

    async def test_a_redis_with_few_connections_serves_many_pushes(self, own_redis: RedisServer, redis: Redis) -> None:
        await redis.config_set("maxclients", 10)
        async with MemoryQueue.connect(own_redis.url, timeout_s=60) as queue:
            await asyncio.gather(*(queue.delete(user_id=user, point_id=f"mem_{user}_1") for user in range(1, 2000)))

    def test_a_process_with_few_open_files_serves_many_pushes(self, own_redis: RedisServer) -> None:
        script = f"""
import asyncio, os, resource
from memory_worker.client import MemoryQueue
from memory_worker.contract.errors import QueueUnavailable

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    async with MemoryQueue.connect({own_redis.url!r}, timeout_s=60) as queue:
        await asyncio.gather(*(queue.delete(user_id=n, point_id=f"mem_{{n}}_1") for n in range(1, 2000)))
    files = []
    async with MemoryQueue.connect({own_redis.url!r}) as queue:
        try:
            while True:
                files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for request in (queue.delete(user_id=1, point_id="mem_1_1"), queue.search(user_id=1, vector=[1.0])):
            try:
                await request
            except QueueUnavailable as error:
                print(error)
        for file in files:
            os.close(file)
        await queue.delete(user_id=1, point_id="mem_1_1")

asyncio.run(main())
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.count("Too many open files") == 2

    @pytest.mark.parametrize("few", [-1, 0, 1])
    async def test_too_few_connections_are_refused(self, few: int) -> None:
        with pytest.raises(ConfigurationError, match="max_connections: must be at least 2"):
            MemoryQueue.connect("redis://localhost", max_connections=few)


class TestErrors:
    """Any error of Redis is raised as an error of the documented tree."""

    async def test_a_busy_redis_is_unavailable(self, own_redis: RedisServer, redis: Redis) -> None:
        await redis.config_set("lua-time-limit", 1)
        async with MemoryQueue.connect(own_redis.url) as queue, connected(own_redis.url, timeout_s=60) as other:
            await queue.delete(user_id=1, point_id="mem_1_1")
            endless = asyncio.create_task(other.execute_command("EVAL", "while true do end", 0))
            busy = None
            while busy is None:
                try:
                    await queue.delete(user_id=1, point_id="mem_1_1")
                except QueueUnavailable as error:
                    busy = error
            assert "BUSY" in str(busy)
            await redis.script_kill()
            await asyncio.gather(endless, return_exceptions=True)

    async def test_a_password_that_was_changed_is_unavailable(self, own_redis: RedisServer, redis: Redis) -> None:
        async with MemoryQueue.connect(own_redis.url) as queue:
            await queue.delete(user_id=1, point_id="mem_1_1")
            await redis.config_set("requirepass", "secret")
            for client in await redis.client_list():
                if client["lib-name"] == "redis-py":
                    await redis.client_kill_filter(_id=client["id"], skipme=True)
            with pytest.raises(QueueUnavailable, match=r"(?i)authentication"):
                await queue.delete(user_id=1, point_id="mem_1_1")
        async with MemoryQueue.connect(own_redis.url, password="wrong") as queue:
            with pytest.raises(QueueUnavailable, match="invalid username-password"):
                await queue.search(user_id=1, vector=axis(0))

    @pytest.mark.parametrize(
        "answer",
        [
            "ASK 5 127.0.0.1:7001",
            "BUSY Redis is busy running a script.",
            "CLUSTERDOWN Hash slot not served",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "DENIED Redis is running in protected mode",
            "ERR max number of clients reached",
            "EXECABORT Transaction discarded because of previous errors.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down",
            "MISCONF Redis is configured to save RDB snapshots",
            "MOVED 5 127.0.0.1:7001",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions",
            "NOREPLICAS Not enough good replicas to write.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "REDIRECT 127.0.0.1:7001",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "UNBLOCKED force unblock from blocking operation",
            "WRONGPASS invalid username-password pair",
        ],
        ids=lambda answer: answer.split()[0],
    )
    async def test_an_error_that_may_pass_is_unavailable(self, answer: str) -> None:
        async with answering(b"-" + answer.encode() + b"\r\n") as url, MemoryQueue.connect(url, timeout_s=2) as queue:
            for request in REQUESTS.values():
                with pytest.raises(QueueUnavailable):
                    await request(queue)

    async def test_a_server_that_is_not_a_redis_is_unavailable(self) -> None:
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        async with answering(answer) as url, MemoryQueue.connect(url, timeout_s=1) as queue:
            for request in REQUESTS.values():
                with pytest.raises(QueueUnavailable):
                    await request(queue)


async def test_a_server_that_takes_no_more_data_is_unavailable(own_redis: RedisServer) -> None:
    async with connected(own_redis.url, timeout_s=1) as redis, connected(own_redis.url, timeout_s=60) as other:
        await redis.ping()
        own_redis.freeze()
        with pytest.raises(QueueUnavailable, match="takes no more data"), queue_errors():
            await redis.set("x", b"x" * 64_000_000)  # more than the buffers of the system take
        own_redis.thaw()
        while not await other.exists("x"):  # the rest is sent before the connection is closed
            pass


def test_a_request_waits_for_a_free_connection_as_long_as_for_a_reply() -> None:
    async def wait() -> None:
        redis = open_redis("redis://127.0.0.1:1", timeout_s=0.05, max_connections=1)
        pool = redis.connection_pool
        pool._in_use_connections.add(pool.make_connection())
        with pytest.raises(QueueUnavailable, match=r"no connection became free within 0\.05 s"):
            await publish_meta(redis, KEYS, QueueMeta())

    asyncio.run(wait())
