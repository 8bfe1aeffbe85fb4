"""Check a Redis server: its version, mode, eviction, persistence and role.

Workers do so when they start, and so does the command ``check``. All facts are from INFO, because most managed servers
and the users of deploy/redis/users.acl refuse CONFIG.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import ConfigurationError
from memory_worker.wire.asking import primaries_in
from memory_worker.wire.connection import queue_request
from memory_worker.wire.primaries import HASH_TAG, ClusterPrimaries, Primaries, SentinelPrimaries

Verdict = Literal["ok", "warning", "failed"]

_OLDEST_VERSION = 7
_MIB = 1_048_576


class ServerCheck(msgspec.Struct, frozen=True):
    """The result of one check: its name, the verdict, what was ``seen``, and advice.

    ``refused`` means that no worker starts with such a server.
    """

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""
    refused: bool = False


async def check_server(redis: Redis, *, allow_eviction: bool, prefix: str) -> list[ServerCheck]:
    """Check a Redis server for the queue ``prefix``. Raises `QueueUnavailable`."""
    with queue_request("info"):
        info: dict[str, Any] = await redis.info()
    primaries = primaries_in(redis)
    checks = check_info(info, allow_eviction=allow_eviction, prefix=prefix, primaries=primaries)
    if primaries is not None:
        checks.append(await _primary(primaries, int(info.get("connected_slaves") or 0)))
    return checks


def check_info(
    info: dict[str, Any], *, allow_eviction: bool, prefix: str = "mw", primaries: Primaries | None = None
) -> list[ServerCheck]:
    """Check the INFO of a Redis server, which ``primaries`` have found."""
    checks = [
        _version(str(info.get("valkey_version") or info.get("redis_version") or "unknown")),
        _cluster(bool(info.get("cluster_enabled")), prefix, primaries),
        _eviction(info.get("maxmemory_policy"), int(info.get("maxmemory") or 0), allowed=allow_eviction),
        _persistence(bool(info.get("aof_enabled")), str(info.get("aof_last_write_status", "ok"))),
    ]
    if info.get("role") not in (None, "master"):
        checks.append(ServerCheck("Redis role", "failed", str(info["role"]), "REDIS_URL must lead to the primary."))
    return checks


def refuse_unsafe(checks: list[ServerCheck]) -> None:
    """Raise `ConfigurationError` if no worker may start with this server. It names all failed checks."""
    refused = [check for check in checks if check.refused]
    if refused:
        raise ConfigurationError("; ".join(f"{check.name}: {check.seen}. {check.advice}" for check in refused))


def _version(version: str) -> ServerCheck:
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) >= _OLDEST_VERSION:
        return ServerCheck("Redis version", "ok", version)
    verdict: Verdict = "failed" if major.isdecimal() else "warning"
    return ServerCheck("Redis version", verdict, version, f"Redis {_OLDEST_VERSION} or newer, or Valkey, is needed.")


def _cluster(enabled: bool, prefix: str, primaries: Primaries | None) -> ServerCheck:
    if not enabled:
        return ServerCheck("Redis Cluster", "ok", "a single primary")
    if isinstance(primaries, ClusterPrimaries):
        return ServerCheck("Redis Cluster", "ok", f"the queue {prefix} is in slot {primaries.slot:,}")
    untagged = HASH_TAG.search(prefix) is None
    return ServerCheck(
        "Redis Cluster",
        "failed" if untagged else "warning",
        "REDIS_URL leads to a node of a Redis Cluster",
        "Write redis+cluster:// instead of redis://, so that workers find the node that has the queue. "
        "QUEUE_PREFIX needs a hash tag, such as {mw}, because a job and its wakeup must be stored in one step.",
        refused=untagged,
    )


async def _primary(primaries: Primaries, replicas: int) -> ServerCheck:
    seen = f"{primaries.found}, {replicas} {'replica' if replicas == 1 else 'replicas'}"
    if isinstance(primaries, SentinelPrimaries):
        with queue_request("sentinels"):
            count = await primaries.count_sentinels()
        seen += f", {count} {'Sentinel' if count == 1 else 'Sentinels'} of {primaries.service}"
    if not replicas:
        return ServerCheck("Redis primary", "warning", seen, "Without a replica there can be no failover.")
    return ServerCheck("Redis primary", "ok", seen)


def _eviction(policy: str | None, limit_bytes: int, *, allowed: bool) -> ServerCheck:
    if policy is None:
        return ServerCheck("Redis eviction", "warning", "unknown", "Make sure that maxmemory-policy is noeviction.")
    if policy == "noeviction":
        return ServerCheck("Redis eviction", "ok", policy)
    seen = f"{policy}, maxmemory {limit_bytes // _MIB:,} MiB" if limit_bytes else f"{policy}, no maxmemory yet"
    advice = "Set maxmemory-policy noeviction: evicted jobs are lost."
    if allowed:
        return ServerCheck("Redis eviction", "warning", seen, f"{advice} REDIS_ALLOW_EVICTION is set.")
    if limit_bytes:
        advice = f"{advice} Or set REDIS_ALLOW_EVICTION=true to accept that."
    return ServerCheck("Redis eviction", "failed", seen, advice, refused=limit_bytes > 0)


def _persistence(append_only: bool, last_write: str) -> ServerCheck:
    if not append_only:
        return ServerCheck(
            "Redis persistence", "warning", "append-only file off", "Set appendonly yes: a restart loses jobs."
        )
    if last_write != "ok":
        return ServerCheck("Redis persistence", "failed", f"last write: {last_write}", "Is Redis's disk full?")
    return ServerCheck("Redis persistence", "ok", "append-only file on")
