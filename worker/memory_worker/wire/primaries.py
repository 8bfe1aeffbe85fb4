"""Find the primary of a Redis that Sentinel or Redis Cluster watches. Every new connection asks here where it is.

Nothing here opens a connection or waits by itself. ``ask`` is passed in: it sends one command to one server and returns
the reply. So the same code works with and without an event loop.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from redis.exceptions import RedisError

from memory_worker.contract.errors import ConfigurationError, QueueUnavailable

SLOTS = 16_384
HASH_TAG = re.compile(r"\{([^}]+)\}")
"""The part of a key that decides its slot in a cluster."""

_Found = TypeVar("_Found")


class Address(NamedTuple):
    """The host and the port of a server."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Ask(Protocol):
    """Sends one command to one server. Raises ``RedisError`` or ``OSError``, and does so soon if it does not answer."""

    async def __call__(self, host: str, port: int, *command: str) -> Any:
        """Return the reply to the command."""


class Primaries:
    """Asks ``seeds`` in turn for the primary. The one that answered last is asked first.

    ``found`` is the primary that was found last. Several connections, in several threads, may share this object.
    """

    servers = "server"
    """What a seed is called in errors."""

    def __init__(self, seeds: Iterable[Address], ask: Ask) -> None:
        self.seeds = self._configured = tuple(dict.fromkeys(seeds))
        self.found: Address | None = None
        self._ask = ask

    async def find(self) -> Address:
        """Return the address of the primary.

        Raises `QueueUnavailable` if no server that answers knows it, or `ConfigurationError` if all say that there can
        be none.
        """
        found, seed, reply = await self._first(self._command(), self._primary_in)
        self.seeds = tuple(dict.fromkeys((seed, *self._other_seeds(reply, seed))))
        self.found = found
        return found

    def suspect(self) -> None:
        """Ask another server first the next time, because what the first one said was wrong."""
        first, *others = self.seeds
        self.seeds = (*others, first)

    def check_role(self, server: Address, reply: Sequence[Any]) -> str | None:
        """Return what is wrong with a ``server`` whose reply to ROLE this is, or ``None`` if it is a primary."""
        if reply[0] == b"master":
            return None
        self.suspect()
        return f"{server} is no longer the primary"

    async def _first(
        self, command: Sequence[str], read: Callable[[Any, Address], _Found | None]
    ) -> tuple[_Found, Address, Any]:
        """Return what ``read`` finds in the first reply in which it finds something, the server, and the reply."""
        problems: list[str] = []
        unknown = 0
        for seed in self.seeds:
            try:
                reply = await self._ask(seed.host, seed.port, *command)
            except (RedisError, OSError) as error:
                problems.append(f"{seed}: {str(error) or type(error).__name__}")
                continue
            found = read(reply, seed)
            if found is not None:
                return found, seed, reply
            unknown += 1
            problems.append(f"{seed}: {self._unknown()}")
        if unknown == len(problems):
            raise self._known_by_none()
        raise QueueUnavailable(f"Redis: no {self.servers} knows the primary ({'; '.join(problems)})")

    def _other_seeds(self, _reply: Any, _seed: Address) -> Iterable[Address]:
        """Return whom to ask after ``seed``, which has sent this reply."""
        return self.seeds

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _primary_in(self, reply: Any, seed: Address) -> Address | None:
        raise NotImplementedError

    def _unknown(self) -> str:
        raise NotImplementedError

    def _known_by_none(self) -> Exception:
        raise NotImplementedError


class SentinelPrimaries(Primaries):
    """Asks Sentinels for the primary of a ``service``."""

    servers = "Sentinel"

    def __init__(self, sentinels: Iterable[Address], ask: Ask, *, service: str) -> None:
        super().__init__(sentinels, ask)
        self.service = service

    async def count_sentinels(self) -> int:
        """Return how many Sentinels watch the service. Raises as `find` does."""
        fields, _, _ = await self._first(("SENTINEL", "MASTER", self.service), lambda reply, _: _pairs(reply))
        return int(fields.get(b"num-other-sentinels", 0)) + 1

    def _command(self) -> Sequence[str]:
        return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)

    def _primary_in(self, reply: Any, _: Address) -> Address | None:
        return Address(reply[0].decode(), int(reply[1])) if reply else None

    def _unknown(self) -> str:
        return f"unknown service {self.service}"

    def _known_by_none(self) -> Exception:
        return ConfigurationError(f"REDIS_URL: no Sentinel knows the service {self.service}")


class ClusterPrimaries(Primaries):
    """Asks nodes of a Redis Cluster for the owner of a ``slot``. The nodes that they name are asked last."""

    servers = "node of the cluster"

    def __init__(self, nodes: Iterable[Address], ask: Ask, *, slot: int) -> None:
        super().__init__(nodes, ask)
        self.slot = slot

    def _command(self) -> Sequence[str]:
        return ("CLUSTER", "SLOTS")

    def _primary_in(self, reply: Any, seed: Address) -> Address | None:
        for first, last, owner, *_ in reply:
            if first <= self.slot <= last:
                return _node(owner, seed)
        return None

    def _other_seeds(self, reply: Any, seed: Address) -> Iterable[Address]:
        named = (_node(node, seed) for _, _, *nodes in reply for node in nodes)
        return (*self._configured, *named)

    def _unknown(self) -> str:
        return f"no owner of slot {self.slot}"

    def _known_by_none(self) -> Exception:
        return QueueUnavailable(f"Redis: slot {self.slot} of the cluster has no owner")


def _pairs(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _node(node: Sequence[Any], seed: Address) -> Address:
    """Return the address of a node. One that does not know its own host is at that of the ``seed``."""
    host = (node[0] or b"").decode()
    return Address(host if host not in ("", "?") else seed.host, int(node[1]))


def slot_of(prefix: str) -> int:
    """Return the slot of all keys of a queue. Raises `ConfigurationError` if its prefix has no hash tag."""
    tag = HASH_TAG.search(prefix)
    if tag is None:
        raise ConfigurationError(
            "QUEUE_PREFIX: in a Redis Cluster the prefix of a queue needs a hash tag, such as {mw}, "
            "so that all keys are in one slot"
        )
    return crc_hqx(tag[1].encode(), 0) % SLOTS
