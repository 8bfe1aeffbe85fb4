"""A Redis that fails over by itself: a primary and a replica with three Sentinels, or a cluster of three primaries.

The servers are those of the system (``redis-server``), or else Valkey. They notice a dead primary within a second.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from memory_worker.wire.primaries import slot_of
from tests.servers import RedisServer, free_port

SERVICE = "main"
PROGRAM = shutil.which("redis-server") or ""
SLOTS = 16_384
_DOWN_AFTER_MS = 1000
_FAST_COPIES = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
_SETTLED_TIMEOUT_S = 30.0


class NoPrimary(Exception):
    """No server, or more than one, calls itself the primary of the queue."""


class Sentinel(RedisServer):
    """A Sentinel that watches the primary on ``port``. ``lines`` are added to its configuration."""

    ready = "Sentinel ID is"

    def __init__(self, directory: Path, port: int, *lines: str, program: str = PROGRAM) -> None:
        super().__init__(directory, program=program)
        self._file = directory / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 1000\n" + "\n".join(lines)
        )

    def command(self) -> list[str]:
        return [self._program, str(self._file), "--sentinel"]


class Topology:
    """Servers, of which one at a time is the primary of the queue."""

    url = ""
    prefix = "{mw}"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.nodes: list[RedisServer] = []
        self.failovers = 0

    def start(self) -> None:
        """Start all servers. Return once the primary of the queue has a replica."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill all servers."""
        for server in self.nodes:
            server.close()

    def primary(self) -> RedisServer:
        """Return the primary of the queue."""
        found = [node for node in self.candidates() if node.is_running and ask(node, "ROLE")[0] == b"master"]
        if len(found) != 1:
            raise NoPrimary(f"{len(found)} servers call themselves primary")
        return found[0]

    def candidates(self) -> list[RedisServer]:
        """Return the servers that may be the primary of the queue."""
        return self.nodes

    def kill_primary(self) -> RedisServer:
        """Kill the primary, and return it. A replica is promoted soon after."""
        killed = self.primary()
        killed.kill()
        self.failovers += 1
        return killed

    def freeze_primary(self) -> RedisServer:
        """Stop the process of the primary, and return it."""
        frozen = self.primary()
        frozen.freeze()
        return frozen

    def wait_for_failover(self) -> RedisServer:
        """Return the new primary, once one was promoted."""
        until(self.primary)
        return self.primary()

    def return_as_replica(self, killed: RedisServer) -> None:
        """Start a server that was killed. Return once it has a copy of everything."""
        raise NotImplementedError

    def wait_until_whole(self) -> None:
        """Return once the primary has a replica that could replace it."""
        self.wait_for_replica()

    def wait_for_replica(self) -> None:
        """Return once a replica has all writes of the primary."""

        def has_replica() -> bool:
            # On one connection: without a write before it, WAIT counts a replica that has no copy yet.
            _, confirmed = ask_all(self.primary(), ("SET", "{mw}tick", "1"), ("WAIT", "1", "100"))
            return bool(confirmed)

        until(has_replica)

    def server(self, name: str, *options: str) -> RedisServer:
        made = RedisServer(self._directory / name, *_FAST_COPIES, *options, program=PROGRAM)
        self.nodes.append(made)
        return made


