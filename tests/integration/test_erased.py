"""``memory-worker erased``: it finds whatever is left of a user, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import encode_job, partition_of
from memory_worker.inspection.erasure import Leftover, collect_leftovers
from memory_worker.queue.leftovers import owners_of
from memory_worker.queue.partitions import publish_meta
from memory_worker.queue.registry import CollectionRegistry
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from memory_worker.wire.push import push
from tests.arq_producer import arguments, arq_pool
from tests.commands import invoked
from tests.integration.conftest import API_KEY, Contents, Everything, MakeSettings, Stored, running
from tests.integration.jobs import DIMENSION, LIMITS, PARTITIONS, axis, chunk, memory

USER, OTHER = 1730, 17
HOME = partition_of(USER, PARTITIONS)
BODY = encode_job(memory(USER, 1))

Collect = Callable[[], Awaitable[dict[str, Leftover]]]


@pytest.fixture
async def leftovers(redis: Redis, keys: Keys, store: VectorStore, everything: Everything) -> Collect:
    """Return what is left of the user, by place. Another user has everything."""
    await publish_meta(redis, keys, QueueMeta(partitions=PARTITIONS, limits=LIMITS, user_burst=3))
    await store.prepare()

    async def collect() -> dict[str, Leftover]:
        before = await everything()
        found = await collect_leftovers(redis, keys, store, USER)
        assert await everything() == before
        return {one.place: one for one in found}

    return collect


def left(found: dict[str, Leftover]) -> dict[str, int]:
    """Return the places in which something is left."""
    return {place: one.left for place, one in found.items() if one.left}


class Planting:
    """Leaves something of a user in a place of Redis."""

    def __init__(self, redis: Redis, keys: Keys, redis_url: str) -> None:
        self.redis = redis
        self.keys = keys
        self.url = redis_url

    async def job(self, user: int, *, partition: int = HOME) -> None:
        await push(self.redis, self.keys, PARTITIONS, [(partition, encode_job(memory(user, 1)))])

    async def overflow_job(self, user: int) -> None:
        await self.job(user, partition=HOME + PARTITIONS)

    async def job_elsewhere(self, user: int) -> None:
        """In the wrong partition, as a broken producer pushes it."""
        await self.job(user, partition=(HOME + 1) % PARTITIONS)

    async def invalid_job(self, user: int) -> None:
        await push(self.redis, self.keys, PARTITIONS, [(HOME, msgspec.json.encode({"user_id": user, "op": 5}))])

    async def copy(self, user: int) -> None:
        await self.redis.xadd(self.keys.watched_entries(HOME), {"v": "1", "j": encode_job(memory(user, 1))})

    async def dead_letter(self, user: int) -> None:
        fields = {"reason": "invalid", "user_id": user, "v": "1", "j": b"x"}
        await self.redis.xadd(self.keys.dead(HOME + PARTITIONS), fields)

    async def dead_letter_without_user(self, user: int) -> None:
        """As of a job that could not be decoded."""
        body = msgspec.msgpack.encode({"op": "upsert", "user_id": user, "point_id": 5})
        await self.redis.xadd(self.keys.dead(0), {"reason": "malformed", "user_id": "", "v": "1", "j": body})

    async def dead_arq_record(self, user: int) -> None:
        _, document = arguments(memory(user, 1), "msgpack")
        record = msgspec.msgpack.encode({"f": "nothing", "a": [document], "k": {}})
        body = msgspec.msgpack.encode({"record": record})
        await self.redis.xadd(self.keys.dead(0), {"reason": "malformed", "user_id": "", "v": "1", "j": body})

    async def arq_write(self, user: int, **options: Any) -> None:
        _, document = arguments(memory(user, 1), "msgpack")
        async with arq_pool(self.url) as pool:
            await pool.enqueue_job("upsert", document, _queue_name=self.keys.writes_queue, **options)

    async def later_arq_write(self, user: int) -> None:
        await self.arq_write(user, _defer_by=timedelta(days=1))

    async def guarded_dead_letter(self, user: int) -> None:
        home = partition_of(user, PARTITIONS)
        await self.redis.hset(self.keys.guarded_dead_letters(home, user), "1-0", b"x")  # type: ignore[misc]

    async def guarded_point(self, user: int) -> None:
        home = partition_of(user, PARTITIONS)
        await self.redis.hset(self.keys.guarded_points(home, user), f"mem_{user}_1", "1-0")  # type: ignore[misc]

    async def outcome(self, user: int) -> None:
        await self.redis.xadd(self.keys.outcomes, {"user_id": user, "outcome": "applied"})

    async def overflow(self, user: int) -> None:
        home = partition_of(user, PARTITIONS)
        await self.redis.hset(self.keys.overflow_users(home), user, "1-0")  # type: ignore[misc]


@pytest.fixture
def planting(redis: Redis, keys: Keys, redis_url: str) -> Planting:
    return Planting(redis, keys, redis_url)


@pytest.mark.parametrize(
    ("plant", "place"),
    [
        (Planting.job, "waiting jobs"),
        (Planting.overflow_job, "waiting jobs"),
        (Planting.job_elsewhere, "waiting jobs"),
        (Planting.invalid_job, "waiting jobs"),
        (Planting.copy, "copies of entries for reconcile"),
        (Planting.dead_letter, "dead letters"),
        (Planting.dead_letter_without_user, "dead letters"),
        (Planting.dead_arq_record, "dead letters"),
        (Planting.arq_write, "writes of arq's own client"),
        (Planting.later_arq_write, "writes of arq's own client"),
        (Planting.guarded_dead_letter, "replay guard"),
        (Planting.guarded_point, "replay guard"),
        (Planting.outcome, "outcomes"),
        (Planting.overflow, "overflow users"),
    ],
)
async def test_it_finds_what_is_left_in_redis(
    planting: Planting, leftovers: Collect, plant: Callable[..., Awaitable[None]], place: str
) -> None:
    """What others have does not count."""
    await plant(planting, OTHER)
    assert left(await leftovers()) == {}
    for count in (1, 2):
        await plant(planting, USER)
        found = await leftovers()
        if plant not in (Planting.guarded_dead_letter, Planting.guarded_point, Planting.overflow):
            assert left(found) == {place: count}
        else:
            assert left(found) == {place: 1}
        assert found[place].is_content is (place not in ("outcomes", "overflow users"))


async def test_jobs_that_cannot_be_read_are_counted_apart(redis: Redis, keys: Keys, leftovers: Collect) -> None:
    await push(redis, keys, PARTITIONS, [(0, b"\xc1 no job")])
    await redis.xadd(keys.dead(0), {"reason": "malformed", "user_id": "", "v": "1", "j": b"\x80pickled"})
    found = await leftovers()
    assert left(found) == {"jobs that cannot be read": 2}
    assert not found["jobs that cannot be read"].is_content


@pytest.mark.parametrize(
    ("document", "owners"),
    [
        (BODY, {"1730"}),
        (msgspec.json.encode({"user_id": "anna", "op": "purge"}), {"anna"}),
        (msgspec.msgpack.encode({"f": "upsert", "a": [], "k": {"user_id": 5}}), {"5"}),
        (msgspec.msgpack.encode({"f": "upsert", "a": [1, 2], "k": {}}), set()),
        (msgspec.msgpack.encode({"op": "purge"}), set()),
        (msgspec.msgpack.encode([1730]), set()),
        (b"", set()),
    ],
)
def test_the_owners_of_a_job(document: bytes, owners: set[str]) -> None:
    assert owners_of(document) == owners


async def test_it_finds_points_everywhere(
    leftovers: Collect, stored: Stored, engine: Contents, shape: CollectionShape, registry: CollectionRegistry
) -> None:
    """In each namespace, behind an alias, under an older integer id, and inactive ones."""
    base = shape.base("memory")
    points = [memory(USER, 1), memory(USER, 2, active=False), memory(USER, 3, namespace="work"), chunk(USER, 1, 1)]
    await stored(*points, memory(OTHER, 1), memory(OTHER, 1, namespace="work"))
    engine.insert(base, 77, [1.0] * DIMENSION, user_id=USER, _point_id=f"mem_{USER}_9")
    engine.create(f"{base}-behind")
    engine.alias(f"{base}_other", f"{base}-behind")
    await registry.add("memory:other", "adopted")
    engine.insert(f"{base}-behind", 5, [1.0] * DIMENSION, user_id=USER)
    assert left(await leftovers()) == {
        f"points in {base}": 3,
        f"points in {base}_work": 1,
        f"points in {shape.base('document')}": 1,
        f"points in {base}_other (alias of {base}-behind)": 1,
    }


async def test_a_namespace_that_redis_has_lost_counts(
    leftovers: Collect,
    stored: Stored,
    redis: Redis,
    keys: Keys,
    shape: CollectionShape,
    qdrant_url: str,
    registry: CollectionRegistry,
) -> None:
    await stored(memory(USER, 3, namespace="work"))
    await redis.delete(keys.collections)
    async with VectorStore(qdrant_url, shape, registry=registry, api_key=API_KEY) as fresh:
        found = {one.place: one.left for one in await collect_leftovers(redis, keys, fresh, USER)}
    assert found[f"points in {shape.base('memory')}_work"] == 1
    assert not await redis.exists(keys.collections)


async def test_text_user_ids(redis: Redis, keys: Keys, qdrant_url: str, shape: CollectionShape) -> None:
    """Users of one type have no points of kinds with ids of the other type."""
    assert {kind.user_ids for kind in shape.kinds.values()} == {"integer"}
    async with VectorStore(qdrant_url, shape, registry=CollectionRegistry(redis, keys), api_key=API_KEY) as store:
        await store.prepare()
        places = [one.place for one in await collect_leftovers(redis, keys, store, "anna")]
        assert not [place for place in places if place.startswith("points")]
        await push(redis, keys, 32, [(partition_of("anna", 32), msgspec.json.encode({"user_id": "anna"}))])
        found = {one.place: one.left for one in await collect_leftovers(redis, keys, store, "anna")}
    assert found["waiting jobs"] == 1


async def test_the_command_after_a_purge(
    settings: MakeSettings, queue: MemoryQueue, redis_url: str, qdrant_url: str, shape: CollectionShape, keys: Keys
) -> None:
    environment = {
        "REDIS_URL": redis_url,
        "QDRANT_URL": qdrant_url,
        "QUEUE_PREFIX": keys.prefix,
        "QDRANT_MEMORIES_COLLECTION": shape.base("memory"),
        "QDRANT_DOCUMENTS_COLLECTION": shape.base("document"),
        "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
        **({"QDRANT_API_KEY": API_KEY} if API_KEY else {}),
    }

    def run(*arguments: str) -> Any:
        return invoked("erased", *arguments, **environment)

    async with running(settings()):
        await queue.wait_applied(await queue.upsert(user_id=USER, point_id=f"mem_{USER}_1", vector=axis(0)))
        done = await asyncio.to_thread(run, str(USER))
        assert (done.exit_code, done.stdout.endswith("not erased\n")) == (1, True)
        done = await asyncio.to_thread(run, str(USER), "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["user_id"], document["left"]) == (1, USER, 1)
        await queue.wait_applied(await queue.purge(user_id=USER, notify=True))
        done = await asyncio.to_thread(run, str(USER))
        assert (done.exit_code, "erased: nothing is left that counts" in done.stdout) == (0, True)
        assert "outcomes" in done.stdout
    done = await asyncio.to_thread(run, "a_b")
    assert (done.exit_code, "user_id: 'a_b': 1 to 128 characters" in done.stderr) == (2, True)
