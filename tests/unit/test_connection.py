"""Connections to Redis: which URLs and options are accepted or refused, and that no secret is shown."""

from __future__ import annotations

import ssl
import traceback
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from redis.asyncio.connection import Connection
from redis.exceptions import TimeoutError as RedisTimeoutError

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.contract.errors import ConfigurationError
from memory_worker.runtime.wiring import open_client, open_queue, open_store
from memory_worker.settings import Settings
from memory_worker.wire.asking import asking_options
from memory_worker.wire.connection import Access, open_redis
from memory_worker.wire.primaries import Address, ClusterPrimaries, SentinelPrimaries, slot_of
from memory_worker.wire.redis_url import Seeds, is_tls, seeds_of

SECRET = "hunter2"


def options(url: str, **access: Any) -> dict[str, Any]:
    """Return the options of every connection to ``url``."""
    found: dict[str, Any] = open_redis(url, timeout_s=5, access=Access(**access)).connection_pool.connection_kwargs
    return found


def login(url: str, **access: Any) -> tuple[Any, Any]:
    found = options(url, **access)
    return found.get("username"), found.get("password")


WRONG = {
    "scheme": f"http://:{SECRET}@redis:6379",
    "no scheme": f":{SECRET}@redis:6379",
    "empty": "",
    "port": f"redis://:{SECRET}@redis:{SECRET}",
    "slash in the password": f"redis://:{SECRET}/x@redis:6379",
    "number and slash in the password": "redis://:12/hunter2@redis:6379",
    "hash in the password": f"redis://user:{SECRET}#x@redis:6379",
    "question mark in the password": f"redis://:12?{SECRET}@redis",
    "bracket in the password": f"redis://:[{SECRET}@redis",
    "letter that is a slash once normalized": f"redis://:{SECRET}\N{FRACTION SLASH}\N{ACCOUNT OF}@redis",
    "option": f"redis://:{SECRET}@redis?db={SECRET}",
    "certificates that are not checked": f"rediss://:{SECRET}@redis?ssl_cert_reqs=none",
    "host names that are not checked": f"rediss://:{SECRET}@redis?ssl_check_hostname=false",
    "no host": f"redis://:{SECRET}@:6379",
    "no host at all": "redis://",
    "no port behind the colon": f"redis://:{SECRET}@redis:",
    "port 0": "redis://redis:0",
    "port beyond all ports": "redis://redis:65536",
    "several hosts": f"redis://:{SECRET}@one:6379,two:6379",
    "several hosts, one port": "redis://one,two",
    "a variable that is not filled in": "redis://${REDIS_HOST}:6379",
    "in quotes": f'"redis://:{SECRET}@redis:6379"',
    "a line end within": f"redis://:{SECRET}@red\nis:6379",
    "a blank within": f"redis://:{SECRET} x@redis:6379",
    "sentinels without a service": f"redis+sentinel://:{SECRET}@one:26379",
    "sentinels, no service before the database": f"redis+sentinel://:{SECRET}@one//1",
    "service with a space": f"redis+sentinel://:{SECRET}@one/a%20b",
    "sentinels, database by name": f"redis+sentinel://:{SECRET}@one/main/cache",
    "sentinels, path below the database": f"redis+sentinel://:{SECRET}@one/main/1/x",
    "sentinels, no host behind the comma": f"redis+sentinel://:{SECRET}@one,/main",
    "sentinels, port of the second": f"redis+sentinel://:{SECRET}@one,two:{SECRET}/main",
    "sentinels, slash in the password": f"redis+sentinel://:{SECRET}/x@one,two/main",
    "cluster with a database": f"redis+cluster://:{SECRET}@one,two/1",
    "cluster with a database in the options": f"redis+cluster://:{SECRET}@one?db=1",
    "cluster with a path": f"redis+cluster://:{SECRET}@one/x",
    "cluster, password of sentinels": f"redis+cluster://one?sentinel_password={SECRET}",
    "password of sentinels without them": f"redis://one?sentinel_password={SECRET}",
    "cluster, prefix without a hash tag": f"redis+cluster://:{SECRET}@one",
    "database by name": f"redis://:{SECRET}@redis/cache",
    "negative database": "redis://redis/-1",
    "path below the database": "redis://redis/1/x",
    "two databases": "redis://redis/1?db=2",
    "database given twice": "redis://redis?db=2&db=2",
    "fragment": "redis://redis/1#x",
    "option without a value": "redis://redis?db",
    "empty option": "redis://redis?db=",
    "sslmode": "redis://redis?sslmode=require",
    "ssl": "redis://redis?ssl=true",
    "unknown option": f"redis://:{SECRET}@redis?foo={SECRET}",
    "family": "redis://redis?family=0",
    "decoded replies": "redis://redis?decode_responses=true",
    "encoding": "redis://redis?encoding=latin-1",
    "timeout": "redis://redis?socket_timeout=1",
    "one connection": "redis://redis?single_connection_client=true",
    "class of connections": "redis://redis?connection_class=x",
    "protocol": "redis://redis?protocol=4",
    "too few connections": "redis://redis?max_connections=5",
    "no number of connections": "redis://redis?max_connections=many",
    "name with a blank": "redis://redis?client_name=a%20b",
    "socket with a host": "unix://redis/run/redis.sock",
    "socket without a path": "unix://",
    "socket": f"unix://user:{SECRET}/x@/run/redis.sock",
}  # fmt: skip


