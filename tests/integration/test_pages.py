"""The pages of a running worker: whether it is alive and ready, why not, and the state of the queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.http import server as server_module
from memory_worker.runtime import process as app_module
from memory_worker.runtime.arq_workers import ReadWorker
from memory_worker.runtime.process import WorkerProcess
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.telemetry import health as health_module
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Events, MakeSettings, running
from tests.integration.jobs import PARTITIONS, axis
from tests.integration.proxies import UPDATE, Hold, QdrantProxy, RedisProxy, failing
from tests.integration.web import PATIENCE_S, Answer, ask

PATHS = ("/livez", "/readyz", "/health", "/metrics")
HEALTH_CHECK = "Qdrant/HealthCheck"
refused = failing(grpc.StatusCode.UNAUTHENTICATED, "a wrong key")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers check their components often, and make a new page for each request."""
    monkeypatch.setattr(app_module, "_WATCH_EVERY_S", 0.05)
    monkeypatch.setattr(app_module, "_STATS_EVERY_S", 0.1)
    monkeypatch.setattr(server_module, "PAGE_LIFE_S", 0.0)


class Page:
    """The pages of a worker."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(ask, self.port, path)

    async def until(self, path: str, met: Callable[[Answer], Any]) -> Answer:
        """Ask for a page until the answer meets a condition."""
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not met(answer := await self.get(path)):  # noqa: ASYNC110  # a page has no signal for a change
                await asyncio.sleep(0.02)
        return answer

    async def ready(self) -> None:
        await self.until("/readyz", lambda answer: answer.status == 200)

    async def unready(self, component: str) -> str:
        """Wait until a component is down; return its reason."""
        answer = await self.until("/readyz", lambda answer: not answer.json()["components"][component]["up"])
        assert answer.status == 503
        reason = answer.json()["components"][component]["reason"]
        assert isinstance(reason, str)
        return reason


@pytest.fixture
def serving(events: Events) -> Callable[..., Any]:
    """Run a worker, and yield its pages once it is ready."""

    @asynccontextmanager
    async def run(settings: Settings, role: str = "all") -> AsyncIterator[Page]:
        async with running(settings, role):
            page = Page(events.of("http")[-1]["port"])
            await page.ready()
            yield page

    return run


class TestReady:
    @pytest.mark.parametrize(
        ("role", "admin_concurrency", "parts"),
        [("ingest", 2, ["ingest"]), ("search", 2, ["search", "admin"]), ("search", 0, ["search"])],
        ids=["ingest", "search", "search without reads of all users"],
    )
    async def test_each_role_has_its_components(
        self, serving: Any, settings: MakeSettings, role: str, admin_concurrency: int, parts: list[str]
    ) -> None:
        async with serving(settings(admin_concurrency=admin_concurrency), role) as page:
            found = (await page.get("/readyz")).json()["components"]
        assert found == {name: {"up": True} for name in ("redis", "qdrant", *parts)}

    async def test_a_worker_is_not_ready_while_qdrant_does_not_answer(
        self, serving: Any, settings: MakeSettings, qdrant_proxy: QdrantProxy
    ) -> None:
        async with serving(settings(qdrant_url=qdrant_proxy.url)) as page:
            qdrant_proxy.rules[HEALTH_CHECK] = refused
            assert "UNAUTHENTICATED: a wrong key" in await page.unready("qdrant")
            assert (await page.get("/livez")).status == 200
            shown = (await page.get("/health")).json()
            assert shown["status"] == "degraded"
            assert "a wrong key" in shown["components"]["qdrant"]["reason"]
            qdrant_proxy.rules.clear()
            await page.ready()

    async def test_a_worker_is_not_ready_while_qdrant_refuses_writes(
        self, serving: Any, settings: MakeSettings, qdrant_proxy: QdrantProxy, queue: MemoryQueue
    ) -> None:
        async with serving(settings(qdrant_url=qdrant_proxy.url)) as page:
            qdrant_proxy.rules[UPDATE] = refused
            receipt = await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0))
            assert "UNAUTHENTICATED: a wrong key" in await page.unready("qdrant")
            qdrant_proxy.rules.clear()
            await queue.wait_applied(receipt)
            await page.ready()

    async def test_a_worker_is_not_ready_while_redis_hangs(
        self, serving: Any, settings: MakeSettings, redis_proxy: RedisProxy
    ) -> None:
        chosen = settings(redis_url=SecretStr(redis_proxy.url), redis_timeout_s=1, rescue_interval_s=0.05)
        async with serving(chosen) as page:
            redis_proxy.hang()
            assert "Redis" in await page.unready("redis")
            assert (await page.get("/livez")).status == 200
            redis_proxy.go_on()
            await page.ready()

    async def test_a_worker_is_not_ready_while_a_role_takes_no_work(
        self, serving: Any, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app_module, "_STALE_S", 0.3)
        chosen = settings(qdrant_timeout_s=0.2, drain_slice_s=0.1, rescue_interval_s=0.05)
        goes_on = asyncio.Event()
        take = ReadWorker._take

        async def stuck(self: ReadWorker, free: int, poll_s: float) -> None:
            await goes_on.wait()
            await take(self, free, poll_s)

        async with serving(chosen) as page:
            monkeypatch.setattr(ReadWorker, "_take", stuck)
            assert "not checked for" in await page.unready("search")
            assert (await page.get("/readyz")).json()["components"]["ingest"] == {"up": True}
            goes_on.set()
            await page.ready()

    async def test_pages_are_served_before_redis_answers(
        self, settings: MakeSettings, redis_proxy: RedisProxy, events: Events
    ) -> None:
        redis_proxy.hang()
        app = WorkerProcess(settings(redis_url=SecretStr(redis_proxy.url)), "all")
        task = asyncio.create_task(app.run())
        [shown] = await events.wait_for("http")
        page = Page(shown["port"])
        assert (await page.get("/livez")).status == 200
        assert await page.unready("redis") == "not checked yet"
        assert (await page.get("/metrics")).status == 200
        redis_proxy.go_on()
        await page.ready()
        app.stop()
        await task

    async def test_a_worker_that_waits_for_qdrant_at_its_start_is_alive(
        self,
        settings: MakeSettings,
        qdrant_proxy: QdrantProxy,
        events: Events,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(health_module, "_BEAT_S", 0.02)
        hold = qdrant_proxy.rules["Collections/Get"] = Hold()
        app = WorkerProcess(settings(qdrant_url=qdrant_proxy.url), "all")
        task = asyncio.create_task(app.run())
        try:
            async with asyncio.timeout(SIGNAL_TIMEOUT_S):
                await hold.reached.wait()
            app._health._now = lambda: time.monotonic() + 100  # it has waited for 100 s
            page = Page(events.of("http")[-1]["port"])
            await page.until("/livez", lambda answer: answer.status == 200)
        finally:
            hold.release()
            app.stop()
            await task


class TestHealth:
    async def test_health_shows_the_queue_and_the_rates(
        self,
        serving: Any,
        settings: MakeSettings,
        queue: MemoryQueue,
        redis: Redis,
        keys: Keys,
        shape: CollectionShape,
    ) -> None:
        async with serving(settings()) as page:
            for number in range(3):
                receipt = await queue.upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(number))
            await queue.wait_applied(receipt)
            await queue.search(user_id=1, vector=axis(0))
            await push(redis, keys, PARTITIONS, [(2, b"\xc1 no job")])
            await push(redis, keys, PARTITIONS, [(0, b"of a newer contract")], version=9)

            def complete(answer: Answer) -> bool:
                shown = answer.json()
                complete_stats = (
                    shown["queue"] and shown["queue"]["dead"] and shown["queue"]["held"] and shown["collections"]
                )
                return bool(complete_stats and shown["rates"]["per_second"]["reads"])

            shown = (await page.until("/health", complete)).json()
            assert (shown["status"], shown["role"]) == ("ok", "all")
            assert all(component == {"up": True} for component in shown["components"].values())
            queued = shown["queue"]
            assert (queued["partitions"], queued["waiting"], queued["dead"], queued["held"]) == (PARTITIONS, 1, 1, 1)
            assert queued["held_needs"] == ["contract version 9"]
            assert queued["waiting_bytes"] == len(b"of a newer contract")
            assert {info["name"] for info in shown["collections"]} == {shape.base("memory"), shape.base("document")}
            rates = shown["rates"]["per_second"]
            assert 0 < rates["applied"] <= 3
            assert 0 < rates["dead"] <= 1

            metrics = (await page.get("/metrics")).body.decode().splitlines()
            assert 'memory_worker_backlog_jobs{partition="0"} 1.0' in metrics
            assert 'memory_worker_component_up{component="qdrant"} 1.0' in metrics
            assert any(line.startswith("memory_worker_info{") and 'role="all"' in line for line in metrics)


class TestBusy:
    async def test_pages_are_served_while_the_event_loop_is_blocked(self, serving: Any, settings: MakeSettings) -> None:
        async with serving(settings()) as page:
            answers: dict[str, Answer] = {}

            def ask_all() -> None:
                answers.update({path: ask(page.port, path) for path in PATHS})

            asking = threading.Thread(target=ask_all)
            asking.start()
            asking.join(PATIENCE_S)  # blocks the event loop, because this is its thread
            assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(PATHS, 200)
