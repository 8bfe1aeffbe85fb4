"""A few seconds of the fuzzer; the long runs are made by hand, see ``fuzz_decoding.py``."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_decoding
from tests.fuzz.fuzz_decoding import bounded, one_input, plain
from tests.fuzz.mutations import SEEDS, TARGETS, Mutator, of_target

SECONDS = 3.0


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_every_seed_keeps_the_rules(number: int) -> None:
    one_input(SEEDS[number])


@pytest.mark.parametrize("seed", [1, 2])
def test_seeded_mutations_keep_the_rules(seed: int) -> None:
    plain(1_500, seed)


def test_fresh_mutations_keep_the_rules() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    mutator = Mutator(random.Random(seed), max_bytes=65_536)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        data = mutator.mutate(mutator.fresh())
        with bounded(data):
            one_input(data)


@settings(deadline=None, max_examples=200, print_blob=True)
@given(st.integers(0, TARGETS - 1), st.binary(max_size=300))
def test_arbitrary_bytes_keep_the_rules(target: int, data: bytes) -> None:
    one_input(of_target(target, data))


def test_what_takes_too_long_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_decoding, "MOST_SECONDS", 0.01)
    with pytest.raises(AssertionError, match="4 bytes took"), bounded(b"slow"):
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