@pytest.mark.parametrize("url", WRONG.values(), ids=WRONG)
def test_a_wrong_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^(REDIS_URL|QUEUE_PREFIX): ") as refused:
        open_redis(url, timeout_s=5)
    shown = "".join(traceback.format_exception(refused.value, chain=True))
    assert SECRET not in shown.replace(repr(url), "").replace(__file__, "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis/3", {"db": 3}),
        ("redis://redis/3/", {"db": 3}),
        ("redis://redis/3?db=3", {"db": 3}),
        ("redis://redis/?db=2", {"db": 2}),
        ("redis://redis?protocol=3&client_name=app", {"protocol": 2, "client_name": "app"}),
        ("redis://[::1]:6380", {"host": "::1", "port": 6380}),
        ("redis://a_service.name-1:1/", {"host": "a_service.name-1", "port": 1}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
    ],
)
def test_the_options_of_a_url_are_used(url: str, expected: dict[str, Any]) -> None:
    found = options(url)
    assert {name: found.get(name) for name in expected} == expected


SENTINEL_SEEDS = (Address("one", 26379), Address("two", 1), Address("::1", 26379))


def test_sentinels_and_their_login_are_not_those_of_redis() -> None:
    url = (
        "rediss+sentinel://w:p%40ss@one,two:1,[::1],one/my-main/3?client_name=app&sentinel_username=s&"
        "sentinel_password=pa%25ss"
    )
    assert is_tls(url)
    assert seeds_of(url) == Seeds((*SENTINEL_SEEDS, SENTINEL_SEEDS[0]), "my-main", "s", "pa%ss")
    found = options(url)
    assert isinstance(found["primaries"], SentinelPrimaries)
    assert found["primaries"].service == "my-main"
    assert found["primaries"].seeds == SENTINEL_SEEDS
    assert {name: found[name] for name in ("db", "client_name", "username", "password")} == {
        "db": 3, "client_name": "app", "username": "w", "password": "p@ss",
    }  # fmt: skip
    assert "pa%ss" not in repr(seeds_of(url))
    asked = asking_options(seeds_of(url), found)
    assert {name: asked.get(name) for name in ("db", "client_name", "username", "password")} == {
        "db": None, "client_name": "app", "username": "s", "password": "pa%ss",
    }  # fmt: skip
    assert asked["context"] is found["context"]


