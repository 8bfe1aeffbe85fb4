"""Options of the chaos suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer
from tests.topologies import ClusterTopology, SentinelTopology, Topology


@pytest.fixture
def ops(pytestconfig: pytest.Config) -> int:
    """``--ops``: the number of jobs that are pushed while there are faults."""
    return int(pytestconfig.getoption("--ops"))


@pytest.fixture
def rate(pytestconfig: pytest.Config) -> float:
    """``--rate``: the most jobs that are pushed in a second."""
    return float(pytestconfig.getoption("--rate"))


@pytest.fixture
def queue_redis(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[RedisServer | Topology]:
    """``--topology``: one server, or several of which one is the primary."""
    made = {"single": RedisServer, "sentinel": SentinelTopology, "cluster": ClusterTopology}
    redis = made[pytestconfig.getoption("--topology")](tmp_path / "redis")
    try:
        redis.start()
        yield redis
    finally:
        redis.close()
