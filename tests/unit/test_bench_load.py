"""The load: the same for the same seed, and the same for everybody who is measured."""

from __future__ import annotations

import pytest

from memory_worker.bench.load import Load
from memory_worker.contract import Limits, checked, encode_write, normalize_job
from memory_worker.contract.kinds import primary_id
from memory_worker.contract.vectors import pack_vector, unpack_vector

DIMENSION = 8


def load(seed: int = 1, users: int = 10, stock: int = 0) -> Load:
    return Load(seed=seed, users=users, dimension=DIMENSION, stock=stock)


def test_the_seed_decides_everything() -> None:
    assert list(load(seed=1).writes(0, 20)) == list(load(seed=1).writes(0, 20))
    assert load(seed=1).vector(0) != load(seed=2).vector(0)


def test_vectors_differ_as_long_as_they_can() -> None:
    of = load()
    vectors = {of.vector(number) for number in range(512 * DIMENSION)}
    assert len(vectors) == 512 * DIMENSION


@pytest.mark.parametrize("number", [0, 1, 511, 512, 5_000])
def test_a_vector_is_the_same_packed_and_as_numbers(number: int) -> None:
    assert pack_vector(load().numbers(number)) == load().vector(number)


def test_points_are_valid_jobs_whichever_way_they_are_given() -> None:
    limits = Limits(dimension=DIMENSION)
    write = load().write(42)
    assert checked(write, limits)
    assert encode_write(normalize_job(type(write)(**load().arguments(42))), limits) == encode_write(write, limits)


def test_what_a_peer_stores_is_what_we_store() -> None:
    write, stored = load().write(42), load().stored(42)
    assert stored["id"] == primary_id(write.point_id)
    assert stored["vector"] == unpack_vector(write.vector).tolist()  # type: ignore[arg-type]
    assert stored["payload"] == {**write.payload, "user_id": write.user_id, "_point_id": write.point_id}


def test_what_is_written_later_belongs_to_others_than_what_is_read() -> None:
    stock, of = 25, load(stock=25)
    assert {of.user(of.asked(number)) for number in range(100)} == set(range(1, 11))
    assert {of.user(number) for number in range(stock, stock + 50)} == set(range(11, 21))
    assert len({of.point_id(number) for number in range(200)}) == 200


def test_it_is_known_how_much_a_search_finds() -> None:
    of = load(users=10, stock=25)
    for number in range(25):
        owned = sum(of.user(other) == of.user(number) for other in range(25))
        assert of.findable(number) == min(5, owned)
    assert load(users=2, stock=100).findable(7) == 5
