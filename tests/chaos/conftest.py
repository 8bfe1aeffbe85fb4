"""Options of the chaos suite."""

from __future__ import annotations

import pytest


@pytest.fixture
def ops(pytestconfig: pytest.Config) -> int:
    """``--ops``: the number of jobs that are pushed while there are faults."""
    return int(pytestconfig.getoption("--ops"))


@pytest.fixture
def rate(pytestconfig: pytest.Config) -> float:
    """``--rate``: the most jobs that are pushed in a second."""
    return float(pytestconfig.getoption("--rate"))
