"""Run Lua scripts. Each script is one atomic step, and has its own ``.lua`` file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from memory_worker.contract.errors import NotReplicated
from memory_worker.wire.exchange import Exchange

REPLICATION_TIMEOUT_S = 1.0
"""How long `Scripts.run_replicated` waits for replicas."""

_SHARED = "memory_worker.wire.scripts"
_USE = re.compile(r"^-- use (\w+)\n", re.MULTILINE)


class Scripts:
    """The scripts ``*.lua`` of one package. Code that several scripts share is in its folder ``parts``.

    A part that the package does not have is one of those that producers and workers share.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def source(self, name: str) -> str:
        """Return the text of the script ``name``. Each line ``-- use reading`` is replaced by ``parts/reading.lua``."""
        return _source(self._package, name)

    async def run(self, redis: Redis, name: str, keys: list[str], args: list[Any], *, alone: bool = False) -> Any:
        """Run the script ``name`` in one round trip, or in two if Redis has not loaded it yet.

        It may be sent together with other scripts, unless it is to be sent ``alone``.
        """
        command = self.command(name, keys, args)
        try:
            if alone:
                return await redis.execute_command(*command)
            return await redis.evalsha(*command[1:])  # type: ignore[misc]  # sync or async in the stubs
        except NoScriptError:
            return await redis.eval(self.source(name), len(keys), *keys, *args)  # type: ignore[misc]

    def command(self, name: str, keys: list[str], args: list[Any]) -> tuple[Any, ...]:
        """Return the command that runs the script ``name``, if Redis has loaded it."""
        return "EVALSHA", _digest(self._package, name), len(keys), *keys, *args

    async def load(self, redis: Redis, name: str) -> None:
        """Load the script ``name``, so that `queue` can name it."""
        await redis.script_load(self.source(name))

    def queue(self, pipe: Pipeline, name: str, keys: list[str], args: list[Any]) -> None:
        """Run the script ``name``, which is loaded, as a step of a transaction."""
        pipe.evalsha(_digest(self._package, name), len(keys), *keys, *args)

    async def run_replicated(self, redis: Redis, name: str, keys: list[str], args: list[Any], *, replicas: int) -> Any:
        """Run the script ``name`` and wait until ``replicas`` replicas have its writes, in one round trip.

        Raises `NotReplicated` if too few replicas confirm within `REPLICATION_TIMEOUT_S`. The script has run in that
        case, but a failover may lose its writes.
        """
        if not replicas:
            return await self.run(redis, name, keys, args)
        async with redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(_digest(self._package, name), len(keys), *keys, *args)
            pipe.execute_command("WAIT", replicas, int(REPLICATION_TIMEOUT_S * 1000))
            result, reached = await pipe.execute(raise_on_error=False)
        if isinstance(result, NoScriptError):
            await redis.script_load(self.source(name))
            return await self.run_replicated(redis, name, keys, args, replicas=replicas)
        if isinstance(result, Exception):
            raise result
        if isinstance(reached, ResponseError):  # the script ran, and then the primary became a replica
            raise NotReplicated(f"Redis cannot wait for replicas: {reached}") from reached
        if isinstance(reached, Exception):
            raise reached
        if reached < replicas:
            waited = f"{REPLICATION_TIMEOUT_S:g} s"
            raise NotReplicated(f"only {reached} of {replicas} replicas of Redis confirmed within {waited}")
        return result

    async def run_behind(
        self, redis: Redis, name: str, keys: list[str], args: list[Any], *, command: Sequence[Any]
    ) -> Any:
        """Run the script ``name`` behind a command that may block, on the same connection and in one round trip.

        Only the result of the script is returned. If the connection ends, the script runs without the command.
        """
        with suppress(RedisConnectionError):
            async with Exchange(redis) as exchange:
                await exchange.open()
                await exchange.send(command, self.command(name, keys, args))
                await exchange.read()
                try:
                    return await exchange.read()
                except NoScriptError:
                    await exchange.send(("EVAL", self.source(name), len(keys), *keys, *args))
                    return await exchange.read()
        return await self.run(redis, name, keys, args)


@cache
def _source(package: str, name: str) -> str:
    return _with_parts(package, _read(package, f"{name}.lua"))


def _with_parts(package: str, text: str) -> str:
    return _USE.sub(lambda use: _with_parts(package, _part(package, f"parts/{use[1]}.lua")), text)


def _part(package: str, path: str) -> str:
    own = resources.files(package).joinpath(path)
    return _read(package if own.is_file() else _SHARED, path)


def _read(package: str, path: str) -> str:
    return resources.files(package).joinpath(path).read_text(encoding="utf-8")


@cache
def _digest(package: str, name: str) -> str:
    return hashlib.sha1(_source(package, name).encode(), usedforsecurity=False).hexdigest()
