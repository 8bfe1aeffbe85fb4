"""The Lua scripts, one atomic step each, and how they are run."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from arq.connections import ArqRedis
from redis.exceptions import NoScriptError


@cache
def source(name: str) -> str:
    """Return the text of the script ``name``."""
    return resources.files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


@cache
def _digest(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


async def run(redis: ArqRedis, name: str, keys: list[str], args: list[Any]) -> Any:
    """Run the script ``name`` in one round trip; in two where Redis does not have it yet."""
    try:
        return await redis.evalsha(_digest(name), len(keys), *keys, *args)  # type: ignore[misc]  # sync or async in the stubs
    except NoScriptError:
        return await redis.eval(source(name), len(keys), *keys, *args)  # type: ignore[misc]
