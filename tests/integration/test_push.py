"""Push: what one round trip stores, and that it stores all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.client.producer import PUSH_MAX_JOBS
from memory_worker.contract import CONTRACT_VERSION, Upsert
from memory_worker.contract.errors import PartitionMismatch, PushedInPart, QueueFull, QueueUnavailable
from memory_worker.embedded.engines import start_valkey
from memory_worker.queue.log import DeadEntry, JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, connected
from tests.integration.jobs import LIMITS, PARTITIONS, axis
from tests.integration.leases import acquire_lease, commit, give_back, reading
from tests.integration.proxies import RedisProxy
from tests.tools import arq_client

DAY_MS = 24 * 3600 * 1000


async def drain_all(redis: Redis, keys: Keys, partition: int) -> None:
    """Remove all entries of a partition, as a drain would."""
    lease = await acquire_lease(redis, keys, partition, ttl_s=8, partitions=PARTITIONS)
    assert lease is not None
    log = JobLog(redis, keys, reading(keys))
    await commit(log, lease, await log.read(lease, max_jobs=1000, max_bytes=2**30))
    await give_back(redis, keys, lease)


async def test_one_round_trip_whatever_it_stores(watched: Redis, redis_proxy: RedisProxy, keys: Keys) -> None:
    await push(watched, keys, PARTITIONS, [(0, b"loads the script, if need be")])
    redis_proxy.words()
    await push(watched, keys, PARTITIONS, [(0, b"one")])
    assert redis_proxy.words() == ["EVALSHA"]
    await push(watched, keys, PARTITIONS, [(number % PARTITIONS, b"many") for number in range(256)])
    assert redis_proxy.words() == ["EVALSHA"]


async def test_a_redis_that_has_lost_its_scripts_gets_them_again(tmp_path: Path, keys: Keys) -> None:
    """A Redis of its own: all of its scripts are lost."""
    with start_valkey(tmp_path) as valkey:
        async with RedisProxy(valkey.url) as proxy, connected(proxy.url) as redis:
            await push(redis, keys, PARTITIONS, [(0, b"loads the script")])
            await redis.script_flush()
            proxy.words()
            await push(redis, keys, PARTITIONS, [(0, b"a")])
            await push(redis, keys, PARTITIONS, [(0, b"b")])
            assert proxy.words() == ["EVALSHA", "EVAL", "EVALSHA"]
            assert await redis.xlen(keys.stream(0)) == 3


async def test_receipts_name_the_entries_in_the_order_of_the_jobs(redis: Redis, keys: Keys) -> None:
    receipts = await push(redis, keys, PARTITIONS, [(2, b"a"), (0, b"b"), (2, b"c")])
    receipts += await push(redis, keys, PARTITIONS, [(2, b"d")])

    assert [receipt.partition for receipt in receipts] == [2, 0, 2, 2]
    version = str(CONTRACT_VERSION).encode()
    assert await redis.xrange(keys.stream(2)) == [
        (receipts[at].entry_id.encode(), {b"v": version, b"j": body}) for at, body in ((0, b"a"), (2, b"c"), (3, b"d"))
    ]
    assert await redis.xrange(keys.stream(0)) == [(receipts[1].entry_id.encode(), {b"v": version, b"j": b"b"})]
    assert await redis.hgetall(keys.backlog) == {b"jobs": b"4", b"bytes": b"4"}


async def test_the_doorbell_is_what_arq_itself_would_write(redis: Redis, keys: Keys) -> None:
    partition, arqs = 3, Keys(f"{keys.prefix}-arq")
    await push(redis, keys, PARTITIONS, [(partition, b"x")], token="a")
    job = await arq_client(redis).enqueue_job(
        "drain", partition, _job_id=arqs.drain_job_id(partition), _queue_name=arqs.drain_queue
    )
    assert job is not None

    async def written(own: Keys) -> dict[str, bytes]:
        found = [key.decode() async for key in redis.scan_iter(match=f"*{own.prefix}:*", count=1_000)]
        ours = {own.meta, own.backlog, own.stream(partition), own.drain_wakeup, own.since, own.pushed("a")}
        return {key.replace(own.prefix, "*"): await redis.type(key) for key in found if key not in ours}

    assert await written(keys) == await written(arqs) == {"*:drain": b"zset", "arq:job:*:drain:3": b"string"}

    def record(body: bytes | None) -> dict[str, object]:
        assert body is not None
        return {name: value for name, value in decode_arq(body).items() if name != "et"}

    own_job, arq_job = keys.arq_job(keys.drain_job_id(partition)), arqs.arq_job(arqs.drain_job_id(partition))
    assert record(await redis.get(own_job)) == record(await redis.get(arq_job))
    assert await redis.pttl(own_job) == pytest.approx(await redis.pttl(arq_job), abs=10_000)
    assert await redis.pttl(own_job) == pytest.approx(DAY_MS, abs=60_000)
    [(own_id, own_score)] = await redis.zrange(keys.drain_queue, 0, -1, withscores=True)
    [(_, arq_score)] = await redis.zrange(arqs.drain_queue, 0, -1, withscores=True)
    assert own_id.decode() == keys.drain_job_id(partition)
    assert own_score == pytest.approx(arq_score, abs=5_000)


async def test_a_doorbell_that_waits_is_left_as_it_is(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(1, b"a")])
    before = await redis.zrange(keys.drain_queue, 0, -1, withscores=True)
    await push(redis, keys, PARTITIONS, [(1, b"b"), (1, b"c")])
    assert await redis.zrange(keys.drain_queue, 0, -1, withscores=True) == before


async def test_full_by_jobs(redis: Redis, keys: Keys, everything: Everything) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, max_jobs=3))
    await push(redis, keys, PARTITIONS, [(0, b"a"), (0, b"b")])
    before = await everything()

    with pytest.raises(QueueFull) as full:
        await push(redis, keys, PARTITIONS, [(0, b"c"), (1, b"d")])

    assert (full.value.what, full.value.limit) == ("jobs", 3)
    assert await everything() == before
    await push(redis, keys, PARTITIONS, [(1, b"c")])
    await drain_all(redis, keys, 0)
    await push(redis, keys, PARTITIONS, [(1, b"d"), (2, b"e")])
    assert await redis.hgetall(keys.backlog) == {b"jobs": b"3", b"bytes": b"3"}


async def test_full_by_bytes(redis: Redis, keys: Keys, everything: Everything) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, max_bytes=1000))
    await push(redis, keys, PARTITIONS, [(0, b"x" * 900)])
    before = await everything()

    with pytest.raises(QueueFull) as full:
        await push(redis, keys, PARTITIONS, [(0, b"y"), (1, b"z" * 100)])

    assert (full.value.what, full.value.limit) == ("bytes", 1000)
    assert await everything() == before
    await push(redis, keys, PARTITIONS, [(1, b"z" * 100)])
    await drain_all(redis, keys, 0)
    await push(redis, keys, PARTITIONS, [(1, b"z" * 900)])


async def test_another_number_of_partitions(redis: Redis, keys: Keys, everything: Everything) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"a")])
    before = await everything()
    with pytest.raises(PartitionMismatch) as mismatch:
        await push(redis, keys, PARTITIONS + 1, [(PARTITIONS, b"b")])
    assert mismatch.value.actual == PARTITIONS
    assert await everything() == before


async def test_pushed_in_part_tells_what_was_stored(redis: Redis, keys: Keys, queue: MemoryQueue) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=1, limits=LIMITS, max_jobs=PUSH_MAX_JOBS + 10))
    jobs = [Upsert(user_id=1, point_id=f"mem_1_{number}", vector=axis(number)) for number in range(PUSH_MAX_JOBS + 11)]

    with pytest.raises(PushedInPart) as in_part:
        await queue.push_many(jobs)

    assert isinstance(in_part.value.__cause__, QueueFull)
    assert in_part.value.wanted == len(jobs)
    stored = [entry_id.decode() for entry_id, _ in await redis.xrange(keys.stream(0))]
    assert [receipt.entry_id for receipt in in_part.value.stored] == stored
    assert len(stored) == PUSH_MAX_JOBS


async def test_a_redis_out_of_memory_refuses_producers_and_lets_drains_free_it(tmp_path: Path) -> None:
    keys, size = Keys("full"), 50_000
    with start_valkey(tmp_path) as valkey:
        async with connected(valkey.url) as redis:
            log = JobLog(redis, keys, reading(keys))
            await push(redis, keys, PARTITIONS, [(0, b"x" * size) for _ in range(40)])
            lease = await acquire_lease(redis, keys, 0, ttl_s=8, partitions=PARTITIONS)
            assert lease is not None
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", used - 10 * size)

            with pytest.raises(QueueUnavailable, match="memory"):
                await push(redis, keys, PARTITIONS, [(1, b"y")])
            assert not await redis.exists(keys.stream(1), keys.arq_job(keys.drain_job_id(1)))
            assert await redis.hget(keys.backlog, "jobs") == b"40"

            batch = await log.read(lease, max_jobs=30, max_bytes=2**30)
            dead_letter = DeadEntry(entry=batch[3], reason="invalid", detail="a test")
            await commit(log, lease, batch, [dead_letter])
            await give_back(redis, keys, lease)

            assert (await redis.info("memory"))["used_memory"] < used - 20 * size
            assert (await redis.xlen(keys.stream(0)), await redis.xlen(keys.dead(0))) == (10, 1)
            await push(redis, keys, PARTITIONS, [(1, b"y")])


async def test_nothing_listens(keys: Keys) -> None:
    async with connected("redis://127.0.0.1:1", timeout_s=1) as redis:
        with pytest.raises(QueueUnavailable, match="Redis"):
            await push(redis, keys, PARTITIONS, [(0, b"a")])
