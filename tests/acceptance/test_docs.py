"""The code and the commands in README.md and docs/ are run as a reader runs them, by a worker with embedded engines.

`NOT_RUN` says which shell commands are not, and why. ``tests/unit/test_documents.py`` still checks their names.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import shlex
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import RedisSettings

from memory_worker import InvalidJob, MemoryQueue, Receipt, SyncMemoryQueue, Upsert
from memory_worker.contract import encode_job, partition_of
from memory_worker.wire.connection import close_redis, open_redis
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.acceptance.processes import WorkerProcess
from tests.commands import run_here
from tests.documents import ROOT, Block, blocks, text
from tests.servers import free_port

README, DOCS = ROOT / "README.md", ROOT / "docs"
DOCUMENTS = [README, *sorted(DOCS.rglob("*.md"))]
QUICKSTART, PYTHON, SYNC, ARQ = (DOCS / f"{name}.md" for name in ("quickstart", "python", "sync", "arq"))
BACKUPS = DOCS / "backups.md"
DIMENSION = 1024
VECTOR = [1.0, *[0.0] * (DIMENSION - 1)]

NOT_RUN = {
    r"^python3 -m venv|\. \.venv/bin/activate|pip install": "makes an environment, as CI does for the README's two",
    r"^(pytest|ruff|\.ci/run)": "runs this suite or the linters: CI does",
    r"([A-Z_]+=\S+ )*memory-worker run": "works until it is stopped: the worker of these tests is started like this",
    r"memory-worker (demo|bench)": "takes long: test_demo and test_bench run them",
    r"psql|memory-worker re(key|concile)": "needs the data of an app: test_rekey and test_reconcile_command run them",
    r"docker|kubectl|redis-cli": "needs a daemon or a cluster that the tests do not have",
    r"-m tests\.studies\.": "takes long, and needs a Qdrant that nobody else uses",
}
"""Commands that are not run, by what is in them, and on what ground."""


class Reader:
    """A reader who follows a page in a directory. Their Redis is on a free port instead of the page's."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.url = f"redis://127.0.0.1:{port}"
        self._port = str(port)

    def adapted(self, body: str) -> str:
        """Return code of a page with this reader's port."""
        return re.sub(r"(redis://)?(localhost|127\.0\.0\.1):(6379|6399)|\b6399\b", self._place, body)

    def _place(self, found: re.Match[str]) -> str:
        return self.url if found[1] else self._port

    def shell(self, command: str) -> str:
        """Return what a command prints."""
        done = subprocess.run(
            ["bash", "-ec", self.adapted(command)],
            cwd=self.directory,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def save(self, name: str, block: Block) -> None:
        (self.directory / name).write_text(self.adapted(block.body), encoding="utf-8")


@contextmanager
def running(directory: Path, port: int, *, dimension: int) -> Iterator[Reader]:
    """Run a worker with embedded engines, as the quickstart does, for a reader in ``directory``."""
    environment = {
        "EMBEDDED_REDIS_PORT": str(port),
        "QDRANT_VECTOR_DIMENSION": str(dimension),
        "DATA_DIR": str(directory / "data"),
    }
    worker = WorkerProcess("all", environment)
    try:
        worker.wait_for("started")
        yield Reader(directory, port)
        assert worker.terminate() == 0
    finally:
        worker.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader whose worker takes vectors of 1,024 numbers."""
    with running(tmp_path_factory.mktemp("reader"), free_port(), dimension=DIMENSION) as reader:
        yield reader


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block that are run."""
    lines = block.body.replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not any(re.search(pattern, line) for pattern in NOT_RUN)]


def test_all_shell_is_run_or_there_is_a_ground() -> None:
    found = blocks(DOCUMENTS, "bash")
    assert {block.path for block in found if commands(block)} == {QUICKSTART, BACKUPS}
    for pattern in NOT_RUN:
        assert any(re.search(pattern, block.body) for block in found), f"{pattern!r} is on no page"


def test_all_python_is_run_by_a_test_below() -> None:
    assert {block.path for block in blocks(DOCUMENTS, "python")} == {README, QUICKSTART, PYTHON, SYNC, ARQ}


def test_the_readme(reader: Reader) -> None:
    (program,) = blocks([README], "python")
    reader.save("readme.py", program)
    assert reader.shell("python readme.py") == "[('mem_1730_1', 'Likes tea')]\n"


def test_the_quickstart(tmp_path: Path) -> None:
    """Its programs are saved as the page says, its commands are run, and they print what the page shows."""
    if importlib.util.find_spec("wordllama") is None and not os.environ.get("CI"):
        pytest.skip("wordllama is not installed")
    names = iter(re.findall(r"[Ss]ave (?:this|it) as `(\w+\.py)`", text(QUICKSTART)))
    printed = ""
    with running(tmp_path, free_port(), dimension=256) as reader:
        for block in blocks([QUICKSTART]):
            match block.language:
                case "python":
                    reader.save(next(names), block)
                case "bash":
                    for command in commands(block):
                        printed = reader.shell(command)
                case _:
                    assert printed == block.body
    first, _ = blocks([QUICKSTART], "python")
    assert len(first.body.splitlines()) < 40
    assert "EMBEDDED_REDIS_PORT=6399 QDRANT_VECTOR_DIMENSION=256 memory-worker run" in text(QUICKSTART)


