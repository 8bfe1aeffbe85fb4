"""A short run of the fuzzer. Long runs are started by hand, see ``fuzz_decoding.py``."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_decoding import one_input, plain
from tests.fuzz.mutations import SEEDS, TARGETS, of_target


@pytest.mark.parametrize("seed", [1, 2, random.SystemRandom().randrange(2**32)], ids=["one", "two", "a new one"])
def test_seeds_and_their_mutations_keep_the_rules(seed: int) -> None:
    print(f"seed {seed}")
    plain(len(SEEDS) + 1_500, seed)


@settings(deadline=None, max_examples=200, print_blob=True)
@given(st.integers(0, TARGETS - 1), st.binary(max_size=300))
def test_arbitrary_bytes_keep_the_rules(target: int, data: bytes) -> None:
    one_input(of_target(target, data))
