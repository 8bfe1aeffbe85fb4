"""Isolation of users: no write or read of one user changes or shows a point of another user.

Jobs are pushed without the checks of the client, as a producer in another language may push them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_worker.contract import partition_of
from memory_worker.contract.kinds import primary_id
from memory_worker.ingest.drainer import Drainer
from memory_worker.ingest.options import DrainOptions
from memory_worker.reads.answers import READ_JOBS
from memory_worker.reads.handlers import Reads
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.store.values import payload_of
from memory_worker.wire.clock import RedisClock
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import API_KEY, Contents
from tests.integration.jobs import LIMITS, PARTITIONS, axis, chunk, memory

ATTACKER, VICTIM = 7, 71
"""One number begins with the other, so that a comparison of prefixes would confuse them."""

NAMESPACE = "feedback_positive"
VICTIMS = [
    memory(VICTIM, 1, at=0, category="a", key="k"),
    memory(VICTIM, 2, at=1, category="b"),
    memory(VICTIM, 1, at=0, category="a", namespace=NAMESPACE),
    chunk(VICTIM, 5, 0, at=0, group_key="a"),
    chunk(VICTIM, 5, 1, at=1, group_key="b"),
]
OLDER = 4_711
"""The integer id of a point that an older version of the app wrote."""


def mostly(usual: st.SearchStrategy[Any], hostile: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the usual value three times in four, because a job that is wrong in every field shows little."""
    return st.one_of(usual, usual, usual, hostile)


def ids_of(name: str, owner: int) -> list[str]:
    return [f"{name}_{owner}_1", f"{name}_{owner}_2", f"{name}_{owner}_5_0", f"{name}_{owner}_5_1", f"{name}_{owner}_"]


OWN_IDS = [*ids_of("mem", ATTACKER), *ids_of("doc", ATTACKER), f"mem_{ATTACKER}_.._mem_{VICTIM}_1"]
HOSTILE_IDS = [
    *ids_of("mem", VICTIM),
    *ids_of("doc", VICTIM),
    *(f"mem_{ATTACKER}_1{tail}" for tail in ("\n", "\0", " ", f"\nmem_{VICTIM}_1", f"/../mem_{VICTIM}_1")),
    f"mem_{ATTACKER}_{'1' * 300}",
    f"MEM_{VICTIM}_1",
    f" mem_{VICTIM}_1",
    f"mem_{ATTACKER}",
    f"mem_0{ATTACKER}_1",
    "mem_\N{FULLWIDTH DIGIT SEVEN}_1",
    primary_id(f"mem_{VICTIM}_1"),
    str(OLDER),
    "older",
    "*",
    "",
]
point_ids = mostly(st.sampled_from(OWN_IDS), st.sampled_from(HOSTILE_IDS))
user_ids = mostly(
    st.just(ATTACKER), st.sampled_from([str(VICTIM), float(ATTACKER), VICTIM + 2**63, -VICTIM, 0, True, None, [VICTIM]])
)
kinds = st.sampled_from(["memory", "memory", "document", None, "Memories", ""])
namespaces = mostly(
    st.sampled_from([None, NAMESPACE]),
    st.sampled_from(["", "..", "/", f"{NAMESPACE}/../x", "A", "\0", "x" * 65, "*", "ä"]),
)
words = st.sampled_from(["a", "b", "k", "*", "", str(VICTIM)])
identities = st.sampled_from([ATTACKER, VICTIM, float(VICTIM), str(VICTIM), [VICTIM], [ATTACKER, VICTIM], None, {}])
payloads = st.fixed_dictionaries(
    {},
    optional={
        "category": words,
        "group_key": words,
        "file_id": st.sampled_from([5, 6]),
        "active": st.booleans(),
        "user_id": identities,
        "_point_id": st.one_of(point_ids, identities),
        "user_id.x": identities,
        "payload": st.fixed_dictionaries({}, optional={"user_id": identities, "_point_id": point_ids}),
        "id": st.sampled_from([OLDER, primary_id(f"mem_{VICTIM}_1")]),
    },
)
vectors = mostly(st.sampled_from([axis(0), axis(1)]), st.sampled_from([b"", axis(0)[:-4], [1.0] * 8, "axis"]))


