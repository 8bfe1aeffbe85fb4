"""How long and with which seed the chaos suite runs."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def ops(pytestconfig: pytest.Config) -> int:
    """``--ops``: how many jobs are pushed while the nemesis rages."""
    return int(pytestconfig.getoption("--ops"))


@pytest.fixture
def rate(pytestconfig: pytest.Config) -> float:
    """``--rate``: how many jobs a second are pushed at most."""
    return float(pytestconfig.getoption("--rate"))


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """``--seed``, or a fresh one; printed either way."""
    given = pytestconfig.getoption("--seed")
    number = random.randrange(2**32) if given is None else int(given)
    print(f"--seed {number}")
    return number