class SentinelTopology(Topology):
    """A primary, a replica, and three Sentinels."""

    prefix = "mw"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.sentinels: list[RedisServer] = []

    def start(self) -> None:
        first, second = self.server("one"), self.server("two")
        first.start()
        second.start("--replicaof", "127.0.0.1", str(first.port))
        self.sentinels = [Sentinel(self._directory / f"sentinel{n}", first.port) for n in range(3)]
        for sentinel in self.sentinels:
            sentinel.start()
            # Asked less often, a new primary would seem to be down at once, and would be replaced again.
            ask(sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PING-PERIOD", "200")
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"
        self.wait_until_whole()

    def close(self) -> None:
        super().close()
        for sentinel in self.sentinels:
            sentinel.close()

    def return_as_replica(self, killed: RedisServer) -> None:
        killed.start("--replicaof", "127.0.0.1", str(self.wait_for_failover().port))
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        self.wait_for_replica()
        until(lambda: all(self._knows_all(one) for one in self.sentinels))

    def _knows_all(self, sentinel: RedisServer) -> bool:
        """Return whether a Sentinel could promote a replica now."""
        fields = pairs(ask(sentinel, "SENTINEL", "MASTER", SERVICE))
        replicas = [pairs(one) for one in ask(sentinel, "SENTINEL", "REPLICAS", SERVICE)]
        healthy = any(one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok" for one in replicas)
        return fields[b"num-other-sentinels"] == b"2" and fields[b"flags"] == b"master" and healthy


class ClusterTopology(Topology):
    """Three primaries with a replica each. The queue is at the first primary or its replica."""

    def start(self) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(_DOWN_AFTER_MS))
        buses = [free_port() for _ in range(6)]
        for number, bus in enumerate(buses):
            self.server(f"node{number}", *options, "--cluster-port", str(bus)).start()
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for first, last, node in self._slots():
            ask(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node, bus in zip(self.nodes, buses, strict=True):
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        until(lambda: all(len(ask(node, "CLUSTER", "NODES").splitlines()) == len(buses) for node in self.nodes))
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            node_id = ask(primary, "CLUSTER", "MYID").decode()
            until(lambda node_id=node_id, replica=replica: ask(replica, "CLUSTER", "REPLICATE", node_id) == b"OK")
        self.url = f"redis+cluster://127.0.0.1:{self.nodes[1].port},127.0.0.1:{self.nodes[0].port}"
        self.wait_until_whole()

    def candidates(self) -> list[RedisServer]:
        return [self.nodes[0], self.nodes[3]]

    def return_as_replica(self, killed: RedisServer) -> None:
        self.wait_for_failover()
        killed.start()
        self.wait_until_whole()

    def migrate(self, target: RedisServer, *, during: Callable[[], None] = lambda: None) -> None:
        """Move the slot of the queue to ``target``, key by key, and call ``during`` now and then."""
        source, slot = self.primary(), str(self.slot)
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(source, "CLUSTER", "MYID").decode())
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(target, "CLUSTER", "MYID").decode())
        during()
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, "5"):
            ask(source, "MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
            during()
        target_id = ask(target, "CLUSTER", "MYID").decode()
        for node in (target, source, *self.nodes[:3]):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)

    @property
    def slot(self) -> int:
        """The slot of the queue."""
        return slot_of(self.prefix)

    def _slots(self) -> Iterable[tuple[int, int, RedisServer]]:
        """Yield ranges of slots and the primary that has them. The first one has the slot of the queue."""
        half = self.slot // 2
        yield self.slot, SLOTS - 1, self.nodes[0]
        yield 0, half, self.nodes[1]
        yield half + 1, self.slot - 1, self.nodes[2]

    def wait_until_whole(self) -> None:
        running = [node for node in self.nodes if node.is_running]
        until(lambda: all(b"cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in running))
        self.wait_for_replica()


def ask(server: RedisServer, *command: Any) -> Any:
    """Send one command to one server, and return its reply as bytes."""
    return ask_all(server, command)[0]


def ask_all(server: RedisServer, *commands: Sequence[Any]) -> list[Any]:
    """Send commands to one server on one connection, and return their replies."""
    replies = []
    with redis.Redis(port=server.port, socket_timeout=5) as client:
        connection = client.connection_pool.get_connection()
        for command in commands:
            connection.send_command(*command)
            replies.append(connection.read_response())
    return replies


def pairs(reply: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def until(condition: Callable[[], object], timeout_s: float = _SETTLED_TIMEOUT_S) -> None:
    """Return once the condition holds. An error of Redis means that it does not hold yet."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        with suppress(RedisError, OSError, NoPrimary):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s")
