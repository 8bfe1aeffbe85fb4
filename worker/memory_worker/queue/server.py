"""Judges a Redis server: its version, mode, eviction, persistence and role. Used at a worker's start and by `check`.

Only INFO is asked: CONFIG is refused by most managed servers, and by the users of deploy/redis/users.acl.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.errors import ConfigurationError
from memory_worker.wire.connection import queue_request

Verdict = Literal["ok", "warning", "failed"]

OLDEST = 7
_MIB = 1_048_576


class Judgement(msgspec.Struct, frozen=True):
    """What was looked at, the verdict, what was seen, and what to do.

    ``refused``: no worker starts on such a server.
    """

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""
    refused: bool = False


async def judge_server(redis: Redis, *, allow_eviction: bool) -> list[Judgement]:
    """Return what is to be said about this Redis; raises `QueueUnavailable`."""
    with queue_request("info"):
        info: dict[str, Any] = await redis.info()
    return judge_info(info, allow_eviction=allow_eviction)


def judge_info(info: dict[str, Any], *, allow_eviction: bool) -> list[Judgement]:
    """Return what is to be said about a Redis with this INFO."""
    found = [
        _version(str(info.get("valkey_version") or info.get("redis_version") or "unknown")),
        _cluster(bool(info.get("cluster_enabled"))),
        _eviction(info.get("maxmemory_policy"), int(info.get("maxmemory") or 0), allowed=allow_eviction),
        _persistence(bool(info.get("aof_enabled")), str(info.get("aof_last_write_status", "ok"))),
    ]
    if info.get("role") not in (None, "master"):
        found.append(Judgement("Redis role", "failed", str(info["role"]), "REDIS_URL must lead to the primary."))
    return found


def refuse_unsafe(judgements: list[Judgement]) -> None:
    """Raise `ConfigurationError` with all that a worker must not start on."""
    refused = [one for one in judgements if one.refused]
    if refused:
        raise ConfigurationError("; ".join(f"{one.name}: {one.seen}. {one.advice}" for one in refused))


def _version(version: str) -> Judgement:
    major = version.partition(".")[0]
    if not major.isdecimal():
        return Judgement("Redis version", "warning", version, f"Redis {OLDEST} or newer, or Valkey, is needed.")
    if int(major) < OLDEST:
        return Judgement("Redis version", "failed", version, f"Redis {OLDEST} or newer, or Valkey, is needed.")
    return Judgement("Redis version", "ok", version)


def _cluster(enabled: bool) -> Judgement:
    if enabled:
        return Judgement(
            "Redis Cluster",
            "failed",
            "REDIS_URL leads to a node of a Redis Cluster",
            "Use a single primary, with replicas if you like: a job and its wakeup must be stored in one step.",
            refused=True,
        )
    return Judgement("Redis Cluster", "ok", "a single primary")


def _eviction(policy: str | None, limit_bytes: int, *, allowed: bool) -> Judgement:
    if policy is None:
        return Judgement("Redis eviction", "warning", "unknown", "Make sure that maxmemory-policy is noeviction.")
    if policy == "noeviction":
        return Judgement("Redis eviction", "ok", policy)
    seen = f"{policy}, maxmemory {limit_bytes // _MIB:,} MiB" if limit_bytes else f"{policy}, no maxmemory yet"
    advice = "Set maxmemory-policy noeviction: evicted jobs are lost."
    if allowed:
        return Judgement("Redis eviction", "warning", seen, f"{advice} REDIS_ALLOW_EVICTION is set.")
    if limit_bytes:
        advice = f"{advice} Or set REDIS_ALLOW_EVICTION=true, and accept that."
    return Judgement("Redis eviction", "failed", seen, advice, refused=limit_bytes > 0)


def _persistence(append_only: bool, last_write: str) -> Judgement:
    if not append_only:
        return Judgement(
            "Redis persistence", "warning", "append-only file off", "Set appendonly yes: a restart loses jobs."
        )
    if last_write != "ok":
        return Judgement("Redis persistence", "failed", f"last write: {last_write}", "Is Redis's disk full?")
    return Judgement("Redis persistence", "ok", "append-only file on")
