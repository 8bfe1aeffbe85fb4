"""Who is asked for the primary, and what is made of the answers. No server is asked, and no event loop runs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from memory_worker.contract.errors import ConfigurationError, QueueUnavailable
from memory_worker.wire.primaries import Address, ClusterPrimaries, Primaries, SentinelPrimaries, slot_of
from memory_worker.wire.redirections import explained

ONE, TWO, THREE = (Address(name, 26379) for name in ("one", "two", "three"))
PRIMARY = Address("10.0.0.1", 6379)
NAMED = [b"10.0.0.1", b"6379"]
AWAY = RedisConnectionError("Connection refused.")
SLOT = slot_of("{mw}")


class Servers:
    """Answers each server's command with its reply, or raises it."""

    def __init__(self, replies: dict[Address, Any]) -> None:
        self.replies = replies
        self.asked: list[tuple[Address, tuple[str, ...]]] = []

    async def __call__(self, host: str, port: int, *command: str) -> Any:
        self.asked.append((Address(host, port), command))
        reply = self.replies[Address(host, port)]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def of_last(self, count: int) -> list[Address]:
        return [server for server, _ in self.asked[-count:]]


def at_once(work: Awaitable[Any]) -> Any:
    """Return the result of a coroutine that never waits, as a client without an event loop does."""
    with pytest.raises(StopIteration) as ended:
        work.__await__().__next__()
    return ended.value.value


def sentinels(replies: dict[Address, Any]) -> tuple[Servers, SentinelPrimaries]:
    servers = Servers(replies)
    return servers, SentinelPrimaries(replies, servers, service="main")


def cluster(replies: dict[Address, Any], *configured: Address) -> tuple[Servers, ClusterPrimaries]:
    servers = Servers(replies)
    return servers, ClusterPrimaries(configured or replies, servers, slot=SLOT)


def failure(primaries: Primaries, kind: type[Exception]) -> str:
    with pytest.raises(kind) as raised:
        primaries.find().__await__().__next__()
    return str(raised.value)


class TestSentinels:
    def test_they_are_asked_in_turn_and_the_one_that_answered_first(self) -> None:
        servers, primaries = sentinels({ONE: AWAY, TWO: NAMED, THREE: NAMED})
        assert at_once(primaries.find()) == PRIMARY == primaries.found
        assert servers.asked == [(one, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")) for one in (ONE, TWO)]
        at_once(primaries.find())
        assert servers.of_last(1) == [TWO]

    def test_another_one_is_asked_after_a_wrong_answer(self) -> None:
        servers, primaries = sentinels({ONE: NAMED, TWO: NAMED})
        at_once(primaries.find())
        assert primaries.check_role(PRIMARY, [b"master", 0, []]) is None
        assert primaries.check_role(PRIMARY, [b"slave", b"10.0.0.2", 6379]) == "10.0.0.1:6379 is no longer the primary"
        at_once(primaries.find())
        assert servers.of_last(1) == [TWO]

    def test_while_none_answers_the_queue_is_unavailable(self) -> None:
        _, primaries = sentinels({ONE: AWAY, TWO: ResponseError("NOAUTH"), THREE: TimeoutError()})
        problem = failure(primaries, QueueUnavailable)
        assert problem == (
            "Redis: no Sentinel knows the primary "
            "(one:26379: Connection refused.; two:26379: NOAUTH; three:26379: TimeoutError)"
        )

    def test_a_service_that_all_of_them_do_not_know_is_a_wrong_url(self) -> None:
        _, primaries = sentinels({ONE: None, TWO: None})
        assert failure(primaries, ConfigurationError) == "REDIS_URL: no Sentinel knows the service main"

    def test_a_service_may_be_known_by_one_that_does_not_answer(self) -> None:
        _, primaries = sentinels({ONE: None, TWO: AWAY})
        assert "one:26379: unknown service main; two:26379" in failure(primaries, QueueUnavailable)

    def test_they_are_counted(self) -> None:
        _, primaries = sentinels({ONE: AWAY, TWO: [b"name", b"main", b"num-other-sentinels", b"2"]})
        assert at_once(primaries.count_sentinels()) == 3


OWNER: list[Any] = [b"10.0.0.1", 6379, b"id"]
REPLICA: list[Any] = [b"10.0.0.2", 6379, b"id", []]


class TestCluster:
    def slots(self, *nodes: list[Any]) -> list[Any]:
        others = [[0, SLOT - 1, [b"10.0.0.3", 6379, b"id"]], [SLOT + 1, 16_383, [b"10.0.0.4", 6379, b"id"]]]
        return [others[0], [SLOT, SLOT, *nodes], others[1]]

    def test_the_owner_of_the_slot_is_the_primary(self) -> None:
        servers, primaries = cluster({ONE: AWAY, TWO: self.slots(OWNER, REPLICA)})
        assert at_once(primaries.find()) == PRIMARY
        assert servers.asked[-1] == (TWO, ("CLUSTER", "SLOTS"))

    def test_nodes_that_were_named_are_asked_when_the_configured_ones_are_gone(self) -> None:
        named = Address("10.0.0.2", 6379)
        servers, primaries = cluster({ONE: self.slots(OWNER, REPLICA)}, ONE)
        at_once(primaries.find())
        assert primaries.seeds[0] == ONE
        assert {PRIMARY, named, Address("10.0.0.3", 6379), Address("10.0.0.4", 6379)} == set(primaries.seeds[1:])
        servers.replies = dict.fromkeys(primaries.seeds, AWAY) | {named: self.slots([b"10.0.0.2", 6379, b"id"])}
        assert at_once(primaries.find()) == named
        assert ONE in primaries.seeds

    @pytest.mark.parametrize("host", [None, b"", b"?"])
    def test_a_node_that_does_not_know_its_host_is_where_it_was_asked(self, host: bytes | None) -> None:
        _, primaries = cluster({ONE: self.slots([host, 6379, b"id"])})
        assert at_once(primaries.find()) == Address("one", 6379)

    def test_a_slot_without_an_owner_makes_the_queue_unavailable(self) -> None:
        _, primaries = cluster({ONE: self.slots(OWNER)[:1]})
        assert failure(primaries, QueueUnavailable) == f"Redis: slot {SLOT} of the cluster has no owner"


@pytest.mark.parametrize("prefix", ["{mw}", "a{mw}b", "{{mw}", "x.{a-b_c.1}"])
def test_the_slot_is_that_of_the_hash_tag(prefix: str) -> None:
    assert slot_of(prefix) == key_slot(f"arq:job:{prefix}:drain:3".encode())


@pytest.mark.parametrize("prefix", ["mw", "{}", "{mw", "mw}", "}{"])
def test_a_prefix_without_a_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^QUEUE_PREFIX: .*hash tag, such as \{mw\}"):
        slot_of(prefix)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("MOVED 5 10.0.0.1:6379", "another node has the slot"),
        ("ASK 5 10.0.0.1:6379", "is being moved"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "is being moved"),
        ("CLUSTERDOWN Hash slot not served", "has no primary"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "needs a hash tag"),
        ("ERR Script attempted to access a non local key in a cluster node script: 1", "is being moved"),
    ],
)
def test_redirections_are_explained(message: str, meaning: str) -> None:
    assert meaning in explained(message, finds=True)
    assert "write redis+cluster://" in explained(message, finds=False)
    assert message in explained(message, finds=False)


def test_other_errors_stay_as_they_are() -> None:
    assert explained("READONLY You can't write", finds=True) == "READONLY You can't write"