async def test_the_backups_page(tmp_path: Path) -> None:
    """A backup of embedded engines and its restore: what waited at that time is applied, what came later is gone.

    `tests.integration.test_backups` runs what needs servers.
    """

    async def run(*lines: str) -> str:
        """Run lines of the page. Commands of the worker run in this process, which is faster."""
        for line in lines:
            if line.startswith("memory-worker "):
                given = shlex.split(line)[1:]
                printed = await asyncio.to_thread(run_here, *given, DATA_DIR=str(tmp_path / "data"))
            else:
                printed = reader.shell(line)
        return printed

    backup, restore, go_on, servers, redis, qdrant, old_copy, move, erased = map(commands, blocks([BACKUPS], "bash"))
    assert ("curl" in str(servers), "redis-cli" in str(redis), "upload" in str(qdrant)) == (True, False, True)
    port, point = free_port(), {"user_id": 1730, "vector": VECTOR}
    with running(tmp_path, port, dimension=DIMENSION) as reader:
        async with MemoryQueue.connect(reader.url) as queue:
            await queue.wait_applied(await queue.upsert(point_id="mem_1730_1", **point))
            pause, copy, resume = backup
            assert (await run(pause)).endswith(": backup\n")
            waiting = await queue.upsert(point_id="mem_1730_2", **point)
            await run(copy)
            assert (await run(resume)).startswith("resumed; was paused since")
            await queue.wait_applied(await queue.upsert(point_id="mem_1730_3", **point), timeout=20)
            assert (await run(move[0])).startswith("nothing waits\n")
            assert await queue.count(user_id=1730) == 3
    await run(*restore)
    with running(tmp_path, port, dimension=DIMENSION) as reader:
        async with MemoryQueue.connect(reader.url) as queue:
            assert [state.state for state in await queue.states([waiting])] == ["waiting"]
            assert {point.point_id for point in (await queue.list(user_id=1730)).points} == {"mem_1730_1"}
            await run(*go_on)
            await queue.wait_applied(waiting, timeout=20)
            assert {point.point_id for point in (await queue.list(user_id=1730)).points} == {"mem_1730_1", "mem_1730_2"}
            await run(old_copy[0])
            discarded = await queue.upsert(point_id="mem_1730_4", **point)
            assert (await run(old_copy[1])).endswith("1 discarded\n")
            await run(*go_on)
            [state] = await queue.states([discarded])
            assert (state.state, state.reason) == ("dead", "discarded")
            await queue.wait_applied(await queue.purge(user_id=1730))
            assert "erased: nothing is left that counts" in await run(*erased)


async def test_the_python_page(reader: Reader) -> None:
    page: dict[str, Any] = {"vector": VECTOR, "query": VECTOR}
    for block in blocks([PYTHON], "python"):
        await run_in(page, reader.adapted(block.body), str(block))
    assert [hit.point_id for hit in page["hits"]] == ["mem_1730_1"]
    assert [point.payload["value"] for point in page["points"]] == ["Likes tea"]
    assert len(page["receipts"]) == 1000
    assert [hit.point_id for hit in page["fresh"]] == ["mem_1730_1"]
    assert [len(result.hits) for result in page["results"]] == [1, 1]
    assert (page["chunks"], page["files"], page["total"]) == (0, [], 0)
    assert (page["number"], len(page["page"].points)) == (1, 1)
    await page["remember"]([{"user_id": 1730, "point_id": "mem_1730_2", "vector": VECTOR, "payload": {"value": "Tea"}}])
    assert {*await page["recall"](VECTOR)} == {"Likes tea", "Tea"}
    await page["queue"].close()


