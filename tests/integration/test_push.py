"""Push: one round trip stores all jobs or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.client.producer import PUSH_MAX_JOBS
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.contract.errors import PartitionMismatch, PushedInPart, QueueFull, QueueUnavailable
from memory_worker.embedded.engines import start_valkey
from memory_worker.queue.log import DeadEntry, JobLog
from memory_worker.queue.partitions import publish_meta
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.integration.conftest import Everything, connected
from tests.integration.jobs import LIMITS, PARTITIONS, memory
from tests.integration.leases import commit, drain_all, give_back, held_lease, reading
from tests.integration.proxies import RedisProxy
from tests.tools import arq_client

DAY_MS = 24 * 3600 * 1000


async def test_a_push_is_one_round_trip_for_any_number_of_jobs(
    watched: Redis, redis_proxy: RedisProxy, keys: Keys
) -> None:
    await push(watched, keys, PARTITIONS, [(0, b"loads the script")])
    redis_proxy.words()
    await push(watched, keys, PARTITIONS, [(0, b"one")])
    assert redis_proxy.words() == ["EVALSHA"]
    await push(watched, keys, PARTITIONS, [(number % PARTITIONS, b"many") for number in range(256)])
    assert redis_proxy.words() == ["EVALSHA"]


async def test_a_script_that_redis_has_lost_is_sent_again(tmp_path: Path, keys: Keys) -> None:
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


async def test_the_wakeup_of_a_push_is_the_same_as_arq_would_write(redis: Redis, keys: Keys) -> None:
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


async def test_a_second_push_leaves_the_wakeup_unchanged(redis: Redis, keys: Keys) -> None:
    await push(redis, keys, PARTITIONS, [(1, b"a")])
    before = await redis.zrange(keys.drain_queue, 0, -1, withscores=True)
    await push(redis, keys, PARTITIONS, [(1, b"b"), (1, b"c")])
    assert await redis.zrange(keys.drain_queue, 0, -1, withscores=True) == before


@pytest.mark.parametrize(("what", "limit"), [("jobs", 3), ("bytes", 1000)])
async def test_a_push_above_the_limit_is_refused(
    redis: Redis, keys: Keys, everything: Everything, what: str, limit: int
) -> None:
    """Two of three jobs, or 900 of 1,000 bytes, are stored first. Drains make room again."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, **{f"max_{what}": limit}))
    size = 450 if what == "bytes" else 1
    await push(redis, keys, PARTITIONS, [(0, b"a" * size), (0, b"b" * size)])
    before = await everything()

    with pytest.raises(QueueFull) as full:
        await push(redis, keys, PARTITIONS, [(0, b"c"), (1, b"d" * 100)])

    assert (full.value.what, full.value.limit) == (what, limit)
    assert await everything() == before
    await push(redis, keys, PARTITIONS, [(1, b"c" * 100)])
    await drain_all(redis, keys, 0)
    await push(redis, keys, PARTITIONS, [(1, b"d" * size), (2, b"e" * size)])
    assert await redis.hget(keys.backlog, "jobs") == b"3"


async def test_a_push_with_another_number_of_partitions_is_refused(
    redis: Redis, keys: Keys, everything: Everything
) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"a")])
    before = await everything()
    with pytest.raises(PartitionMismatch) as mismatch:
        await push(redis, keys, PARTITIONS + 1, [(PARTITIONS, b"b")])
    assert mismatch.value.actual == PARTITIONS
    assert await everything() == before


@pytest.mark.parametrize(
    ("limit", "jobs", "size", "stored"),
    [
        ({"max_jobs": PUSH_MAX_JOBS + 10}, PUSH_MAX_JOBS + 11, 0, PUSH_MAX_JOBS),
        ({"max_bytes": 1_500_000}, 30, 60_000, 17),
    ],
    ids=["in parts of so many jobs", "in parts of 1 MiB"],
)
async def test_a_push_in_parts_says_which_jobs_were_stored(
    redis: Redis, keys: Keys, queue: MemoryQueue, limit: dict[str, int], jobs: int, size: int, stored: int
) -> None:
    await publish_meta(redis, keys, QueueMeta(partitions=1, limits=LIMITS, **limit))
    with pytest.raises(PushedInPart) as in_part:
        await queue.push_many([memory(1, number, value="x" * size) for number in range(jobs)])

    assert isinstance(in_part.value.__cause__, QueueFull)
    assert in_part.value.wanted == jobs
    entries = [entry_id.decode() for entry_id, _ in await redis.xrange(keys.stream(0))]
    assert [receipt.entry_id for receipt in in_part.value.stored] == entries
    assert len(entries) == stored


async def test_a_redis_without_memory_refuses_pushes_and_allows_commits(tmp_path: Path) -> None:
    keys, size = Keys("full"), 50_000
    with start_valkey(tmp_path) as valkey:
        async with connected(valkey.url) as redis:
            log = JobLog(redis, keys, reading(keys))
            await push(redis, keys, PARTITIONS, [(0, b"x" * size) for _ in range(40)])
            lease = await held_lease(redis, keys)
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", used - 10 * size)

            with pytest.raises(QueueUnavailable, match="memory"):
                await push(redis, keys, PARTITIONS, [(1, b"y")])
            assert not await redis.exists(keys.stream(1), keys.arq_job(keys.drain_job_id(1)))
            assert await redis.hget(keys.backlog, "jobs") == b"40"

            batch = (await log.read(lease, max_jobs=30, max_bytes=2**30)).entries
            dead_letter = DeadEntry(entry=batch[3], reason="invalid", detail="a test")
            await commit(log, lease, batch, [dead_letter])
            await give_back(redis, keys, lease)

            assert (await redis.info("memory"))["used_memory"] < used - 20 * size
            assert (await redis.xlen(keys.stream(0)), await redis.xlen(keys.dead(0))) == (10, 1)
            await push(redis, keys, PARTITIONS, [(1, b"y")])
