"""The blocking client: with a worker, in threads, after forks, at its deadlines, and after interruptions."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker import (
    Delete,
    NotApplied,
    PushedInPart,
    QueueFull,
    QueueUnavailable,
    ReadFailed,
    Receipt,
    SyncAdminQueue,
    SyncMemoryQueue,
)
from memory_worker.queue.partitions import publish_meta
from memory_worker.settings import Settings
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration import test_client
from tests.integration.conftest import SIGNAL_TIMEOUT_S, connected, running
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.proxies import RedisProxy
from tests.integration.test_failover import address, promote, until_blocked  # noqa: F401  # a fixture
from tests.integration.test_tls import Certificates, Serve, ours, serve_redis  # noqa: F401  # fixtures
from tests.integration.threaded import Threaded, threaded
from tests.servers import RedisServer

TIMEOUT_S = 1.0


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[Threaded]:
    """A blocking client of the test's queue."""
    async with threaded(redis_url, prefix=redis_prefix) as opened:
        yield opened


@pytest.fixture
def blocking(redis_url: str, redis_prefix: str) -> Any:
    """The same, without asyncio."""
    with SyncMemoryQueue.connect(redis_url, prefix=redis_prefix) as opened:
        yield opened


class TestEndToEnd(test_client.TestEndToEnd):
    """The tests of the asyncio client, with the blocking client."""


def delete(queue: Any, user_id: int) -> Any:
    return queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1")


async def stored(redis: Redis, keys: Keys) -> Counter[str]:
    """Return how often each receipt is in the streams."""
    streams = [await redis.xrange(keys.stream(partition)) for partition in range(PARTITIONS)]
    return Counter(
        f"{partition}/{entry_id.decode()}" for partition, entries in enumerate(streams) for entry_id, _ in entries
    )


@pytest.fixture
async def published(redis: Redis, keys: Keys) -> QueueMeta:
    meta = QueueMeta(partitions=PARTITIONS, limits=LIMITS)
    await publish_meta(redis, keys, meta)
    return meta


