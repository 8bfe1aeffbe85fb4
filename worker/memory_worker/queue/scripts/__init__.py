"""The Lua scripts, one atomic step each, and how they are run."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

from arq.connections import ArqRedis
from redis.exceptions import NoScriptError

from memory_worker.errors import NotReplicated

REPLICATION_TIMEOUT_S = 1.0
"""How long replicas may take to confirm a write, where their confirmation is asked for."""


_USE = re.compile(r"^-- use (\w+)\n", re.MULTILINE)


@cache
def source(name: str) -> str:
    """Return the text of the script ``name``, with the parts that it uses (``-- use reading``) in their places."""
    return _with_parts(_text(f"{name}.lua"))


def _with_parts(text: str) -> str:
    return _USE.sub(lambda use: _with_parts(_text(f"parts/{use[1]}.lua")), text)


def _text(path: str) -> str:
    return resources.files(__name__).joinpath(path).read_text(encoding="utf-8")


@cache
def _digest(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


async def run(redis: ArqRedis, name: str, keys: list[str], args: list[Any]) -> Any:
    """Run the script ``name`` in one round trip; in two where Redis does not have it yet."""
    try:
        return await redis.evalsha(_digest(name), len(keys), *keys, *args)  # type: ignore[misc]  # sync or async in the stubs
    except NoScriptError:
        return await redis.eval(source(name), len(keys), *keys, *args)  # type: ignore[misc]


async def run_replicated(
    redis: ArqRedis, name: str, keys: list[str], args: list[Any], *, replicas: int, timeout_s: float
) -> Any:
    """Run the script ``name`` and wait until ``replicas`` replicas have what it wrote, in one round trip.

    Raises `NotReplicated` when they have not within ``timeout_s`` seconds: it is done, but may be lost in a failover.
    """
    if not replicas:
        return await run(redis, name, keys, args)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.evalsha(_digest(name), len(keys), *keys, *args)
        pipe.execute_command("WAIT", replicas, int(timeout_s * 1000))
        result, reached = await pipe.execute(raise_on_error=False)
    if isinstance(result, NoScriptError):
        await redis.script_load(source(name))
        return await run_replicated(redis, name, keys, args, replicas=replicas, timeout_s=timeout_s)
    for answer in (result, reached):
        if isinstance(answer, Exception):
            raise answer
    if reached < replicas:
        raise NotReplicated(f"only {reached} of {replicas} replicas of Redis confirmed within {timeout_s:g} s")
    return result