def test_the_nodes_of_a_cluster_have_the_login_of_redis() -> None:
    url = "redis+cluster://w:p%40ss@one,two:1/?username=other"
    found = open_redis(url, timeout_s=5, prefix="my-{mw}").connection_pool.connection_kwargs
    assert isinstance(found["primaries"], ClusterPrimaries)
    assert found["primaries"].seeds == (Address("one", 6379), Address("two", 1))
    assert found["primaries"].slot == slot_of("{mw}")
    asked = asking_options(seeds_of(url), found)
    assert (asked["username"], asked["password"]) == ("other", "p@ss")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_other_urls_are_addresses(scheme: str) -> None:
    assert seeds_of(f"{scheme}://one/1") is None


def test_a_url_may_limit_the_number_of_connections() -> None:
    assert open_redis("redis://redis?max_connections=10", timeout_s=5).connection_pool.max_connections == 10


@pytest.mark.parametrize("value", ["true", "yes", "1"])
def test_retry_on_timeout_has_no_effect(value: str) -> None:
    """Redis may still run a command that timed out. If it were sent again, it could run twice."""
    assert "retry_on_timeout" not in options(f"redis://redis?retry_on_timeout={value}")
    connection = open_redis(f"redis://redis?retry_on_timeout={value}", timeout_s=5).connection_pool.make_connection()
    assert RedisTimeoutError not in connection.retry._supported_errors


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis", (None, None)),
        ("redis://:p%40s%2Fs%25@redis:6379/1", (None, "p@s/s%")),
        ("rediss://w%3Aorker:pass@redis", ("w:orker", "pass")),
        ("unix://worker:pa%2Fss@/run/redis.sock", ("worker", "pa/ss")),
        ("unix:///run/redis@1.sock", (None, None)),
        ("redis://redis?username=worker&password=pa%25ss", ("worker", "pa%ss")),
    ],
)
def test_user_and_password_of_the_url_are_percent_decoded(url: str, expected: tuple[Any, Any]) -> None:
    assert login(url) == expected


def test_separate_user_and_password_override_the_url_and_are_not_decoded() -> None:
    url = "redis://other:old@redis"
    assert login(url, password="p%40s/s%") == ("other", "p%40s/s%")
    assert login(url, username="w%3Aorker") == ("w%3Aorker", "old")
    assert login(url, username="worker", password="new") == ("worker", "new")
    assert login("redis://redis", password="50% off") == (None, "50% off")


def test_the_password_is_not_shown() -> None:
    redis = open_redis(f"redis://worker:{SECRET}@redis", timeout_s=5)
    queue = MemoryQueue.connect(f"redis://worker:{SECRET}@redis", password=SECRET)
    access = Access(username="worker", password=SECRET)
    for shown in (redis, redis.connection_pool, redis.connection_pool.make_connection(), queue, access):
        assert SECRET not in f"{shown!r} {shown}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory, ca = tmp_path_factory.mktemp("tls"), trustme.CA()
    files = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key", "garbage")}
    issued = ca.issue_cert("worker.example")
    ca.cert_pem.write_to_path(str(files["ca"]))
    issued.cert_chain_pems[0].write_to_path(str(files["cert"]))
    issued.private_key_pem.write_to_path(str(files["key"]))
    files["garbage"].write_text("no certificate")
    return files


