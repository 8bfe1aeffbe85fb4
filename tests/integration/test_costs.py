"""What the fast paths cost, in counts that are the same on every machine: round trips, requests, bytecode.

A count that has grown is a regression to be explained, not a number to be raised.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import CONTRACT_VERSION, Upsert, encode_job
from memory_worker.ingest.decoding import decode_and_validate
from memory_worker.ingest.plan import plan
from memory_worker.queue.log import Entry
from memory_worker.settings import Settings
from memory_worker.store.messages import update_batch
from memory_worker.wire.keys import Keys
from tests.instructions import instructions
from tests.integration.conftest import running
from tests.integration.jobs import LIMITS, axis
from tests.integration.proxies import QdrantProxy, RedisProxy

UPDATE = "Points/UpdateBatch"
WRITES = 1000
BATCH = 256
INSTRUCTIONS_A_JOB = 1300  # 1,080 with Python 3.11
MakeSettings = Callable[..., Settings]

BEATS = 2  # one at the start, one for each second that it takes
OF_THE_CARETAKER = {"TIME", "SET", "HGETALL", "GET", "INFO", "HGET", "ZCARD", "PSETEX"}


async def test_a_push_and_a_search_are_two_and_three_round_trips(
    settings: MakeSettings, redis_proxy: RedisProxy, queue: MemoryQueue, keys: Keys
) -> None:
    """The app: one command to push, two to search. The worker: wait at the bell, take, reply."""
    async with running(settings(), role="all"):
        await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
        await queue.search(user_id=1, vector=axis(0))
        async with MemoryQueue.connect(redis_proxy.url, prefix=keys.prefix) as watched:
            await watched.upsert(user_id=1, point_id="mem_1_2", vector=axis(0))
            await watched.search(user_id=1, vector=axis(0))
            redis_proxy.words()
            await watched.upsert(user_id=1, point_id="mem_1_3", vector=axis(0))
            assert redis_proxy.words() == ["EVALSHA"]
            await watched.search(user_id=1, vector=axis(0))
            assert redis_proxy.words() == ["EVALSHA", "BLPOP"]


async def test_the_searching_worker_needs_one_command_to_take_and_one_to_reply(
    settings: MakeSettings, redis_proxy: RedisProxy, queue: MemoryQueue
) -> None:
    chosen = settings(redis_url=SecretStr(redis_proxy.url), search_poll_ms=1000, rescue_interval_s=60)
    async with running(chosen, role="search"):
        await queue.search(user_id=1, vector=axis(0))
        await asyncio.sleep(0)
        redis_proxy.words()
        for _ in range(20):
            await queue.search(user_id=1, vector=axis(0))
        words = Counter(redis_proxy.words())
    # The stats collector may run at the same time. These are the requests of the searches.
    assert 40 <= words["EVALSHA"] <= 45
    assert words["BLPOP"] <= 45
    assert words.keys() <= {"EVALSHA", "BLPOP"} | OF_THE_CARETAKER


async def test_requests_to_qdrant_for_a_thousand_writes(
    settings: MakeSettings, qdrant_proxy: QdrantProxy, queue: MemoryQueue
) -> None:
    partitions = 2
    chosen = settings(qdrant_url=qdrant_proxy.url, queue_partitions=partitions, batch_max_jobs=BATCH)
    async with running(chosen, role="search"):  # fixes the partitions
        points = [{"user_id": 1 + n, "point_id": f"mem_{1 + n}_1", "vector": axis(n)} for n in range(WRITES)]
        receipts = await queue.upsert_many(points)
    async with running(chosen, role="ingest"):
        for receipt in {receipt.partition: receipt for receipt in receipts}.values():
            await queue.wait_applied(receipt, timeout=20)
    least = sum(-(-sum(receipt.partition == part for receipt in receipts) // BATCH) for part in range(partitions))
    assert qdrant_proxy.calls.count(UPDATE) == least


async def test_small_writes_of_many_partitions_are_one_request(
    settings: MakeSettings, qdrant_proxy: QdrantProxy, redis_proxy: RedisProxy, queue: MemoryQueue
) -> None:
    partitions, users = 16, 40
    chosen = settings(
        qdrant_url=qdrant_proxy.url,
        redis_url=SecretStr(redis_proxy.url),
        queue_partitions=partitions,
        worker_poll_ms=1000,
        rescue_interval_s=60,
    )
    async with running(chosen, role="search"):  # fixes the partitions
        points = [{"user_id": user, "point_id": f"mem_{user}_1", "vector": axis(user)} for user in range(1, users + 1)]
        receipts = await queue.upsert_many(points)
    touched = {receipt.partition: receipt for receipt in receipts}
    assert len(touched) > partitions // 2
    redis_proxy.words()
    async with running(chosen, role="ingest"):
        for receipt in touched.values():
            await queue.wait_applied(receipt, timeout=20)
    assert qdrant_proxy.calls.count(UPDATE) == 1
    # Claim, open, commit and finish, for all partitions at once; the others are those of a worker that starts.
    assert Counter(redis_proxy.words())["EVALSHA"] <= 4 + 5 + BEATS


async def test_redis_commands_for_a_thousand_writes(
    settings: MakeSettings, redis_proxy: RedisProxy, redis: Redis, keys: Keys, queue: MemoryQueue
) -> None:
    async with running(settings(queue_partitions=1), role="search"):
        points = [{"user_id": 1 + n, "point_id": f"mem_{1 + n}_1", "vector": axis(n)} for n in range(WRITES)]
        last = (await queue.upsert_many(points))[-1]
    chosen = settings(
        redis_url=SecretStr(redis_proxy.url), queue_partitions=1, batch_max_jobs=BATCH, worker_poll_ms=1000
    )
    async with running(chosen, role="ingest"):
        await queue.wait_applied(last, timeout=20)
        words = Counter(redis_proxy.words())
    # Lease, four batches read and committed, and the start of maintenance and of the stats collector.
    assert words["EVALSHA"] <= 30


def test_instructions_for_each_job_from_its_bytes_to_the_request() -> None:
    entries = [Entry(f"1-{number}", CONTRACT_VERSION, _body(number), 1) for number in range(BATCH)]

    def to_request() -> None:
        batch = decode_and_validate(entries, LIMITS, partition=0, partitions=1)
        assert len(batch.jobs) == BATCH
        for step in plan([job for _, job in batch.jobs]):
            update_batch("c", step.operations)

    to_request()  # what is made once and kept is not counted
    assert instructions(to_request) / BATCH <= INSTRUCTIONS_A_JOB


def _body(number: int) -> bytes:
    payload = {"category": "personal", "key": "seat", "value": "Prefers window seats", "source": "chat", "created": 1}
    return encode_job(Upsert(user_id=1 + number, point_id=f"mem_{1 + number}_1", vector=axis(number), payload=payload))
