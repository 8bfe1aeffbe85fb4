"""Servers for the tests: those at the given URLs, or else embedded ones. Hypothesis, and the lengths of long tests.

Hypothesis has no deadline, because a busy machine is no counterexample. ``--hypothesis-profile long`` is for long runs.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import settings
from qdrant_client import grpc as q

from memory_worker.contract.errors import EmbeddedEngineError
from memory_worker.embedded.engines import start_edge, start_valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from memory_worker.embedded.engines import Engine

IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 1 << 30

settings.register_profile("short", deadline=None, print_blob=True, max_examples=200)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=5_000)
settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the length and the seed of the long tests."""
    group = parser.getgroup("chaos")
    group.addoption("--ops", default=20_000, type=int, help="jobs that are pushed during the faults")
    group.addoption("--jobs", default=10_000, type=int, help="jobs that several producers push to several workers")
    group.addoption("--rate", default=700, type=float, help="jobs per second, at most")
    group.addoption(
        "--topology",
        default="single",
        choices=("single", "sentinel", "cluster"),
        help="Redis: one server, or a primary that is killed and replaced by its replica",
    )
    group.addoption("--stops", default=5, type=int, help="workers that are stopped between a lease and a request")
    group.addoption("--steps", default=600, type=int, help="steps of the oracle over replays")
    group.addoption("--batches", default=2_000, type=int, help="batches of the oracle over plans")
    group.addoption("--seed", default=None, type=int, help="seed of jobs and faults; a random one by default")


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Return ``--seed`` or a random number. It is printed, so that a failed test can be repeated."""
    given = pytestconfig.getoption("--seed")
    number = random.randrange(2**32) if given is None else int(given)
    print(f"--seed {number}")
    return number


@pytest.fixture(scope="session")
def quick_directory() -> Iterator[Path]:
    """Return a directory in memory, if the machine has room for one. Engines on a disk wait for it a long time."""
    found = IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="memory-worker-tests-", dir=IN_MEMORY if found else None) as name:
        yield Path(name)


def _url(engine: Callable[[Path], AbstractContextManager[Engine]], directory: Path) -> Iterator[str]:
    try:
        started = engine(directory)
    except EmbeddedEngineError as error:
        if "not installed" in str(error) and not os.environ.get("CI"):
            pytest.skip(str(error))
        raise
    with started as running:
        yield running.url


@pytest.fixture(scope="session")
def redis_url(quick_directory: Path) -> Iterator[str]:
    """Return the URL of a Redis or Valkey: ``TEST_REDIS_URL``, or an embedded one."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
    else:
        yield from _url(start_valkey, quick_directory)


@pytest.fixture(scope="session")
def qdrant_url(quick_directory: Path) -> Iterator[str]:
    """Return the gRPC URL of a Qdrant: ``TEST_QDRANT_URL``, or the embedded one."""
    if url := os.environ.get("TEST_QDRANT_URL"):
        yield url
    else:
        yield from _url(start_edge, quick_directory)


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """Return a new ``QUEUE_PREFIX``; all keys that contain it are deleted afterwards."""
    import redis  # noqa: PLC0415 - only tests that ask for it need it

    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"*{prefix}*", count=1_000):
            client.delete(key)


@pytest.fixture(scope="session")
def qdrant_channel(qdrant_url: str) -> Iterator[grpc.Channel]:
    """Open a channel to Qdrant that sends ``TEST_QDRANT_API_KEY``, if it is set."""
    target = qdrant_url.removeprefix("http://")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(target, options=options) as channel:
        api_key = os.environ.get("TEST_QDRANT_API_KEY")
        yield grpc.intercept_channel(channel, _SendApiKey(api_key)) if api_key else channel


class _SendApiKey(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, api_key: str) -> None:
        self._metadata = [("api-key", api_key)]

    def intercept_unary_unary(self, continuation, client_call_details, request):  # type: ignore[no-untyped-def]
        details = client_call_details._replace(metadata=self._metadata)
        return continuation(details, request)


@pytest.fixture
def collection_name(qdrant_channel: grpc.Channel) -> Iterator[str]:
    """Return a new collection name; the collection, if created, is deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    q.CollectionsStub(qdrant_channel).Delete(q.DeleteCollection(collection_name=name))


@pytest.fixture
def collection_names(qdrant_channel: grpc.Channel) -> Iterator[Callable[[], str]]:
    """Make collection names, for tests that need several."""
    names: list[str] = []

    def make() -> str:
        names.append(f"test-{uuid.uuid4().hex[:12]}")
        return names[-1]

    yield make
    for name in names:
        q.CollectionsStub(qdrant_channel).Delete(q.DeleteCollection(collection_name=name))