class TestTls:
    def test_no_key_log_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        assert options("rediss://redis")["context"].keylog_filename is None

    def test_certificate_and_host_name_are_checked(self) -> None:
        context = options("rediss://redis")["context"]
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2

    def test_a_given_authority_is_the_only_one(self, files: dict[str, Path]) -> None:
        assert len(options("rediss://redis", tls_ca_file=files["ca"])["context"].get_ca_certs()) == 1

    def test_files_are_read_once_for_all_connections(self, files: dict[str, Path]) -> None:
        access = Access(tls_ca_file=files["ca"], tls_cert_file=files["cert"], tls_key_file=files["key"])
        pool = open_redis("rediss://redis", timeout_s=5, access=access).connection_pool
        first, second = (pool.make_connection().ssl_context.get() for _ in range(2))
        assert first is second is pool.connection_kwargs["context"]

    @pytest.mark.parametrize(
        ("names", "problem"),
        [
            ({"ca": "missing"}, "REDIS_TLS_CA_FILE: .*missing.pem: .*No such file"),
            ({"ca": "garbage"}, "REDIS_TLS_CA_FILE: .*garbage.pem"),
            ({"cert": "garbage", "key": "key"}, "REDIS_TLS_CERT_FILE, REDIS_TLS_KEY_FILE: .*garbage.pem"),
            ({"cert": "cert", "key": "missing"}, "REDIS_TLS_KEY_FILE: .*missing.pem: .*No such file"),
            ({"cert": "cert"}, "need each other"),
            ({"key": "key"}, "need each other"),
        ],
        ids=str,
    )
    def test_an_unusable_file_is_refused_by_name(
        self, names: dict[str, str], problem: str, files: dict[str, Path]
    ) -> None:
        access = {f"tls_{what}_file": files["ca"].with_name(f"{name}.pem") for what, name in names.items()}
        with pytest.raises(ConfigurationError, match=problem):
            options("rediss://redis", **access)

    @pytest.mark.parametrize("what", ["ca", "cert", "key"])
    def test_files_for_a_connection_without_tls_are_refused(self, what: str, files: dict[str, Path]) -> None:
        with pytest.raises(ConfigurationError, match="does not begin with rediss://"):
            options("redis://redis", **{f"tls_{what}_file": files[what]})


class TestWiring:
    """The settings apply to the connections of workers and to those of the client."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            redis_url=SecretStr("redis://other:old@redis:6380"),
            redis_username=SecretStr("worker"),
            redis_password=SecretStr("p%40ss"),
        )

    def test_a_worker_uses_user_and_password(self, settings: Settings) -> None:
        found = open_queue(settings).connection_pool.connection_kwargs
        assert (found["username"], found["password"], found["port"]) == ("worker", "p%40ss", 6380)

    async def test_the_client_uses_user_and_password(self, settings: Settings) -> None:
        async with open_client(settings) as queue:
            connections = queue._producer.open()
            for redis in (connections.redis, connections.blocking):
                found = redis.connection_pool.connection_kwargs
                assert (found["username"], found["password"]) == ("worker", "p%40ss")

    @pytest.mark.parametrize("name", ["redis_tls_ca_file", "qdrant_tls_ca_file"])
    async def test_files_for_tls_are_read(self, name: str, tmp_path: Path) -> None:
        missing = tmp_path / "missing.pem"
        settings = Settings(redis_url=SecretStr("rediss://redis"), qdrant_url="https://qdrant", **{name: missing})
        with pytest.raises(ConfigurationError, match=name.upper()):
            open_queue(settings)
            open_store(settings)

    async def test_an_authority_for_a_qdrant_without_tls_is_refused(self, tmp_path: Path) -> None:
        settings = Settings(qdrant_url="http://qdrant:6334", qdrant_tls_ca_file=tmp_path / "ca.pem")
        with pytest.raises(ConfigurationError, match="QDRANT_URL does not begin with https://"):
            open_store(settings)


def test_commands_are_packed_as_redis_py_packs_them() -> None:
    pool = open_redis("redis://localhost", timeout_s=5).connection_pool
    ours = pool.connection_class(**pool.connection_kwargs)
    for command in (("EVALSHA", "a1", 2, "mw:é", b"\x00\xff", 0.05, 7), ("CONFIG GET", "maxmemory"), (b"PING",)):
        assert b"".join(ours.pack_command(*command)) == b"".join(Connection().pack_command(*command))
