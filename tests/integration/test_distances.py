"""Kinds whose scores are distances: lower is better."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from memory_worker.contract import Limits, Search, Upsert, checked
from memory_worker.contract.kind_specs import KindSpec, kinds_of
from memory_worker.contract.vectors import pack_vector
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.reader import Read
from memory_worker.store.registry import Registry
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from tests.integration.conftest import API_KEY
from tests.integration.jobs import DIMENSION


def at(distance: float) -> bytes:
    return pack_vector([distance] + [0.0] * (DIMENSION - 1))


@pytest.fixture(params=["euclid", "manhattan", "dot"])
def spaces(shape: CollectionShape, request: pytest.FixtureRequest) -> CollectionShape:
    """A kind with this distance."""
    spec = KindSpec(
        collection=f"{shape.base('memory')}-places", id_prefix="place", distance=request.param, namespaces=True
    )
    return replace(shape, kinds=kinds_of({"place": spec}))


@pytest.fixture
async def places(qdrant_url: str, spaces: CollectionShape, registry: Registry) -> AsyncIterator[VectorStore]:
    """A store with places at the distances 1 to 4, and in a namespace at 1.5 to 4.5."""
    limits = Limits(dimension=DIMENSION, kinds=spaces.kinds)
    async with VectorStore(qdrant_url, spaces, registry=registry, api_key=API_KEY) as opened:
        for namespace, offset in ((None, 0), ("half", 0.5)):
            points = tuple(
                checked(
                    Upsert(
                        kind="place", namespace=namespace, user_id=1, point_id=f"place_1_{n}", vector=at(n + offset)
                    ),
                    limits,
                )
                for n in (3, 1, 4, 2)
            )
            await opened.apply(CollectionRef("place", namespace), [UpsertPoints(points)], timeout_s=30)
        yield opened


async def test_the_best_score_comes_first(places: VectorStore, spaces: CollectionShape) -> None:
    kind = spaces.kinds["place"]
    limits = Limits(dimension=DIMENSION, kinds=spaces.kinds)

    async def scores(origin: float = 0, **options: Any) -> list[float]:
        job = checked(Search(kind="place", user_id=1, vector=at(origin), **options), limits)
        return [hit.score for hit in await places.searches.search(job, Read(5))]

    if kind.distance == "dot":
        assert await scores(1, min_score=1.9) == [4, 3, 2]
        assert await scores(1, namespaces=["half", None], limit=3) == [4.5, 4, 3.5]
        return
    assert await scores() == [1, 2, 3, 4]  # by default there is no largest distance
    assert await scores(min_score=2.1) == [1, 2]
    assert await scores(namespaces=[None, "half"], limit=3) == [1, 1.5, 2]
    assert await scores(namespaces=[None, "half"], min_score=2.6, limit=10) == [1, 1.5, 2, 2.5]
    like = checked(Search(kind="place", user_id=1, like="place_1_1", limit=2), limits)
    hits = await places.searches.search(like, Read(5))
    assert [(hit.point_id, hit.score) for hit in hits] == [("place_1_2", 1), ("place_1_3", 2)]
    assert {(info.distance, info.kind) for info in await places.info()} == {(kind.distance, "place")}