class TestThreads:
    async def test_pushes_of_many_threads_are_stored_once_and_in_the_order_of_each(
        self, published: QueueMeta, blocking: SyncMemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        def work(user_id: int) -> list[Receipt]:
            return [delete(blocking, user_id) for _ in range(100)]

        def run() -> list[list[Receipt]]:
            with ThreadPoolExecutor(8) as threads:
                return list(threads.map(work, range(1, 9)))

        of_threads = await asyncio.to_thread(run)
        for receipts in of_threads:
            ids = [tuple(map(int, receipt.entry_id.split("-"))) for receipt in receipts]
            assert ids == sorted(set(ids))
        expected = Counter(str(receipt) for receipts in of_threads for receipt in receipts)
        assert await stored(redis, keys) == expected

    async def test_many_threads_share_a_few_connections(self, own_redis: RedisServer) -> None:
        async with threaded(own_redis.url, threads=200, max_connections=8, timeout_s=60) as queue:
            receipt = await delete(queue, 1)
            found = await asyncio.gather(
                *(delete(queue, user_id) for user_id in range(1, 500)),
                *(queue.wait_applied(receipt, timeout=TIMEOUT_S) for _ in range(40)),
                return_exceptions=True,
            )
        assert Counter(map(type, found))[Receipt] == 499
        assert {type(one) for one in found} - {Receipt} <= {NotApplied, QueueUnavailable}

    async def test_a_redis_with_few_connections_serves_many_threads(self, own_redis: RedisServer) -> None:
        async with threaded(own_redis.url, threads=100, timeout_s=60) as queue:
            await delete(queue, 1)
            async with connected(own_redis.url) as redis:
                await redis.config_set("maxclients", 10)
            await asyncio.gather(*(delete(queue, user_id) for user_id in range(1, 1000)))


FORKING = """
import os, sys, threading
from memory_worker import SyncMemoryQueue

url, prefix, children, pushes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
queue = SyncMemoryQueue.connect(url, prefix=prefix)

def push(user_id):
    for _ in range(pushes):
        receipt = queue.delete(user_id=user_id, point_id=f"mem_{user_id}_1")
        os.write(1, f"{receipt}\\n".encode())

push(1)
busy = threading.Thread(target=push, args=(2,))  # pushes while the process forks
busy.start()
pids = []
for child in range(children):
    pid = os.fork()
    if not pid:
        push(10 + child)
        os._exit(0)
    pids.append(pid)
push(3)
busy.join()
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
push(4)
"""


async def test_children_push_beside_their_parent(
    published: QueueMeta, redis: Redis, redis_url: str, keys: Keys, tmp_path: Any
) -> None:
    """The client was used before the forks, and is in use during them."""
    children, pushes = 4, 100
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", FORKING),
        *(redis_url, keys.prefix, str(children), str(pushes)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    receipts = Counter(printed.decode().split())
    assert sum(receipts.values()) == (4 + children) * pushes
    assert await stored(redis, keys) == receipts


REQUESTS: dict[str, Callable[[SyncMemoryQueue], Any]] = {
    "push": lambda queue: delete(queue, 1),
    "search": lambda queue: queue.search(user_id=1, vector=axis(0), timeout=TIMEOUT_S),
    "wait": lambda queue: queue.wait_applied(Receipt(0, f"{int(time.time() * 1000) + 60_000}-0"), timeout=TIMEOUT_S),
    "outcomes": lambda queue: queue.outcomes(timeout=TIMEOUT_S),
}


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_request_ends_at_its_deadline_if_redis_hangs(own_redis: RedisServer, request_: Any, warm: bool) -> None:
    with SyncMemoryQueue.connect(own_redis.url, timeout_s=TIMEOUT_S) as queue:
        if warm:
            delete(queue, 1)
        own_redis.freeze()
        started = time.monotonic()
        with pytest.raises(QueueUnavailable):
            request_(queue)
        assert time.monotonic() - started < TIMEOUT_S * 2 + 2
        own_redis.thaw()
        delete(queue, 1)


async def test_a_reply_that_arrives_in_drops_is_given_up_at_the_deadline(own_redis: RedisServer) -> None:
    """The deadline is one of the whole request, and not one of each read from the socket."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        closed.set()

    closed = asyncio.Event()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, threaded(f"redis://{host}:{port}", timeout_s=TIMEOUT_S) as queue:
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            with pytest.raises(QueueUnavailable):
                await delete(queue, 1)
        await queue.close()
        await closed.wait()


def test_all_addresses_of_a_host_share_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue of connections is full, so that the next one waits
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", full.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found * 6)
        started = time.monotonic()
        with SyncMemoryQueue.connect("redis://several", timeout_s=TIMEOUT_S) as queue, pytest.raises(QueueUnavailable):
            delete(queue, 1)
        assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S * 3


class TestFailover:
    async def test_pushes_go_to_the_new_primary_after_one_error(
        self,
        own_redis: RedisServer,
        replica: RedisServer,
        address: RedisProxy,  # noqa: F811
    ) -> None:
        async with threaded(address.url) as queue:
            await asyncio.gather(*(delete(queue, user_id) for user_id in range(1, 64)))
            await promote(own_redis, replica, address)
            with pytest.raises(QueueUnavailable, match=r"(?i)read.only"):
                await delete(queue, 1)
            assert [await delete(queue, user_id) for user_id in range(1, 20)]

    async def test_a_search_that_waits_at_the_old_primary_fails(
        self,
        own_redis: RedisServer,
        replica: RedisServer,
        address: RedisProxy,  # noqa: F811
    ) -> None:
        async with threaded(address.url) as queue:
            async with until_blocked(own_redis):
                searching = asyncio.create_task(queue.search(user_id=1, vector=axis(0), timeout=SIGNAL_TIMEOUT_S))
            await promote(own_redis, replica, address)
            with pytest.raises(QueueUnavailable, match="UNBLOCKED"):
                await searching


async def test_a_broken_connection_is_opened_again(
    published: QueueMeta, redis_proxy: RedisProxy, redis: Redis, keys: Keys
) -> None:
    """A push whose reply was lost is stored once."""
    async with threaded(redis_proxy.url, prefix=keys.prefix) as queue:
        await delete(queue, 1)
        redis_proxy.lose_reply_to(b"EVALSHA")
        receipt = await delete(queue, 1)
        redis_proxy.cut()
        receipts = [receipt, await delete(queue, 1)]
    assert set(map(str, receipts)) < (await stored(redis, keys)).keys()
    assert sum((await stored(redis, keys)).values()) == 3


async def test_a_client_reconnects_with_tls(ours: Certificates, serve_redis: Serve, redis_prefix: str) -> None:  # noqa: F811
    redis = await serve_redis(ours.server_context("127.0.0.1"))
    async with threaded(redis.url, prefix=redis_prefix, tls_ca_file=ours.ca_file) as queue:
        for _ in range(3):
            await delete(queue, 1)
            redis.cut()
    async with threaded(redis.url, prefix=redis_prefix) as queue:
        with pytest.raises(QueueUnavailable, match="certificate"):
            await delete(queue, 1)


def test_a_unix_socket(tmp_path: Any) -> None:
    server = RedisServer(tmp_path / "redis", "--unixsocket", str(tmp_path / "socket"))
    server.start()
    try:
        with SyncMemoryQueue.connect(f"unix://{tmp_path}/socket") as queue:
            assert delete(queue, 1)
    finally:
        server.kill()


async def test_a_closed_client_can_be_used_again(own_redis: RedisServer) -> None:
    async with threaded(own_redis.url) as queue:
        await delete(queue, 1)
        waiting = asyncio.create_task(queue.wait_applied(await delete(queue, 1), timeout=TIMEOUT_S))
        await queue.close()
        with pytest.raises(NotApplied):
            await waiting
        await delete(queue, 1)
    async with connected(own_redis.url) as redis:
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while len(await redis.client_list()) > 1:  # only our own is left
                pass


async def test_the_errors_are_those_of_the_asyncio_client(redis: Redis, keys: Keys, queue: Threaded) -> None:
    await redis.hset(keys.meta, mapping={"partitions": PARTITIONS, "max_jobs": 300})
    with pytest.raises(PushedInPart) as caught:
        await queue.push_many([Delete(user_id=1, point_ids=["mem_1_1"])] * 400)
    assert len(caught.value.stored) == 256
    assert isinstance(caught.value.__cause__, QueueFull)
    with pytest.raises(ReadFailed, match="no worker answered"):
        await queue.search(user_id=1, vector=axis(0), timeout=0.1)


async def test_reads_of_all_users(settings: Callable[..., Settings], redis_url: str, redis_prefix: str) -> None:
    async with running(settings()):
        async with threaded(redis_url, prefix=redis_prefix) as queue:
            for user_id in (1, 2):
                point_id = f"mem_{user_id}_1"
                receipt = await queue.upsert(user_id=user_id, point_id=point_id, vector=axis(0))
                await queue.wait_applied(receipt)
        with SyncAdminQueue.connect(redis_url, prefix=redis_prefix) as admin:
            assert await asyncio.to_thread(admin.count) == 2
            page = await asyncio.to_thread(admin.list)
            assert {point.payload["user_id"] for point in page.points} == {1, 2}
