"""Redis behind Sentinel, and in one slot of a cluster: producers and workers follow the primary by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Receipt
from memory_worker.contract.errors import ConfigurationError, QueueUnavailable
from memory_worker.inspection.check import run_checks
from memory_worker.runtime.wiring import connected_queue_and_store
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from tests.integration.conftest import Contents, Events, MakeSettings, running
from tests.integration.jobs import axis
from tests.integration.threaded import Threaded, threaded
from tests.servers import RedisServer, free_port
from tests.tools import tool
from tests.topologies import SERVICE, ClusterTopology, Sentinel, SentinelTopology, Topology, ask

USERS = range(1, 5)
PUSHES = 60
BEGUN = 5
RETRY_S = 0.05
APPLIED_TIMEOUT_S = 20


@pytest.fixture(params=[SentinelTopology, ClusterTopology], ids=["sentinel", "cluster"])
def topology(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Topology]:
    """A Redis that fails over by itself."""
    yield from running_topology(request.param(tmp_path / "redis"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterTopology]:
    """A cluster of three primaries with a replica each."""
    yield from running_topology(ClusterTopology(tmp_path / "redis"))


def running_topology(made: Any) -> Iterator[Any]:
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def on(settings: MakeSettings, topology: Topology) -> Settings:
    """The settings of a worker of this Redis. A replica must have each job."""
    return of(topology, settings)


def of(topology: Topology, settings: MakeSettings) -> Settings:
    return settings(
        redis_url=SecretStr(topology.url),
        queue_prefix=topology.prefix,
        queue_min_replicas=1,
        redis_timeout_s=2,
        lease_ttl_s=4,
        qdrant_timeout_s=2,
        rescue_interval_s=0.5,
    )


class Producer:
    """Pushes new versions of a few points for one user, one after another, until each is stored."""

    def __init__(self, queue: MemoryQueue | Threaded, user_id: int) -> None:
        self._queue = queue
        self._user_id = user_id
        self.receipts: list[Receipt] = []
        self.expected: dict[str, int] = {}
        self.refusals: list[str] = []
        self.begun = asyncio.Event()
        """Is set once some pushes were acknowledged."""

    async def run(self, pushes: int = PUSHES) -> None:
        for number in range(pushes):
            point_id = f"mem_{self._user_id}_{number % 7}"
            await self._push(point_id, number)
            self.expected[point_id] = number
            if number == BEGUN:
                self.begun.set()

    async def _push(self, point_id: str, number: int) -> None:
        while True:
            try:
                self.receipts.append(
                    await self._queue.upsert(
                        user_id=self._user_id, point_id=point_id, vector=axis(0), payload={"key": str(number)}
                    )
                )
                return
            except QueueUnavailable as error:
                self.refusals.append(str(error))
                await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def client(topology: Topology) -> AsyncIterator[MemoryQueue]:
    async with MemoryQueue.connect(topology.url, prefix=topology.prefix, timeout_s=2) as opened:
        yield opened


def blocking_client(topology: Topology) -> AbstractAsyncContextManager[Threaded]:
    return threaded(topology.url, prefix=topology.prefix, timeout_s=2)


async def applied(queue: MemoryQueue, producers: list[Producer]) -> None:
    """Wait until everything that was acknowledged is applied. Requests that fail in a failover are repeated."""
    async with asyncio.timeout(APPLIED_TIMEOUT_S):
        for producer in producers:
            while True:
                try:
                    await queue.wait_applied(producer.receipts[-1], timeout=APPLIED_TIMEOUT_S)
                    break
                except QueueUnavailable:
                    await asyncio.sleep(RETRY_S)


def stored(engine: Contents, shape: CollectionShape) -> dict[str, int]:
    return {point: int(payload["key"]) for point, payload in engine.payloads(shape.base("memory")).items()}


def expected(producers: list[Producer]) -> dict[str, int]:
    return {point: number for producer in producers for point, number in producer.expected.items()}


async def test_nothing_that_was_acknowledged_is_lost_when_the_primary_is_killed(
    topology: Topology, on: Settings, events: Events, engine: Contents, shape: CollectionShape
) -> None:
    async with running(on), client(topology) as queue, blocking_client(topology) as blocking:
        producers = [Producer(blocking if user_id % 2 else queue, user_id) for user_id in USERS]
        async with asyncio.TaskGroup() as pushing:
            for producer in producers:
                pushing.create_task(producer.run())
            await producers[0].begun.wait()
            killed = await asyncio.to_thread(topology.kill_primary)
            # Without a replica of the new primary, nothing may be acknowledged.
            await asyncio.to_thread(topology.return_as_replica, killed)
        await applied(queue, producers)
        assert stored(engine, shape) == expected(producers)
        assert all(producer.refusals for producer in producers)
        assert len(await queue.search(user_id=1, vector=axis(0), timeout=10)) > 0
        before, after, *_ = await events.wait_for("redis_primary", times=2)
        assert before["address"] == after["before"] == f"127.0.0.1:{killed.port}" != after["address"]


async def test_check_names_the_primary_and_its_replicas(topology: Topology, on: Settings) -> None:
    async with connected_queue_and_store(on) as (redis, store):
        found = {one.name: one async for one in run_checks(on, redis, store)}
    seen = f"127.0.0.1:{topology.primary().port}, 1 replica"
    if isinstance(topology, SentinelTopology):
        seen += f", 3 Sentinels of {SERVICE}"
    assert (found["Redis primary"].verdict, found["Redis primary"].seen) == ("ok", seen)
    assert found["Redis Cluster"].verdict == "ok"


async def test_pushes_during_a_migration_of_the_slot_are_refused_or_stored_once(
    cluster: ClusterTopology, settings: MakeSettings, engine: Contents, shape: CollectionShape
) -> None:
    target = cluster.nodes[1]
    async with running(of(cluster, settings)), client(cluster) as queue:
        producers = [Producer(queue, user_id) for user_id in USERS]
        async with asyncio.TaskGroup() as pushing:
            for producer in producers:
                pushing.create_task(producer.run())
            await producers[0].begun.wait()
            await asyncio.to_thread(cluster.migrate, target)
        await applied(queue, producers)
        assert ask(target, "EXISTS", Keys(cluster.prefix).meta) == 1
        assert stored(engine, shape) == expected(producers)
        pushed = [receipt for producer in producers for receipt in producer.receipts]
        assert len(set(pushed)) == len(pushed) == PUSHES * len(USERS)
        refusals = {problem for producer in producers for problem in producer.refusals}
        assert all("being moved" in problem or "another node" in problem for problem in refusals)


async def test_a_plain_url_to_a_node_of_a_cluster_says_what_to_write(cluster: ClusterTopology) -> None:
    advice = r"redis\+cluster://.*hash tag"
    for node, prefix in ((cluster.nodes[1], "{mw}"), (cluster.nodes[0], "mw")):
        async with MemoryQueue.connect(node.url, prefix=prefix) as queue:
            with pytest.raises(QueueUnavailable, match=advice):
                await queue.delete(user_id=1, point_id="mem_1_1")
    async with MemoryQueue.connect(cluster.nodes[0].url, prefix="{mw}") as queue:
        assert await queue.delete(user_id=1, point_id="mem_1_1")
    async with MemoryQueue.connect(cluster.url, prefix="mw") as queue:
        with pytest.raises(ConfigurationError, match=r"QUEUE_PREFIX.*hash tag"):
            await queue.delete(user_id=1, point_id="mem_1_1")


async def test_a_server_that_is_not_the_primary_is_not_used(tmp_path: Path) -> None:
    """A Sentinel that has missed a failover names the old primary, which may be a replica by now."""
    for topology in running_topology(SentinelTopology(tmp_path / "redis")):
        for sentinel in topology.sentinels:
            ask(sentinel, "SENTINEL", "REMOVE", SERVICE)
            ask(sentinel, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", topology.nodes[1].port, "3")
        async with MemoryQueue.connect(topology.url) as queue:
            with pytest.raises(QueueUnavailable, match="is no longer the primary"):
                await queue.delete(user_id=1, point_id="mem_1_1")
        async with MemoryQueue.connect(topology.url.replace(SERVICE, "other")) as queue:
            with pytest.raises(ConfigurationError, match="no Sentinel knows the service other"):
                await queue.delete(user_id=1, point_id="mem_1_1")


async def test_tls_and_separate_logins_for_sentinels_and_redis(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    tls = {f"tls-{name}-file": tmp_path / "server.pem" for name in ("cert", "key")}
    tls |= {"tls-ca-cert-file": tmp_path / "ca.pem"}
    program = tool("redis-server")  # Valkey's wheel has no TLS
    redis = RedisServer(tmp_path / "redis", program=program)
    options = {**tls, "tls-port": free_port(), "tls-auth-clients": "no", "requirepass": "of-redis"}
    redis.start(*(part for name, value in options.items() for part in (f"--{name}", str(value))))
    port = free_port()
    sentinel = Sentinel(
        tmp_path / "sentinel",
        int(str(options["tls-port"])),
        *(f"{name} {value}" for name, value in tls.items()),
        *(f"tls-port {port}", "tls-auth-clients no", "tls-replication yes", f"sentinel auth-pass {SERVICE} of-redis"),
        *("user default off", "user queue on >of-sentinel -@all +sentinel|get-master-addr-by-name"),
        program=program,
    )
    sentinel.start()
    try:
        url = f"rediss+sentinel://:of-redis@127.0.0.1:{port}/{SERVICE}"
        login = "?sentinel_username=queue&sentinel_password=of-sentinel"
        async with MemoryQueue.connect(f"{url}{login}", tls_ca_file=tmp_path / "ca.pem") as queue:
            assert await queue.delete(user_id=1, point_id="mem_1_1")
        async with MemoryQueue.connect(url, tls_ca_file=tmp_path / "ca.pem") as queue:
            with pytest.raises(QueueUnavailable, match=r"no Sentinel knows the primary .*uthentication required"):
                await queue.delete(user_id=1, point_id="mem_1_1")
        async with MemoryQueue.connect(f"{url}{login}") as queue:
            with pytest.raises(QueueUnavailable, match="certificate verify failed"):
                await queue.delete(user_id=1, point_id="mem_1_1")
    finally:
        sentinel.close()
        redis.close()
