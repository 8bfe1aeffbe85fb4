"""A collection is compared with a manifest of the app, beside live workers and producers."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from memory_worker.contract import Delete, Patch, Prune, Purge, Upsert, WriteJob
from memory_worker.contract.errors import ConfigurationError, QueueFull
from memory_worker.contract.kinds import primary_id
from memory_worker.queue.partitions import publish_meta
from memory_worker.repair import orphans
from memory_worker.repair import reconcile as reconciling
from memory_worker.repair.orphans import Deleted, LastRun, delete_orphans, refusal
from memory_worker.repair.reconcile import Reconciler, Summary
from memory_worker.store import stored_points
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta
from tests.integration.conftest import Contents, MakeDrainer, Push
from tests.integration.jobs import DIMENSION, LIMITS, chunk, memory
from tests.integration.proxies import Call, QdrantProxy

MEMORIES, DOCUMENTS = CollectionRef("memory"), CollectionRef("document")
FEEDBACK = CollectionRef("memory", "feedback_positive")
VECTOR = [1.0, *[0.0] * (DIMENSION - 1)]
SCROLL = "Points/Scroll"

Open = Callable[..., Any]
_Opened = AsyncIterator[Reconciler]


@pytest.fixture
def opened(redis: Redis, keys: Keys, store: VectorStore, tmp_path: Path) -> Open:
    """Open a reconciler that watches a queue of one partition."""
    count = 0

    @asynccontextmanager
    async def make(
        ref: CollectionRef = MEMORIES, *, by: VectorStore | None = None, **more: Any
    ) -> AsyncIterator[Reconciler]:
        nonlocal count
        count += 1
        directory = tmp_path / f"run-{count}"
        directory.mkdir()
        reconciler = Reconciler(redis, keys, by or store, ref, directory, partitions=1, **more)
        async with reconciler.watching():
            yield reconciler

    return make


def manifest(*lines: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def line(number: int, user_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"point_id": f"mem_{user_id}_{number}", **more}


async def write(store: VectorStore, *points: Upsert) -> None:
    for point in points:
        await store.apply(CollectionRef(point.kind, point.namespace), [UpsertPoints((point,))], timeout_s=5)


def found(reconciler: Reconciler) -> dict[str, tuple[str, Any, Any]]:
    return {one.point_id: (one.finding, one.expected, one.found) for one in reconciler.ledger.findings()}


class TestFindings:
    async def test_each_difference_is_found(self, opened: Open, store: VectorStore) -> None:
        stored = [
            memory(1, 1),
            memory(1, 2, updated=20),
            memory(1, 3, updated=20),
            memory(1, 4, updated=20),
            memory(1, 5),
            memory(1, 6, _hash="aa"),
            memory(1, 7, _hash="aa"),
            memory(1, 8),
            memory(2, 9, updated=7),
            memory(1, 10, _hash=5),
            memory(1, 13, _hash="aa", updated=20),
        ]
        await write(store, *stored)
        lines = [
            line(1),
            line(2, updated=20),
            line(3, updated=19),  # the payload is newer
            line(4, updated=21.5),
            line(5, updated=1),
            line(6, hash="aa", user_id=1),
            line(7, hash="ab"),
            line(8, hash="aa"),
            line(10, hash=5),
            line(11, updated=3),
            line(12, user_id=3),
            line(13, hash="ab", updated=20),
        ]
        async with opened() as reconciler:
            summary = await reconciler.compare(manifest(*lines))
            assert found(reconciler) == {
                "mem_1_4": ("stale", 21.5, 20),
                "mem_1_5": ("stale", 1, None),
                "mem_1_7": ("stale", "ab", "aa"),
                "mem_1_8": ("stale", "aa", None),
                "mem_1_11": ("missing", 3, None),
                "mem_3_12": ("missing", None, None),
                "mem_1_13": ("stale", "ab", "aa"),
                "mem_2_9": ("orphaned", None, 7),
            }
        assert summary == Summary(
            collection=store.collections.name(MEMORIES),
            manifest=12,
            stored=11,
            missing=2,
            orphaned=1,
            stale=5,
            changing=0,
            undecided=0,
            unowned=0,
        )
        assert not summary.in_sync

    async def test_equal_sides_are_in_sync(
        self, opened: Open, store: VectorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stored_points, "PAGE", 7)
        monkeypatch.setattr(reconciling, "_LINES", 4)
        points = [memory(user_id, number, updated=number) for user_id in range(1, 6) for number in range(8)]
        await store.apply(MEMORIES, [UpsertPoints(tuple(points))], timeout_s=5)
        lines = [{"point_id": point.point_id, "updated": point.payload["updated"]} for point in points]
        steps: list[tuple[str, int]] = []
        async with opened(advance=lambda *step: steps.append(step)) as reconciler:
            summary = await reconciler.compare(manifest(*lines))
        assert summary.in_sync
        assert (summary.manifest, summary.stored) == (40, 40)
        for step in ("manifest", "collection"):
            assert sum(done for name, done in steps if name == step) == 40

    async def test_an_own_field_may_have_the_hash(self, opened: Open, store: VectorStore) -> None:
        await write(store, memory(1, 1, checksum="a"), memory(1, 2, checksum="b"))
        async with opened(hash_field="checksum") as reconciler:
            await reconciler.compare(manifest(line(1, hash="a"), line(2, hash="c")))
            assert found(reconciler) == {"mem_1_2": ("stale", "c", "b")}

    @pytest.mark.parametrize("ref", [DOCUMENTS, FEEDBACK])
    async def test_other_collections_are_compared(self, opened: Open, store: VectorStore, ref: CollectionRef) -> None:
        points = [chunk(1, 2, number) for number in range(3)]
        if ref == FEEDBACK:
            points = [memory(1, number, namespace=ref.namespace) for number in range(3)]
        await write(store, *points, memory(1, 99))
        lines = [{"point_id": point.point_id} for point in points[1:]]
        async with opened(ref) as reconciler:
            await reconciler.compare(manifest(*lines))
            assert found(reconciler) == {points[0].point_id: ("orphaned", None, None)}

    async def test_points_under_integer_ids_count(self, opened: Open, store: VectorStore, engine: Contents) -> None:
        await write(store, memory(1, 1, updated=30))
        name = store.collections.name(MEMORIES)
        for number in (1, 2, 3, 4):
            engine.insert(name, number, VECTOR, user_id=1, _point_id=f"mem_1_{number}", updated=10)
        engine.insert(name, 50, VECTOR, user_id=1)
        engine.insert(name, primary_id("x"), VECTOR, user_id=2, _point_id="mem_1_5")
        lines = [line(1, updated=30), line(2, updated=10), line(3, updated=11)]
        async with opened() as reconciler:
            summary = await reconciler.compare(manifest(*lines))
            assert found(reconciler) == {"mem_1_3": ("stale", 11, 10), "mem_1_4": ("orphaned", None, 10)}
        assert (summary.stored, summary.unowned) == (7, 2)

    async def test_of_a_collection_that_does_not_exist_all_is_missing(self, opened: Open) -> None:
        async with opened() as reconciler:
            summary = await reconciler.compare(manifest(line(1), line(2)))
            assert {one[0] for one in found(reconciler).values()} == {"missing"}
        assert summary.missing == 2

    async def test_a_foreign_collection_is_refused(self, opened: Open, store: VectorStore, engine: Contents) -> None:
        engine.create(store.collections.name(FEEDBACK))
        async with opened(FEEDBACK) as reconciler:
            with pytest.raises(ConfigurationError, match="does not belong to this deployment"):
                await reconciler.compare(manifest(line(1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "line 2 of the manifest"),
        (b"[]", "line 2 of the manifest: Expected `object`"),
        (b'{"updated": 1}', "line 2 of the manifest: .*point_id"),
        (b'{"point_id": "mem_1_2", "updated": null}', "line 2 of the manifest: .*updated"),
        (b'{"point_id": "mem_1_2", "updated": "1"}', "line 2 of the manifest: .*updated"),
        (b'{"point_id": "mem_1_2", "updated": 99999999999999999999}', "line 2 of the manifest: .*updated"),
        (b'{"point_id": "mem_1_2", "hsah": "1"}', "line 2 of the manifest: .*hsah"),
        (b'{"point_id": "doc_1_2_0"}', "line 2 of the manifest: .*user"),
        (b'{"point_id": "mem_0_2"}', "line 2 of the manifest"),
        (b'{"point_id": "mem_01_2"}', "line 2 of the manifest"),
        (b'{"point_id": "mem_1_2", "user_id": 2}', "line 2 of the manifest: user_id: is 2, but 'mem_1_2' belongs to 1"),
        (b'{"point_id": "mem_1_1"}', "line 2 of the manifest: 'mem_1_1' is also on line 1"),
        (b'{"point_id": "mem_1_2"}' + b" " * 70_000, "line 2 of the manifest: .*65,536 bytes"),
        (b'{"point_id": "mem_1_\xff"}', "line 2 of the manifest"),
    ],
)
async def test_a_malformed_line_is_named(opened: Open, text: bytes, message: str) -> None:
    async with opened() as reconciler:
        with pytest.raises(ConfigurationError, match=message):
            await reconciler.compare(io.BytesIO(b'{"point_id": "mem_1_1"}\n' + text + b'\n{"point_id": "mem_1_3"}\n'))


async def test_blank_lines_and_a_missing_end_of_line_are_allowed(opened: Open) -> None:
    async with opened() as reconciler:
        summary = await reconciler.compare(io.BytesIO(b'\n{"point_id": "mem_1_1"}\r\n\n{"point_id": "mem_1_3"}'))
    assert summary.manifest == 2


class TestWaiting:
    """The manifest has points 1 and 2; stored are 2 and 3, so that 1 is missing and 3 is orphaned."""

    async def compare(self, opened: Open, store: VectorStore) -> tuple[Summary, dict[str, Any]]:
        await write(store, memory(1, 2), memory(1, 3))
        async with opened() as reconciler:
            return await reconciler.compare(manifest(line(1), line(2))), found(reconciler)

    @pytest.mark.parametrize(
        ("jobs", "reported"),
        [
            ([memory(1, 1)], {"mem_1_3"}),
            ([Delete(user_id=1, point_ids=["mem_1_3", "mem_1_7"])], {"mem_1_1"}),
            ([Delete(user_id=1, point_ids=["mem_1_3"], namespace="*")], {"mem_1_1"}),
            ([Patch(user_id=1, point_ids=["mem_1_3"], set={"a": 1})], {"mem_1_1"}),
            ([Patch(user_id=1, category="c", set={"a": 1})], set()),
            ([Purge(user_id=1)], set()),
            ([Purge(user_id=1, kind="memory", category="c")], set()),
            ([memory(1, 1), Delete(user_id=1, point_ids=["mem_1_3"])], set()),
            ([Purge(user_id=2)], {"mem_1_1", "mem_1_3"}),
            ([Purge(user_id=1, kind="document")], {"mem_1_1", "mem_1_3"}),
            ([Purge(user_id=1, kind="memory", namespace="n")], {"mem_1_1", "mem_1_3"}),
            ([Prune(user_id=1, file_id=2, version=3)], {"mem_1_1", "mem_1_3"}),
            ([memory(1, 1, namespace="n"), chunk(1, 1, 1)], {"mem_1_1", "mem_1_3"}),
            ([b"nonsense"], {"mem_1_1", "mem_1_3"}),
        ],
    )
    async def test_points_of_waiting_jobs_are_not_reported(
        self, opened: Open, store: VectorStore, pushed: Push, jobs: list[WriteJob | bytes], reported: set[str]
    ) -> None:
        await pushed(*jobs)
        summary, findings = await self.compare(opened, store)
        assert set(findings) == reported
        assert (summary.changing, summary.undecided) == (2 - len(reported), 0)

    async def test_many_waiting_jobs_are_seen(self, opened: Open, store: VectorStore, pushed: Push) -> None:
        await pushed(*(memory(2, number) for number in range(250)))
        await pushed(memory(1, 1), *(memory(2, number) for number in range(250)))
        _, findings = await self.compare(opened, store)
        assert set(findings) == {"mem_1_3"}

    async def test_nothing_is_known_of_jobs_of_a_newer_version(
        self, opened: Open, store: VectorStore, pushed: Push
    ) -> None:
        await pushed(b"\x80", version=99)
        summary, findings = await self.compare(opened, store)
        assert findings == {}
        assert summary.undecided == 2
        assert not summary.in_sync


class TestLive:
    """What is written during the run."""

    @pytest.fixture
    def during(self, qdrant_proxy: QdrantProxy) -> Callable[[Callable[[], Awaitable[Any]]], None]:
        """Do something right after the first page was read."""

        def once(work: Callable[[], Awaitable[Any]]) -> None:
            async def then(call: Call) -> Any:
                answer = await call.forward()
                if SCROLL in qdrant_proxy.rules:
                    del qdrant_proxy.rules[SCROLL]
                    await work()
                return answer

            qdrant_proxy.rules[SCROLL] = then

        return once

    async def test_points_that_were_written_and_deleted_are_not_reported(
        self, opened: Open, proxied_store: VectorStore, during: Any, drainer: MakeDrainer, pushed: Push,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(stored_points, "PAGE", 10)
        await write(proxied_store, *(memory(1, number) for number in range(30)))

        async def change() -> None:
            await pushed(
                Delete(user_id=1, point_ids=[f"mem_1_{number}" for number in range(10)]),
                *(memory(1, number, _hash="b") for number in range(10, 20)),
                *(memory(1, number) for number in range(30, 60)),
                memory(2, 1),
                Purge(user_id=2),
                memory(2, 2),
            )
            assert (await drainer().drain(0)).ending == "empty"

        during(change)
        lines = [line(number) for number in range(30) if number != 25]
        async with opened(by=proxied_store) as reconciler:
            summary = await reconciler.compare(manifest(*lines, line(99)))
            assert found(reconciler) == {
                "mem_1_25": ("orphaned", None, None),
                "mem_1_99": ("missing", None, None),
            }
        assert summary.undecided == 0
        assert summary.changing

    async def test_jobs_that_are_applied_between_two_looks_are_seen(
        self, opened: Open, proxied_store: VectorStore, during: Any, drainer: MakeDrainer, pushed: Push
    ) -> None:
        await write(proxied_store, memory(1, 1))

        async def change() -> None:
            async with reconciler.watch.paused():
                for numbers in ((2,), range(4, 150)):  # more than a page
                    await pushed(*(memory(1, number) for number in numbers))
                    assert (await drainer().drain(0)).ending == "empty"

        during(change)
        async with opened(by=proxied_store) as reconciler:
            summary = await reconciler.compare(manifest(line(3), line(2, updated=5), line(140, updated=5)))
            assert found(reconciler) == {
                "mem_1_1": ("orphaned", None, None),
                "mem_1_3": ("missing", None, None),
            }
        assert (summary.changing, summary.undecided) == (2, 0)

    async def test_copies_of_jobs_are_kept_only_while_somebody_watches(
        self, opened: Open, drainer: MakeDrainer, pushed: Push, redis: Redis, keys: Keys
    ) -> None:
        async with opened() as reconciler, reconciler.watch.paused():
            await pushed(memory(1, 1))
            await drainer().drain(0)
            assert await redis.xlen(keys.watched_entries(0)) == 1
            assert await redis.pttl(keys.watched) > 0
            assert await redis.pttl(keys.watched_entries(0)) > 0
        await pushed(memory(1, 1))
        await drainer().drain(0)
        assert not await redis.exists(keys.watched, keys.watched_entries(0))

    async def test_jobs_that_were_not_seen_leave_their_partition_undecided(
        self,
        opened: Open,
        proxied_store: VectorStore,
        during: Any,
        drainer: MakeDrainer,
        pushed: Push,
        redis: Redis,
        keys: Keys,
    ) -> None:
        """A worker of an older version keeps no copies."""
        await write(proxied_store, memory(1, 1))

        async def change() -> None:
            async with reconciler.watch.paused():
                await redis.delete(keys.watched)
                await pushed(memory(1, 2))
                assert (await drainer().drain(0)).ending == "empty"

        during(change)
        async with opened(by=proxied_store) as reconciler:
            summary = await reconciler.compare(manifest(line(3)))
            assert found(reconciler) == {}
        assert summary.undecided == 2

    async def test_differences_are_read_twice(
        self, opened: Open, proxied_store: VectorStore, during: Any, engine: Contents
    ) -> None:
        """Somebody else has written to Qdrant."""
        await write(proxied_store, memory(1, 1), memory(1, 2, updated=1))
        name = proxied_store.collections.name(MEMORIES)

        async def change() -> None:
            engine.insert(name, primary_id("mem_1_2"), VECTOR, user_id=1, _point_id="mem_1_2", updated=9)
            engine.insert(name, primary_id("mem_1_3"), VECTOR, user_id=1, _point_id="mem_1_3")

        during(change)
        async with opened(by=proxied_store) as reconciler:
            await reconciler.compare(manifest(line(2, updated=9), line(3)))
            assert found(reconciler) == {"mem_1_1": ("orphaned", None, None)}

    async def test_a_lost_redis_leaves_everything_undecided(
        self, opened: Open, proxied_store: VectorStore, during: Any, redis: Redis, keys: Keys, pushed: Push
    ) -> None:
        await write(proxied_store, memory(1, 1))
        await pushed(memory(2, 1))

        async def lose() -> None:
            await redis.delete(keys.stream(0))

        during(lose)
        async with opened(by=proxied_store) as reconciler:
            summary = await reconciler.compare(manifest(line(3)))
        assert summary.undecided == 2


class TestDelete:
    @pytest.fixture
    def run(self, opened: Open, redis: Redis, keys: Keys, tmp_path: Path) -> Callable[..., Awaitable[Deleted]]:
        """Compare, delete orphans and remember the run."""

        async def once(*lines: dict[str, Any], then: Callable[[], Awaitable[Any]] | None = None) -> Deleted:
            async with opened() as reconciler:
                last_run = LastRun(tmp_path / "deep" / "state", keys, reconciler)
                last_run.load()
                summary = await reconciler.compare(manifest(*lines))
                if then:
                    await then()
                deleted = await delete_orphans(redis, keys, reconciler, LIMITS)
                last_run.save(summary.manifest)
                return deleted

        return once

    async def test_orphans_of_two_runs_are_deleted(
        self, run: Any, store: VectorStore, drainer: MakeDrainer, engine: Contents
    ) -> None:
        await write(store, *(memory(user_id, number) for user_id in (1, 2) for number in range(4)))
        lines = [line(0), line(0, 2), line(1)]
        assert await run(*lines) == Deleted(0, 0)
        await write(store, memory(1, 9))
        assert await run(*lines, line(2)) == Deleted(4, 0)  # 1_3, 2_1, 2_2, 2_3
        assert (await drainer().drain(0)).ending == "empty"
        assert engine.points(store.collections.name(MEMORIES)) == {
            "mem_1_0",
            "mem_2_0",
            "mem_1_1",
            "mem_1_2",
            "mem_1_9",
        }
        assert await run(*lines, line(2)) == Deleted(1, 0)
        assert (await drainer().drain(0)).ending == "empty"
        assert await run(*lines, line(2)) == Deleted(0, 0)

    async def test_deletes_wake_a_worker(self, run: Any, store: VectorStore, redis: Redis, keys: Keys) -> None:
        await write(store, memory(1, 1))
        for _ in range(2):
            await run(line(5))
        assert await redis.zscore(keys.drain_queue, keys.drain_job_id(0)) is not None
        assert int(await redis.hget(keys.backlog, "jobs")) == 1

    async def test_namespaces_and_documents(
        self, opened: Open, redis: Redis, keys: Keys, store: VectorStore, tmp_path: Path, drainer: MakeDrainer,
        engine: Contents,
    ) -> None:  # fmt: skip
        await write(store, memory(1, 1, namespace="feedback_positive"), chunk(1, 1, 1), memory(1, 1))
        for ref in (FEEDBACK, DOCUMENTS):
            for _ in range(2):
                async with opened(ref) as reconciler:
                    last_run = LastRun(tmp_path / f"{ref.kind}", keys, reconciler)
                    last_run.load()
                    await reconciler.compare(manifest())
                    await delete_orphans(redis, keys, reconciler, LIMITS)
                    last_run.save(1)
        assert (await drainer().drain(0)).ending == "empty"
        assert [engine.points(store.collections.name(ref)) for ref in (FEEDBACK, DOCUMENTS, MEMORIES)] == [
            set(),
            set(),
            {"mem_1_1"},
        ]

    @pytest.mark.parametrize("applied", [False, True])
    async def test_a_point_that_is_written_after_the_comparison_is_kept(
        self, run: Any, store: VectorStore, pushed: Push, drainer: MakeDrainer, engine: Contents, applied: bool
    ) -> None:
        await write(store, memory(1, 1), memory(1, 2), memory(1, 3))
        await run(line(9))

        async def write_again() -> None:
            await pushed(memory(1, 1))
            if applied:
                await drainer().drain(0)

        deleted = await run(line(9), then=write_again)
        await drainer().drain(0)
        left = engine.points(store.collections.name(MEMORIES))
        assert "mem_1_1" in left
        if deleted.pushed:  # otherwise the job was applied before it could be seen
            assert left == {"mem_1_1"}
        else:
            assert deleted == Deleted(0, 3)

    async def test_a_push_between_the_check_and_the_delete_is_noticed(
        self, run: Any, store: VectorStore, pushed: Push, drainer: MakeDrainer, engine: Contents,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        await write(store, memory(1, 1), memory(1, 2))
        await run(line(9))
        times, jobs, original = 0, [memory(1, 1)], orphans.push_if_unchanged

        async def push_first(*arguments: Any, **options: Any) -> bool:
            nonlocal times
            times += 1
            if jobs:
                await pushed(jobs.pop())
            return await original(*arguments, **options)

        monkeypatch.setattr(orphans, "push_if_unchanged", push_first)
        assert await run(line(9)) == Deleted(1, 0)
        assert times == 2
        await drainer().drain(0)
        assert engine.points(store.collections.name(MEMORIES)) == {"mem_1_1"}

    async def test_a_full_queue_refuses_deletes(
        self, run: Any, store: VectorStore, redis: Redis, keys: Keys, pushed: Push
    ) -> None:
        await publish_meta(redis, keys, QueueMeta(partitions=1, limits=LIMITS, max_jobs=1))
        await pushed(memory(7, 1))
        await write(store, memory(1, 1))
        await run(line(9))
        with pytest.raises(QueueFull):
            await run(line(9))

    async def test_the_state_of_another_collection_is_refused(self, opened: Open, keys: Keys, tmp_path: Path) -> None:
        path = tmp_path / "state"
        async with opened() as reconciler:
            run = LastRun(path, keys, reconciler)
            assert run.load() is None
            run.save(7)
            assert run.load() == 7
        async with opened(FEEDBACK) as reconciler:
            with pytest.raises(ConfigurationError, match="is about another queue, kind or namespace"):
                LastRun(path, keys, reconciler).load()
        path.write_text("nonsense")
        async with opened() as reconciler:
            with pytest.raises(ConfigurationError, match="is not the state"):
                LastRun(path, keys, reconciler).load()


@pytest.mark.parametrize(
    ("size", "last", "refused"),
    [(0, None, True), (0, 0, True), (1, None, False), (80, 100, False), (79, 100, True), (200, 100, False)],
)
def test_a_manifest_that_is_much_smaller_is_doubted(size: int, last: int | None, refused: bool) -> None:
    assert (refusal(size, last) is not None) == refused
