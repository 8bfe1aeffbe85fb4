"""The checks of a Redis server, and which failures keep a worker from starting."""

from __future__ import annotations

from typing import Any

import pytest

from memory_worker.contract.errors import ConfigurationError
from memory_worker.queue.server import ServerCheck, check_info, refuse_unsafe

GOOD: dict[str, Any] = {
    "redis_version": "7.2.4",
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "role": "master",
}
LIMIT = {"maxmemory": 100 * 1_048_576}


def judged(name: str, *, allow: bool = False, **info: Any) -> ServerCheck:
    (found,) = [one for one in check_info({**GOOD, **info}, allow_eviction=allow) if one.name == name]
    return found


def test_a_good_server_is_ok() -> None:
    judgements = check_info(GOOD, allow_eviction=False)
    assert {one.verdict for one in judgements} == {"ok"}
    refuse_unsafe(judgements)


@pytest.mark.parametrize(
    ("info", "allow", "verdict", "refused"),
    [
        ({"maxmemory_policy": "noeviction", **LIMIT}, False, "ok", False),
        ({"maxmemory_policy": "allkeys-lru", **LIMIT}, False, "failed", True),
        ({"maxmemory_policy": "volatile-ttl", **LIMIT}, False, "failed", True),
        ({"maxmemory_policy": "allkeys-lru", **LIMIT}, True, "warning", False),
        ({"maxmemory_policy": "allkeys-lru"}, False, "failed", False),
        ({"maxmemory_policy": "allkeys-lru"}, True, "warning", False),
        ({"maxmemory_policy": None, **LIMIT}, False, "warning", False),
    ],
)
def test_the_check_of_eviction(info: dict[str, Any], allow: bool, verdict: str, refused: bool) -> None:
    found = judged("Redis eviction", allow=allow, **info)
    assert (found.verdict, found.refused) == (verdict, refused)
    assert verdict == "ok" or "noeviction" in found.advice


@pytest.mark.parametrize(
    ("name", "info", "verdict", "refused"),
    [
        ("Redis Cluster", {"cluster_enabled": 1}, "failed", True),
        ("Redis version", {"redis_version": "6.2.14"}, "failed", False),
        ("Redis version", {"redis_version": "7.2.4", "valkey_version": "9.1.0"}, "ok", False),
        ("Redis version", {"redis_version": None}, "warning", False),
        ("Redis persistence", {"aof_enabled": 0}, "warning", False),
        ("Redis persistence", {"aof_last_write_status": "err"}, "failed", False),
        ("Redis role", {"role": "slave"}, "failed", False),
    ],
)
def test_the_other_checks(name: str, info: dict[str, Any], verdict: str, refused: bool) -> None:
    found = judged(name, **info)
    assert (found.verdict, found.refused) == (verdict, refused)


def test_a_node_of_a_cluster_may_have_a_queue_with_a_hash_tag() -> None:
    node = {**GOOD, "cluster_enabled": 1}
    (found,) = (one for one in check_info(node, allow_eviction=False, prefix="{mw}") if one.name == "Redis Cluster")
    assert (found.verdict, found.refused) == ("warning", False)
    assert "redis+cluster://" in found.advice


def test_a_refusal_names_the_problem_and_the_fix() -> None:
    judgements = check_info({**GOOD, **LIMIT, "maxmemory_policy": "allkeys-lru"}, allow_eviction=False)
    with pytest.raises(ConfigurationError) as refused:
        refuse_unsafe(judgements)
    assert "Redis eviction: allkeys-lru, maxmemory 100 MiB. Set maxmemory-policy noeviction" in str(refused.value)
    assert "REDIS_ALLOW_EVICTION=true" in str(refused.value)
