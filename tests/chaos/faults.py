"""Causes one fault after another, as the seed decides."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter

import grpc

from tests.chaos.fleet import Fleet
from tests.chaos.redis_faults import Fault, faults_of
from tests.integration.proxies import UPDATE, Call, QdrantProxy, Refusal, Rule, failing, lose_reply, unavailable
from tests.servers import EngineServer, RedisServer
from tests.topologies import Topology

PAUSE_S = (0.2, 1.2)


class Faults:
    """Causes faults of workers, Redis and Qdrant, one at a time; ``done`` counts them."""

    def __init__(
        self,
        chance: random.Random,
        fleet: Fleet,
        redis: RedisServer | Topology,
        proxy: QdrantProxy,
        engine: EngineServer | None,
    ) -> None:
        self._chance = chance
        self._fleet = fleet
        self._redis = redis
        self._proxy = proxy
        self._engine = engine
        self.done: Counter[str] = Counter()
        self._current: asyncio.Future[None] | None = None
        self._stopping = False

    async def run(self) -> None:
        """Cause faults until `stop`."""
        faults: list[tuple[Fault, int]] = [
            (self._kill_worker, 6),
            (self._stop_worker, 3),
            (self._terminate_worker, 2),
            *faults_of(self._redis, self._chance),
            (self._qdrant_down, 2),
            (self._qdrant_slow, 2),
            (self._qdrant_drops_replies, 3),
            (self._qdrant_fails_an_operation, 3),
            (self._qdrant_exhausted, 2),
        ]
        if self._engine is not None:
            faults.append((self._kill_engine, 1))
        while not self._stopping:
            fault = self._chance.choices([fault for fault, _ in faults], [weight for _, weight in faults])[0]
            self.done[fault.__name__.strip("_")] += 1
            self._current = asyncio.ensure_future(fault())
            await asyncio.shield(self._current)
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))

    async def stop(self) -> None:
        """Wait for the end of the current fault, and cause no more."""
        self._stopping = True
        if self._current is not None:
            await self._current

    async def _kill_worker(self) -> None:
        await asyncio.to_thread(self._fleet.any(self._chance).kill)

    async def _terminate_worker(self) -> None:
        self._fleet.any(self._chance).process.terminate()

    async def _stop_worker(self) -> None:
        """Stop a worker for a time that is shorter or longer than its lease."""
        process = self._fleet.any(self._chance).process
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.choice((0.3, 2.0, 6.0)))
        process.send_signal(signal.SIGCONT)

    async def _kill_engine(self) -> None:
        assert self._engine is not None
        await asyncio.to_thread(self._engine.kill)
        await asyncio.to_thread(self._engine.start)

    async def _qdrant_down(self) -> None:
        await self._for_a_while(unavailable)

    async def _qdrant_slow(self) -> None:
        delay_s = self._chance.choice((0.5, 1.5, 10.0))

        async def slow(call: Call) -> object:
            await asyncio.sleep(delay_s)
            return await call.forward()

        await self._for_a_while(slow)

    async def _qdrant_drops_replies(self) -> None:
        await self._for_a_while(lose_reply)

    async def _qdrant_fails_an_operation(self) -> None:
        """Apply the first operations of a batch and fail the next."""

        async def fail(call: Call) -> object:
            del call.request.operations[self._chance.randrange(len(call.request.operations)) :]
            if call.request.operations:
                await call.forward()
            raise Refusal(grpc.StatusCode.INTERNAL, "an operation failed")

        await self._for_a_while(fail)

    async def _qdrant_exhausted(self) -> None:
        metadata = self._chance.choice(({}, {"retry_after": "1"}))

        await self._for_a_while(failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "over the limit", **metadata))

    async def _for_a_while(self, rule: Rule) -> None:
        self._proxy.rules[UPDATE] = rule
        await asyncio.sleep(self._chance.choice((0.2, 1.0, 3.0)))
        del self._proxy.rules[UPDATE]
