"""The demo as a newcomer runs it, and how it ends when something really is lost. `test_interrupts` interrupts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_worker.commands.demo import demo
from tests.acceptance.conftest import write_app
from tests.acceptance.test_environment import Proxy, hostile
from tests.acceptance.test_interrupts import processes_with
from tests.demo_output import COLUMNS, part_for_the_readme, run_demo, shown_in_the_readme, without_what_varies
from tests.documents import ROOT

STORY = (
    "are started in a temporary directory",
    "The app begins to write",
    "Qdrant is killed",
    "requests wait in Redis",
    "Qdrant is started again",
    "Qdrant is back",
    "The worker is killed (kill -9) in the middle",
    "requests still wait. A new worker is started",
    "The new worker is ready",
    "All 618 requests are applied",
    "Searches  25 of 25 questions have the right answer",
    "Times",
    "498 of 498 points are as the app asked",
    "Nothing was lost, nothing is out of date, nothing came back.",
    "Next",
)
LOSES_A_POINT = """
import grpc
from qdrant_client import grpc as q
from memory_worker.__main__ import main
from memory_worker.contract.kinds import primary_id
from memory_worker.demo import story

def lose_one_and_read(url):
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        lost = q.PointsSelector(points=q.PointsIdsList(ids=[q.PointId(uuid=primary_id("mem_1804_9"))]))
        q.PointsStub(channel).Delete(q.DeletePoints(collection_name="user_memories", wait=True, points=lost))
    return read_all(url)

read_all, story.read_all = story.read_all, lose_one_and_read
main()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of temporary files of the run."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """A server that nothing must connect to."""
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def done(directory: Path, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A run of the demo, in the directory of an app, with variables that would be fatal to a worker."""
    app = write_app(tmp_path_factory.mktemp("somewhere") / "app")
    settings = {"QUEUE_MAX_JOBS": "5", "LEASE_TTL_S": "60", "REDIS_PASSWORD": "secret", "QDRANT_API_KEY": "secret"}
    servers = {"REDIS_URL": "redis://127.0.0.1:1", "QDRANT_URL": proxy.url}
    return run_demo(app, **hostile(proxy, app), **settings, **servers, TMPDIR=str(directory))


def test_it_tells_the_story_and_ends_well(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = [done.stdout.find(words) for words in STORY]
    assert -1 not in found, dict(zip(STORY, found, strict=True))
    assert found == sorted(found)
    waiting = [int(number) for number in re.findall(r"(\d+) requests (?:still )?wait", done.stdout)]
    assert waiting == sorted(waiting, reverse=True)
    assert 0 not in waiting


def test_it_uses_no_server_of_the_environment(done: subprocess.CompletedProcess[str], proxy: Proxy) -> None:
    assert done.returncode == 0
    assert proxy.connections == 0


def test_its_output_is_plain_and_fits_into_80_columns(done: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > COLUMNS or line != line.rstrip()] == []


def test_the_readme_shows_its_output(done: subprocess.CompletedProcess[str]) -> None:
    """If this fails, run ``python -m tests.demo_output --write``."""
    in_the_readme = shown_in_the_readme()
    assert without_what_varies(in_the_readme) == without_what_varies(part_for_the_readme(done.stdout))
    assert len(in_the_readme.splitlines()) <= 30


def test_it_leaves_nothing_behind(done: subprocess.CompletedProcess[str], directory: Path) -> None:
    assert done.returncode == 0
    assert list(directory.iterdir()) == []
    assert processes_with(str(directory)) == []


def test_its_next_step_exists(done: subprocess.CompletedProcess[str]) -> None:
    _, _, steps = done.stdout.partition("\nNext\n")
    command, page = (line.split("  ")[1] for line in steps.splitlines())
    assert command == "memory-worker run"
    assert (ROOT / page).is_file()


def test_a_lost_point_is_found_out_also_on_an_ascii_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSES_A_POINT, demo.name, "--answers"],
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "497 of 498 points are as the app asked, 1 not." in done.stdout
    assert "1 lost: mem_1804_9" in done.stdout
    assert done.stdout.isascii()
    assert done.stdout.count("  user ") == 25
