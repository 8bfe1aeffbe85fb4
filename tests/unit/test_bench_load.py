"""The load: the same for the same seed, and the same for everybody who is measured."""

from __future__ import annotations

import pytest

from memory_worker.bench.load import Load
from memory_worker.contract import Limits, Upsert, checked
from memory_worker.contract.kinds import primary_id
from memory_worker.contract.vectors import unpack_vector

DIMENSION = 8


def load(seed: int = 1, users: int = 10, stock: int = 0) -> Load:
    return Load(seed=seed, users=users, dimension=DIMENSION, stock=stock)


def test_the_seed_decides_everything() -> None:
    assert [load(seed=1).arguments(number) for number in range(20)] == [
        load().arguments(number) for number in range(20)
    ]
    assert load(seed=1).numbers(0) != load(seed=2).numbers(0)


def test_vectors_differ_as_long_as_they_can() -> None:
    of = load()
    vectors = {tuple(of.numbers(number)) for number in range(512 * DIMENSION)}
    assert len(vectors) == 512 * DIMENSION


@pytest.mark.parametrize("number", [0, 1, 511, 512, 5_000])
def test_points_are_valid_jobs(number: int) -> None:
    assert checked(Upsert(**load().arguments(number)), Limits(dimension=DIMENSION))


def test_a_peer_stores_what_we_store() -> None:
    write, stored = checked(Upsert(**load().arguments(42)), Limits(dimension=DIMENSION)), load().stored(42)
    assert stored["id"] == primary_id(write.point_id)
    assert stored["vector"] == unpack_vector(write.vector).tolist()
    assert stored["payload"] == {**write.payload, "user_id": write.user_id, "_point_id": write.point_id}


def test_later_writes_belong_to_other_users_than_those_that_are_read() -> None:
    of = load(stock=25)
    assert {of.query(number).user_id for number in range(100)} == set(range(1, 11))
    assert {of.id(number)["user_id"] for number in range(25, 75)} == set(range(11, 21))
    assert len({of.id(number)["point_id"] for number in range(200)}) == 200


def test_a_search_must_find_all_points_of_its_user_up_to_the_limit() -> None:
    of = load(users=10, stock=25)
    for number in range(25):
        owned = sum(of.id(other)["user_id"] == of.id(number)["user_id"] for other in range(25))
        assert of.query(number).expected == min(5, owned)
    assert load(users=2, stock=100).query(7).expected == 5