class TestTheSyncPage:
    first, flask, celery, script = blocks([SYNC], "python")

    def test_the_start(self, reader: Reader) -> None:
        page: dict[str, Any] = {"vector": VECTOR}
        exec(reader.adapted(self.first.body), page)
        assert "mem_1730_1" in [hit.point_id for hit in page["hits"]]

    def test_flask(self, reader: Reader) -> None:
        page: dict[str, Any] = {"__name__": "app", "embed": lambda _: VECTOR}
        exec(reader.adapted(self.flask.body), page)
        app, queue = page["app"].test_client(), page["queue"]
        assert app.put("/users/1801/memories/5", json={"text": "Likes tea"}).status_code == 202
        queue.wait_applied(queue.delete(user_id=1801, point_id="mem_1801_1"))
        found = app.get("/users/1801/memories", query_string={"about": "drinks"}).json
        assert [(hit["id"], hit["value"]) for hit in found] == [("mem_1801_5", "Likes tea")]
        queue.close()
        page["queue"] = SyncMemoryQueue.connect(f"redis://127.0.0.1:{free_port()}", timeout_s=0.2)
        assert app.put("/users/1801/memories/5", json={"text": "Likes tea"}).status_code == 503
        page["queue"].close()

    def test_celery(self, reader: Reader) -> None:
        """The tasks run in forked processes."""
        reader.save("tasks.py", self.celery)
        with (reader.directory / "tasks.py").open("a", encoding="utf-8") as file:
            file.write(
                f"embed = lambda text: {VECTOR}\nload = lambda user_id, memory_id: {{5: 'Likes tea'}}.get(memory_id)\n"
            )
        command = ["celery", "-A", "tasks", "worker", "--pool=prefork", "--concurrency=2", "--loglevel=WARNING"]
        assert " ".join(command[:4]) in text(SYNC)
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        worker = subprocess.Popen(command, cwd=reader.directory, env=environment)
        try:
            for memory_id in (6, 5):
                reader.shell(f"python -c 'import tasks; tasks.index_memory.delay(1802, {memory_id})'")
            with SyncMemoryQueue.connect(reader.url) as queue:
                deadline = time.monotonic() + 30
                while not queue.count(user_id=1802):
                    assert time.monotonic() < deadline
        finally:
            worker.terminate()
            worker.wait()

    def test_files(self, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(reader.directory)
        page: dict[str, Any] = {}
        exec(reader.adapted(self.script.body), page)
        db, index_file = page["db"], page["index_file"]

        def states() -> dict[int, str]:
            return dict(db.execute("SELECT file_id, state FROM files").fetchall())

        def ends_as(expected: dict[int, str]) -> None:
            while states() != expected:
                page["read_outcomes"](timeout=5)

        def chunk(point_id: str) -> dict[str, Any]:
            return {"point_id": point_id, "vector": VECTOR, "payload": {"chunk_index": 0, "text": "a"}}

        index_file(1803, 1, [chunk("doc_1803_1_0")])
        assert states() == {1: "pending"}
        with pytest.raises(InvalidJob):
            index_file(1803, 2, [chunk("doc_1_2_0")])
        ends_as({1: "indexed", 2: "failed"})

        with db:
            db.execute("INSERT INTO files VALUES (1803, 3, 'file 3', '', 'pending')")
        asyncio.run(push_unchecked(reader.url, Upsert(user_id=1803, point_id="doc_1_3_1", vector=VECTOR, ref="file 3")))
        index_file(1803, 4, [chunk("doc_1803_4_0")])
        ends_as({1: "indexed", 2: "failed", 3: "failed", 4: "indexed"})

        index_file(1803, 5, [chunk("doc_1803_5_0")])
        page["queue"].wait_applied(page["queue"].delete(user_id=1803, point_id="mem_1803_1"))
        db.execute("UPDATE read_up_to SET outcome = '1-1'")  # as if the outcomes behind it were no longer kept
        page["read_outcomes"]()
        assert states()[5] == "indexed"
        db.close()
        page["queue"].close()


async def push_unchecked(url: str, job: Upsert) -> None:
    """Push a job as a client that checks nothing."""
    redis = open_redis(url, timeout_s=5)
    await push(redis, Keys(), 32, [(partition_of(job.user_id, 32), encode_job(job))])
    await close_redis(redis)


async def run_in(namespace: dict[str, Any], body: str, name: str) -> None:
    """Run code that may use ``await`` outside of functions."""
    found = eval(compile(body, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.iscoroutine(found):
        await found


async def test_the_page_for_apps_with_arq(reader: Reader) -> None:
    tasks, write, back, search = blocks([ARQ], "python")
    reader.save("tasks.py", tasks)
    with (reader.directory / "tasks.py").open("a", encoding="utf-8") as file:
        file.write(f"async def embed(text: str) -> list[float]:\n    return {VECTOR}\n")
    pool = await create_pool(RedisSettings.from_dsn(reader.url))
    job = await pool.enqueue_job("remember", 1804, 5, "Likes tea")
    assert job is not None
    assert "arq tasks.WorkerSettings" in text(ARQ)
    reader.shell("arq tasks.WorkerSettings --burst")
    receipt = Receipt.parse(await job.result(timeout=5))
    await pool.aclose()
    page: dict[str, Any] = {}
    packed = struct.pack(f"<{DIMENSION}f", *VECTOR)
    async with MemoryQueue.connect(reader.url) as queue:
        await queue.wait_applied(receipt)
        await run_in(page, reader.adapted(write.body), str(write))
        await queue.wait_applied(Receipt.parse(await page["forget_and_remember"](1804, packed)))

    await run_in(page, reader.adapted(back.body), str(back))
    pool = await create_pool(RedisSettings.from_dsn(reader.url), default_queue_name="mw:writes")
    deferred = await pool.enqueue_job("purge", {"user_id": 1804}, _defer_by=3600)
    assert [await page["take_back"](pool, deferred) for _ in range(2)] == [True, False]
    assert await pool.keys("arq:job:*") == [] == await pool.zrange("mw:writes", 0, -1)
    await pool.aclose()

    await run_in(page, reader.adapted(search.body), str(search))
    found = {hit["payload"]["value"] for hit in await page["search"](1804, packed)}
    assert found == {"Likes tea", "Likes juice"}
    with pytest.raises(RuntimeError, match="invalid: vector"):
        await page["search"](1804, packed[:-4])
