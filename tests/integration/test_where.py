"""Conditions on fields, compared with the same conditions in Python, on random points."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from memory_worker.contract import Count, FieldCondition, Limits, List, Search, Upsert, checked
from memory_worker.contract.kind_specs import KindSpec, kinds_of
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.reader import Read
from memory_worker.store.registry import Registry
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY
from tests.integration.jobs import DIMENSION, axis

POINTS = 80
CONDITIONS = 150
VALUES: dict[str, list[Any]] = {
    "text": ["", "a", "b", "Ä", "7"],
    "loose_text": ["", "a", "b", "Ä", "7"],
    "number": [-(2**53), -1, 0, 1, 7, 2**53],
    "loose_number": [-(2**53), -1, 0, 1, 7, 2**53],
    "flag": [True, False],
    "loose_flag": [True, False],
    "weight": [-1.5, 0.0, 0.25, 7.0],
}
NUMBERS = ("number", "loose_number", "weight")
TYPES = {str: "str", int: "int", bool: "bool", float: "float"}


@pytest.fixture
def notes(shape: CollectionShape) -> CollectionShape:
    """A kind with fields of all types, some of them indexed."""
    spec = KindSpec(
        collection=f"{shape.base('memory')}-notes",
        id_prefix="note",
        fields={name: TYPES[type(values[0])] for name, values in VALUES.items()},  # type: ignore[misc]
        indexes={"text": "keyword", "number": "integer", "flag": "bool"},
    )
    return replace(shape, kinds=kinds_of({"note": spec}))


@pytest.fixture
async def note_store(qdrant_url: str, notes: CollectionShape, registry: Registry) -> AsyncIterator[VectorStore]:
    async with VectorStore(qdrant_url, notes, registry=registry, api_key=API_KEY) as opened:
        yield opened


def random_payload(chosen: random.Random) -> dict[str, Any]:
    payload = {}
    for name, values in VALUES.items():
        match chosen.randrange(5):
            case 0:
                pass
            case 1:
                payload[name] = None
            case _:
                payload[name] = chosen.choice(values)
    return payload


def random_condition(chosen: random.Random, field: str) -> Any:
    values = VALUES[field]
    tests: dict[str, Any] = {}
    if field != "weight":
        if chosen.random() < 0.2:
            return chosen.choice(values)
        for name in ("is_", "any", "not_any"):
            if chosen.random() < 0.4:
                some = chosen.sample(values, chosen.randint(1, min(3, len(values))))
                tests[name] = some[0] if name == "is_" else some
    if field in NUMBERS:
        for name in ("gte", "lte"):
            if chosen.random() < 0.4:
                tests[name] = chosen.choice([*values, 0.5])
    if not tests:
        return random_condition(chosen, field)
    return FieldCondition(**tests, or_absent=chosen.random() < 0.5)


def holds(payload: dict[str, Any], field: str, condition: Any) -> bool:
    value = payload.get(field)
    if not isinstance(condition, FieldCondition):
        return bool(value == condition)
    tests = {name: getattr(condition, name) for name in ("is_", "any", "not_any", "gte", "lte")}
    tests = {name: test for name, test in tests.items() if test is not FieldCondition().is_}
    if value is None:
        return bool(condition.or_absent)
    return all(
        {
            "is_": lambda test: value == test,
            "any": lambda test: value in test,
            "not_any": lambda test: value not in test,
            "gte": lambda test: value >= test,
            "lte": lambda test: value <= test,
        }[name](test)
        for name, test in tests.items()
    )


async def test_conditions_select_the_same_points_as_in_python(
    note_store: VectorStore, notes: CollectionShape, seed: int
) -> None:
    chosen = random.Random(seed)
    limits = Limits(dimension=DIMENSION, kinds=notes.kinds)
    payloads = {f"note_1_{number}": random_payload(chosen) for number in range(POINTS)}
    points = [
        checked(Upsert(kind="note", user_id=user, point_id=name, vector=axis(0), payload=payload), limits)
        for user in (1, 2)
        for name, payload in ((name.replace("_1_", f"_{user}_"), payload) for name, payload in payloads.items())
    ]
    await note_store.apply(CollectionRef("note"), [UpsertPoints(tuple(points))], timeout_s=30)
    for _ in range(CONDITIONS):
        fields = chosen.sample(list(VALUES), chosen.randint(1, 3))
        where = {field: random_condition(chosen, field) for field in fields}
        expected = {
            name
            for name, payload in payloads.items()
            if all(holds(payload, field, condition) for field, condition in where.items())
        }
        search = checked(Search(kind="note", user_id=1, vector=axis(0), limit=200, where=where), limits)
        hits = await note_store.searches.search(search, Read(5))
        assert {hit.point_id for hit in hits} == expected, where
        count = checked(Count(kind="note", user_id=1, where=where), limits)
        assert await note_store.facets.count(count, Read(5)) == len(expected), where
    listing = checked(List(kind="note", user_id=1, limit=1000, where={}), limits)
    assert len((await note_store.listing.page(listing, Read(5))).points) == POINTS
