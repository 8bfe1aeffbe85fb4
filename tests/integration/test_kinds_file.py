"""A worker with a ``KINDS_FILE``: kinds of other dimensions, distances and user ids, side by side."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from qdrant_client import grpc as q
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract import Delete, Purge, Upsert, WriteJob, encode_job, partition_of
from memory_worker.contract.errors import ConfigurationError, DeadLettered, InvalidJob
from memory_worker.contract.vectors import pack_vector
from memory_worker.inspection.check import run_checks
from memory_worker.inspection.checks import Check
from memory_worker.inspection.status import collect_queue
from memory_worker.runtime.wiring import open_store
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import Contents, Dead, Events, MakeSettings, running
from tests.integration.jobs import PARTITIONS

ANNA, BERT = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
WIDE, NARROW, SMALL = 1536, 1024, 3
TIMEOUT_S = 20.0
HANDOVER_S = 60.0
"""Every two seconds, one of two workers takes a held partition. So it may take several turns."""


@dataclass(frozen=True)
class File:
    """A file of kinds, and the collection of its own kind."""

    path: Path
    notes: str


@pytest.fixture
def file(tmp_path: Path, shape: CollectionShape) -> File:
    """Memories of 1536 dimensions, documents of 1024, and notes of users whose ids are text."""
    path, notes = tmp_path / "kinds.toml", f"{shape.base('memory').removesuffix('-memories')}-notes"
    path.write_text(
        f"""
        [memory]
        dimension = {WIDE}

        [document]
        dimension = {NARROW}

        [note]
        collection = "{notes}"
        id_prefix = "note"
        dimension = {SMALL}
        distance = "dot"
        user_ids = "string"
        namespaces = true
        fields = {{ open = "bool", title = "str", category = "str" }}
        defaults = {{ open = true }}
        filter = {{ open = true }}
        narrowing = ["category"]
        """
    )
    return File(path, notes)


def unit(dimension: int, at: int) -> bytes:
    """Return the unit vector along one axis."""
    return pack_vector([float(number == at) for number in range(dimension)])


def memory(number: int, user_id: int = 7) -> Upsert:
    return Upsert(user_id=user_id, point_id=f"mem_{user_id}_{number}", vector=unit(WIDE, number))


def chunk(number: int, user_id: int = 7) -> Upsert:
    point_id, payload = f"doc_{user_id}_5_{number}", {"file_id": 5, "chunk_index": number}
    return Upsert(kind="document", user_id=user_id, point_id=point_id, vector=unit(NARROW, number), payload=payload)


def note(number: int, user_id: str = ANNA, *, vector: list[float] | None = None, **payload: object) -> Upsert:
    point_id = f"note_{user_id}_{number}"
    return Upsert(
        kind="note", user_id=user_id, point_id=point_id, vector=pack_vector(vector or [3, 4, 0]), payload=payload
    )


async def applied(queue: MemoryQueue, *jobs: WriteJob) -> None:
    """Push jobs, and wait until all of them are applied."""
    for receipt in await queue.push_many(jobs):
        await queue.wait_applied(receipt, timeout=TIMEOUT_S)


@pytest.fixture
def settings_of(settings: MakeSettings, file: File) -> Callable[..., Settings]:
    """Make the settings of a worker with the file."""
    return lambda **overrides: settings(kinds_file=file.path, **overrides)


async def test_kinds_are_served_side_by_side(
    settings_of: Callable[..., Settings], queue: MemoryQueue, file: File, shape: CollectionShape, engine: Contents
) -> None:
    async with running(settings_of()):
        await applied(
            queue,
            memory(1),
            memory(2),
            chunk(1),
            note(1, title="near", category="a"),
            note(2, vector=[6, 8, 0], category="b"),
            note(3, vector=[-3, -4, 0]),
            note(4, open=False),
            note(1, BERT),
        )

        assert engine.points(shape.base("memory")) == {"mem_7_1", "mem_7_2"}
        assert engine.points(shape.base("document")) == {"doc_7_5_1"}
        assert engine.payloads(file.notes)[f"note_{ANNA}_1"] == {
            "user_id": ANNA, "_point_id": f"note_{ANNA}_1", "title": "near", "category": "a", "open": True
        }  # fmt: skip
        assert {info.name: (info.kind, info.dimension, info.points) for info in await queue.info()} == {
            shape.base("memory"): ("memory", WIDE, 2),
            shape.base("document"): ("document", NARROW, 1),
            file.notes: ("note", SMALL, 5),
        }

        found = await queue.search(user_id=7, vector=unit(WIDE, 1))
        assert [(hit.point_id, hit.score) for hit in found] == [("mem_7_1", pytest.approx(1))]
        found = await queue.search(user_id=7, kind="document", vector=unit(NARROW, 1), file_id=5)
        assert [hit.point_id for hit in found] == ["doc_7_5_1"]
        found = await queue.search(user_id=ANNA, kind="note", vector=[1.0, 1.0, 0.0])
        assert [(hit.point_id, hit.score) for hit in found] == [
            (f"note_{ANNA}_2", pytest.approx(14)),
            (f"note_{ANNA}_1", pytest.approx(7)),
            (f"note_{ANNA}_3", pytest.approx(-7)),
        ]
        found = await queue.search(user_id=ANNA, kind="note", vector=[1.0, 1.0, 0.0], category="a")
        assert [hit.point_id for hit in found] == [f"note_{ANNA}_1"]

        got = await queue.get(user_id=ANNA, kind="note", point_ids=[f"note_{ANNA}_4", f"note_{ANNA}_9"])
        assert [(point.point_id, point.payload["open"]) for point in got] == [(f"note_{ANNA}_4", False)]


async def test_deletes_and_purges_reach_the_points_of_one_user(
    settings_of: Callable[..., Settings], queue: MemoryQueue, file: File, shape: CollectionShape, engine: Contents
) -> None:
    old = Upsert(kind="note", namespace="old", user_id=ANNA, point_id=f"note_{ANNA}_1", vector=pack_vector([1, 0, 0]))
    async with running(settings_of()):
        await applied(queue, note(1), note(2), note(3, category="a"), old, note(1, BERT), memory(1), chunk(1))
        await applied(queue, Delete(kind="note", user_id=ANNA, point_ids=[f"note_{ANNA}_1"]))
        assert engine.points(file.notes) == {f"note_{ANNA}_2", f"note_{ANNA}_3", f"note_{BERT}_1"}
        await applied(queue, Purge(kind="note", user_id=ANNA, category="a"))
        assert engine.points(file.notes) == {f"note_{ANNA}_2", f"note_{BERT}_1"}
        assert engine.points(f"{file.notes}_old") == {f"note_{ANNA}_1"}
        await applied(queue, Purge(kind="note", user_id=ANNA, namespace="old"))
        assert engine.points(f"{file.notes}_old") == set()

        await applied(queue, old, Purge(user_id=ANNA))
        assert engine.points(f"{file.notes}_old") == set()
        assert engine.points(file.notes) == {f"note_{BERT}_1"}
        assert engine.points(shape.base("memory")) == {"mem_7_1"}

        await applied(queue, Purge(user_id=7, kind="memory"))
        assert engine.points(shape.base("memory")) == set()
        assert engine.points(shape.base("document")) == {"doc_7_5_1"}
        await applied(queue, Purge(user_id=7))
        assert engine.points(shape.base("document")) == set()
        assert engine.points(file.notes) == {f"note_{BERT}_1"}


async def test_a_job_that_does_not_fit_its_kind_is_refused_or_becomes_a_dead_letter(
    settings_of: Callable[..., Settings], queue: MemoryQueue, redis: Redis, keys: Keys, dead_letters: Dead
) -> None:
    wrong: list[tuple[Upsert, str]] = [
        (Upsert(user_id=7, point_id="mem_7_1", vector=unit(NARROW, 1)), "vector: expected 1536 dimensions"),
        (note(1, vector=[1, 2, 3, 4]), "vector: expected 3 dimensions"),
        (Upsert(kind="note", user_id=7, point_id="note_7_1", vector=unit(SMALL, 1)), "'note' has string user ids"),
        (Upsert(user_id=ANNA, point_id=f"mem_{ANNA}_1", vector=unit(WIDE, 1)), "'memory' has integer user ids"),
        (note(1, open="yes"), "payload.open: expected a boolean, got text"),
    ]
    async with running(settings_of()):
        for job, problem in wrong:
            with pytest.raises(InvalidJob, match=problem):
                await queue.push_many([job])
        for job, _ in wrong:  # as from a producer that does not check
            (receipt,) = await push(redis, keys, PARTITIONS, [(partition_of(job.user_id, PARTITIONS), encode_job(job))])
            with pytest.raises(DeadLettered):
                await queue.wait_applied(receipt, timeout=TIMEOUT_S)
        details = sorted((letter.user_id, letter.detail) for letter in await dead_letters())
        assert [user for user, _ in details] == [ANNA, ANNA, ANNA, "7", "7"]
        for _, problem in wrong:
            assert any(problem in detail for _, detail in details)


async def test_a_worker_that_cannot_use_its_collections_leaves_the_published_kinds(
    settings_of: Callable[..., Settings], redis: Redis, keys: Keys, file: File
) -> None:
    async with running(settings_of()):
        published = await redis.hget(keys.meta, "kinds")
    _replace(file.path, (f"dimension = {WIDE}", "dimension = 7"))
    with pytest.raises(ConfigurationError, match=r"has dimension 1536, but memory.dimension in KINDS_FILE is 7"):
        async with running(settings_of()):
            pass
    assert await redis.hget(keys.meta, "kinds") == published


async def test_a_job_of_an_unknown_kind_waits_for_a_worker_that_has_it(
    settings: MakeSettings,
    settings_of: Callable[..., Settings],
    queue: MemoryQueue,
    redis: Redis,
    keys: Keys,
    events: Events,
    dead_letters: Dead,
    file: File,
    engine: Contents,
) -> None:
    partition = partition_of(ANNA, PARTITIONS)
    async with running(settings(qdrant_vector_dimension=WIDE, kinds_file=_without_notes(file))):
        first, behind = await push(
            redis, keys, PARTITIONS, [(partition, encode_job(note(1))), (partition, encode_job(note(2)))]
        )
        held = (await events.wait_for("partition_held"))[0]
        assert held == {"partition": partition, "needs": "kind 'note'"}
        states = (await collect_queue(redis, keys)).partitions
        assert [(state.waiting, state.held, state.needs) for state in states if state.waiting] == [
            (2, True, "kind 'note'")
        ]

        async with running(settings_of()):
            for receipt in (first, behind):
                await queue.wait_applied(receipt, timeout=HANDOVER_S)
            assert not any(state.held for state in (await collect_queue(redis, keys)).partitions)
        assert engine.points(file.notes) == {f"note_{ANNA}_1", f"note_{ANNA}_2"}
    assert await dead_letters() == []


def _without_notes(file: File) -> Path:
    path = file.path.with_name("without-notes.toml")
    path.write_text(file.path.read_text().partition("[note]")[0])
    return path


class TestCheck:
    @pytest.fixture
    def look(self, redis: Redis) -> Callable[..., object]:
        async def look(chosen: Settings) -> dict[str, Check]:
            async with open_store(chosen, redis) as store:
                return {check.name: check async for check in run_checks(chosen, redis, store)}

        return look

    async def test_kinds_are_shown_and_compared_with_the_published_ones(
        self, settings_of: Callable[..., Settings], look: Callable[..., object], file: File, shape: CollectionShape
    ) -> None:
        found = await look(settings_of())
        assert found["kind memory"].seen == (
            f"{shape.base('memory')}: 1536 dimensions, cosine, integer user ids, namespaces"
        )
        assert found["kind document"].seen == f"{shape.base('document')}: 1024 dimensions, cosine, integer user ids"
        assert found["kind note"].seen == f"{file.notes}: 3 dimensions, dot, string user ids, namespaces"
        assert found["published kinds"].verdict == "ok"
        async with running(settings_of()):
            assert (await look(settings_of()))["published kinds"].seen == "the same as in these settings"

        _replace(
            file.path, ("[document]\n", ""), (f"dimension = {NARROW}\n", ""), ("dimension = 3\n", "dimension = 4\n")
        )
        found = await look(settings_of())
        assert found["published kinds"].verdict == "warning"
        assert found["published kinds"].seen == (
            "document is published, but not in these settings; note.dimension is 3, but 4 in these settings"
        )
        assert found["kinds of collections"].seen == "registered, but their kinds are not in the settings: document"
        assert found[f"collection {file.notes}"].verdict == "failed"
        assert "has dimension 3, but note.dimension in KINDS_FILE is 4" in found[f"collection {file.notes}"].seen

    async def test_collections_that_do_not_fit_are_named(
        self, settings_of: Callable[..., Settings], look: Callable[..., object], file: File, engine: Contents
    ) -> None:
        engine.create(file.notes, size=SMALL, distance=q.Distance.Cosine)
        found = (await look(settings_of()))[f"collection {file.notes}"]
        assert (found.verdict, found.seen) == (
            "failed", f"collection {file.notes} measures Cosine distance; Dot is expected"
        )  # fmt: skip
        engine.drop(file.notes)
        engine.create(file.notes, size=SMALL, distance=q.Distance.Dot)
        found = (await look(settings_of()))[f"collection {file.notes}"]
        assert (found.verdict, found.seen) == ("warning", "no index on _point_id, category, open, user_id")
        for field, index in (
            ("_point_id", q.FieldType.FieldTypeKeyword),
            ("category", q.FieldType.FieldTypeKeyword),
            ("open", q.FieldType.FieldTypeBool),
            ("user_id", q.FieldType.FieldTypeInteger),
        ):
            engine.index(file.notes, field, index)
        found = (await look(settings_of()))[f"collection {file.notes}"]
        assert (found.verdict, found.seen) == ("warning", "index of another type on user_id (integer, not keyword)")
        assert "restart a worker" in found.advice

    async def test_held_partitions_are_told(
        self,
        settings: MakeSettings,
        look: Callable[..., object],
        redis: Redis,
        keys: Keys,
        file: File,
        events: Events,
    ) -> None:
        chosen = settings(qdrant_vector_dimension=WIDE, kinds_file=_without_notes(file))
        async with running(chosen):
            await push(redis, keys, PARTITIONS, [(partition_of(ANNA, PARTITIONS), encode_job(note(1)))])
            await events.wait_for("partition_held")
            found = (await look(chosen))["held partitions"]
        assert (found.verdict, found.seen) == ("warning", "1 of 4 wait for a worker with kind 'note'")


def _replace(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for before, after in changes:
        text = text.replace(before, after)
    path.write_text(text)