def fields(**optional: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {"kind": kinds, "namespace": namespaces, **optional}


narrowing = fields(category=words, group_key=words, file_id=st.sampled_from([5, 6]))
upserts = st.fixed_dictionaries(
    {"op": st.just("upsert"), "user_id": user_ids, "point_id": point_ids, "vector": vectors},
    optional=fields(payload=payloads, user=identities),
)
deletes = st.fixed_dictionaries(
    {"op": st.just("delete"), "user_id": user_ids, "point_ids": st.lists(point_ids, min_size=1, max_size=3)},
    optional=fields(point_id=point_ids, filter=st.just({})),
)
purges = st.fixed_dictionaries(
    {"op": st.just("purge"), "user_id": user_ids}, optional={**narrowing, "where": st.just({"user_id": VICTIM})}
)
writes = st.tuples(
    mostly(
        st.just(partition_of(ATTACKER, PARTITIONS)), st.sampled_from([partition_of(VICTIM, PARTITIONS), 0, 1, 2, 3])
    ),
    st.one_of(upserts, upserts, deletes, deletes, purges),
    st.sampled_from([msgspec.msgpack.encode, msgspec.json.encode]),
)
reads = st.one_of(
    st.fixed_dictionaries(
        {"op": st.just("search"), "user_id": user_ids, "vector": vectors, "min_score": st.just(-1.0)},
        optional={**narrowing, "limit": st.sampled_from([1, 100, 10_000]), "filter": st.just({})},
    ),
    st.fixed_dictionaries(
        {"op": st.just("get"), "user_id": user_ids, "point_ids": st.lists(point_ids, min_size=1, max_size=3)},
        optional=fields(),
    ),
)


class Tenants:
    """A drainer and the read handlers, on a store in which both users have points."""

    def __init__(self, redis_url: str, qdrant_url: str, keys: Keys, shape: CollectionShape, engine: Contents) -> None:
        self._runner = asyncio.Runner()
        self._keys, self._shape, self._engine = keys, shape, engine
        self._redis = open_redis(redis_url, timeout_s=5)
        self._store = self._runner.run(self._open(qdrant_url))
        clock = RedisClock()
        options = DrainOptions(partitions=PARTITIONS, limits=LIMITS, slice_s=10)
        self._drainer = Drainer(self._redis, keys, self._store, options)
        self._reads = Reads(self._redis, keys, self._store, LIMITS, clock)
        self._clock = clock
        engine.insert(shape.base("memory"), OLDER, [1.0] * 8, user_id=VICTIM, _point_id="older", active=True)
        self.victims = self.points_of_victim()
        assert len(self.victims) == len(VICTIMS) + 1

    async def _open(self, url: str) -> VectorStore:
        store = VectorStore(url, self._shape, api_key=API_KEY)
        for point in VICTIMS:
            await store.apply(CollectionRef(point.kind, point.namespace), [UpsertPoints((point,))], timeout_s=5)
        return store

    def points_of_victim(self) -> dict[tuple[str, str], tuple[Any, Any]]:
        """Return payload and vector of every point except the attacker's, by collection and primary id."""
        found = {}
        for name in sorted(self._engine.names()):
            if name.startswith((self._shape.base("memory"), self._shape.base("document"))):
                for point in self._engine.whole(name):
                    payload = payload_of(point.payload)
                    if payload.get("user_id") != ATTACKER:
                        found[name, str(point.id)] = payload, str(point.vectors)
        return found

    def write(self, jobs: list[tuple[int, bytes]]) -> None:
        async def apply() -> None:
            await push(self._redis, self._keys, PARTITIONS, jobs)
            for partition in {partition for partition, _ in jobs}:
                result = await self._drainer.drain(partition)
                assert result.ending == "empty"

        self._runner.run(apply())

    def read(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the payloads in the reply to a read job."""
        (job,) = (job for job in READ_JOBS if job.__struct_config__.tag == document["op"])
        reply = self._runner.run(self._reads.answer(job, document, pushed_ms=self._clock.now_ms()))
        return [found.payload for found in [*(reply.hits or []), *(reply.points or [])]]

    def close(self) -> None:
        async def close() -> None:
            await self._store.close()
            await close_redis(self._redis)

        self._runner.run(close())
        self._runner.close()


@pytest.fixture
def tenants(
    redis_url: str, qdrant_url: str, redis_prefix: str, shape: CollectionShape, qdrant_channel: Any
) -> Iterator[Tenants]:
    opened = Tenants(redis_url, qdrant_url, Keys(redis_prefix), shape, Contents(qdrant_channel))
    yield opened
    opened.close()


fuzzed = settings(
    max_examples=250,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzzed
@given(jobs=st.lists(writes, min_size=1, max_size=12))
def test_no_write_of_one_user_changes_a_point_of_another(tenants: Tenants, jobs: list[tuple[int, Any, Any]]) -> None:
    tenants.write([(partition, encode(job)) for partition, job, encode in jobs])
    assert tenants.points_of_victim() == tenants.victims


@fuzzed
@given(documents=st.lists(reads, min_size=1, max_size=8))
def test_no_read_of_one_user_shows_a_point_of_another(tenants: Tenants, documents: list[dict[str, Any]]) -> None:
    own = {"op": "upsert", "user_id": ATTACKER, "point_id": f"mem_{ATTACKER}_1", "vector": axis(0)}
    tenants.write([(partition_of(ATTACKER, PARTITIONS), msgspec.msgpack.encode(own))])
    for document in documents:
        for payload in tenants.read(document):
            assert payload["user_id"] == ATTACKER
            assert payload["_point_id"].startswith((f"mem_{ATTACKER}_", f"doc_{ATTACKER}_"))


def test_valid_jobs_of_the_fuzz_are_applied(tenants: Tenants) -> None:
    """If all jobs were refused, the tests above could not fail."""
    partition, point_id = partition_of(ATTACKER, PARTITIONS), f"mem_{ATTACKER}_1"
    upsert = {"op": "upsert", "user_id": ATTACKER, "point_id": point_id, "vector": axis(0)}
    tenants.write([(partition, msgspec.msgpack.encode(upsert))])
    search = {"op": "search", "user_id": ATTACKER, "vector": axis(0), "min_score": -1.0}
    assert [payload["_point_id"] for payload in tenants.read(search)] == [point_id]
    assert tenants.points_of_victim() == tenants.victims
    of_victim = {**search, "user_id": VICTIM}
    assert {payload["user_id"] for payload in tenants.read(of_victim)} == {VICTIM}
