"""Ask Sentinels or the nodes of a cluster for the primary, each over a separate connection that is closed at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from memory_worker.wire.primaries import Ask, ClusterPrimaries, Primaries, SentinelPrimaries, slot_of
from memory_worker.wire.redis_url import Seeds, seeds_of

ASK_TIMEOUT_S = 1.0
"""How long a server may take to connect, and how long to answer, before the next one is asked."""

_NOT_FOR_ASKING = ("retry", "retry_on_error", "primaries", "db")


def found_by(
    url: str, prefix: str, options: Mapping[str, Any], asking_with: Callable[[Mapping[str, Any]], Ask]
) -> Primaries | None:
    """Return what finds the primary for connections with these options, or ``None`` if ``url`` is its address.

    ``asking_with`` returns a function that asks over connections with the given options. Raises `ConfigurationError` if
    ``prefix`` is not one for a cluster, but the URL is.
    """
    seeds = seeds_of(url)
    return None if seeds is None else primaries_of(seeds, prefix, asking_with(asking_options(seeds, options)))


def primaries_of(seeds: Seeds, prefix: str, ask: Ask) -> Primaries:
    """Return what finds the primary of the queue ``prefix``. Raises `ConfigurationError` as `found_by` does."""
    if seeds.service is not None:
        return SentinelPrimaries(seeds.addresses, ask, service=seeds.service)
    return ClusterPrimaries(seeds.addresses, ask, slot=slot_of(prefix))


def asking_options(seeds: Seeds, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of connections to ``seeds``, from those of connections to Redis."""
    chosen = {name: value for name, value in options.items() if name not in _NOT_FOR_ASKING}
    if seeds.service is not None:
        chosen |= {"username": seeds.username, "password": seeds.password}
    return {**chosen, "socket_timeout": ASK_TIMEOUT_S, "socket_connect_timeout": ASK_TIMEOUT_S}


def asking(connection_class: type[AbstractConnection], options: Mapping[str, Any]) -> Ask:
    """Return a function that asks over connections of this class with these options."""

    async def ask(host: str, port: int, *command: str) -> Any:
        connection = connection_class(**{**options, "host": host, "port": port})
        try:
            await connection.connect()
            await connection.send_command(*command)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    return ask


def primaries_in(redis: Redis) -> Primaries | None:
    """Return what finds the primary for the connections of ``redis``, or ``None`` if its URL is an address."""
    return cast("Primaries | None", redis.connection_pool.connection_kwargs.get("primaries"))
