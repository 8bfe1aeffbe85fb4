"""What the engine's settings for many small tenants cost and gain: memory, disk, build time, latency and recall.

    python -m memory_worker.bench.engine_settings --points 20000 --users 400 --dimension 1024 --seed 1 [--json FILE]

The same points go into a collection of each kind, written as the worker writes them. Then the engine builds its
indexes and answers the worker's own searches; what it finds is held against its exact search. It runs on embedded
engines in a temporary place, a fresh one for each kind, or on the server at QDRANT_URL, where memory and disk are not
to be seen.

The vectors are no noise: a mixture of `TOPICS` normal distributions around random directions, each user drawing from
`TOPICS_OF_A_USER` of them, and the queries from the same. `LARGE_USERS` users share `LARGE_SHARE` of all points, the
others have equally few. Real embeddings lie otherwise: measure your own before you choose.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray
from qdrant_client import grpc as q
from rich.console import Console
from rich.table import Table

from memory_worker.contract import Limits, Search, Upsert, checked
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.contract.kinds import KINDS
from memory_worker.embedded.engines import start_edge
from memory_worker.settings import load_settings
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.operations import CollectionRef, UpsertPoints
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore

TOPICS, TOPICS_OF_A_USER, SPREAD = 64, 8, 0.7
LARGE_USERS, LARGE_SHARE = 3, 0.6
LIMIT = 10
BATCH = 256
BUILD_TIMEOUT_S = 3600.0

_CATEGORIES = ("personal", "preference", "fact", "work", "other")
_REQUEST_TIMEOUT_S = 120.0
_LOOK_AGAIN_S = 0.5
_SETTLED_LOOKS = 4
_MEBIBYTE = 2**20
_MEMORIES = CollectionRef("memory")

Group = Literal["large users", "small users", "all users"]
Floats = NDArray[np.float32]


class Variant(NamedTuple):
    """A kind of collection, and how it is asked.

    ``plain_indexes``: with payload indexes as they are where there is a graph over all. ``rescored``: as the worker
    asks where vectors are quantized.
    """

    name: str
    shape: dict[str, Any]
    plain_indexes: bool = False
    rescored: bool = True


_GRAPHS_OF_USERS = {"hnsw_m": 0, "hnsw_payload_m": 16}
_INT8_ON_DISK = {"quantize_int8": True, "on_disk": True}
VARIANTS = (
    Variant("defaults", {}),
    Variant("m=0", _GRAPHS_OF_USERS),
    Variant("m=0, tenant", {**_GRAPHS_OF_USERS, "tenant_index": True}),
    Variant("m=0, plain", _GRAPHS_OF_USERS, plain_indexes=True),
    Variant("int8", {"quantize_int8": True}),
    Variant("on disk", {"on_disk": True}),
    Variant("int8, on disk", _INT8_ON_DISK),
    Variant("int8, on disk, not rescored", _INT8_ON_DISK, rescored=False),
    Variant("int8, on disk, m=0, tenant", {**_INT8_ON_DISK, **_GRAPHS_OF_USERS, "tenant_index": True}),
)


class Place(NamedTuple):
    """Where the engine is."""

    url: str
    api_key: str | None = None
    tls_ca_file: Path | None = None

    def store(self, shape: CollectionShape) -> VectorStore:
        """Return the store as a worker has it."""
        return VectorStore(
            self.url, shape, api_key=self.api_key, tls_ca_file=self.tls_ca_file, timeout_s=_REQUEST_TIMEOUT_S
        )

    @asynccontextmanager
    async def rpc(self) -> AsyncIterator[QdrantRpc]:
        """Return the engine's methods."""
        async with open_channel(self.url, tls_ca_file=self.tls_ca_file) as channel:
            yield QdrantRpc(channel, api_key=self.api_key, timeout_s=_REQUEST_TIMEOUT_S)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: how many points of how many users, and how many searches in each group of users."""

    points: int = 20_000
    users: int = 400
    dimension: int = 1024
    seed: int = 1
    queries: int = 200


class Searches(msgspec.Struct, frozen=True, kw_only=True):
    """Searches of one group: recall of the first ten against exact search, round trips in ms, of exact search too."""

    group: Group
    recall: float
    p50_ms: float
    p99_ms: float
    exact_p50_ms: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of the engine's process in MiB: what it shares of it, and what is its own and not on the disk as well."""

    pss_mib: float
    anonymous_mib: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one kind of collection; times in seconds. Memory is that after the searches that may use indexes.

    ``build_s`` is the time until the indexes are built: of an embedded engine with its start, of a server after the
    last write. ``None`` is what a server does not tell.
    """

    variant: str
    load_s: float
    build_s: float
    indexed_vectors: int
    memory: Memory | None
    disk_mib: float | None
    searches: list[Searches]


class Data:
    """The points and the queries, the same for each kind of collection."""

    def __init__(self, options: Options) -> None:
        self._random = np.random.default_rng(options.seed)
        self._centres = self._random.normal(size=(TOPICS, options.dimension)).astype(np.float32)
        self._limits = Limits(dimension=options.dimension)
        large, small = _users(options)
        self._interests = {user: self._random.choice(TOPICS, TOPICS_OF_A_USER, replace=False) for user in large | small}
        self._owners = [user for user, count in (large | small).items() for _ in range(count)]
        self._random.shuffle(self._owners)
        self._points = self._near(self._owners)
        groups: dict[Group, dict[int, int]] = {"large users": large, "small users": small, "all users": large | small}
        self.queries = {group: self._asked(users, options.queries) for group, users in groups.items()}

    def batches(self) -> Iterator[UpsertPoints]:
        """Yield the points as the worker writes them."""
        for start in range(0, len(self._owners), BATCH):
            numbers = range(start, min(start + BATCH, len(self._owners)))
            yield UpsertPoints(tuple(self._point(number) for number in numbers))

    def _point(self, number: int) -> Upsert:
        user = self._owners[number]
        payload = {"category": _CATEGORIES[number % len(_CATEGORIES)], "value": f"The memory of number {number}."}
        vector = self._points[number].tobytes()
        job = Upsert(user_id=user, point_id=f"mem_{user}_{number}", vector=vector, payload=payload)
        return checked(job, self._limits)

    def _asked(self, users: dict[int, int], count: int) -> list[Search]:
        askers = self._random.choice(list(users), count).tolist()
        vectors = self._near(askers)
        return [
            Search(user_id=user, vector=vector.tobytes(), limit=LIMIT, min_score=-1.0)
            for user, vector in zip(askers, vectors, strict=True)
        ]

    def _near(self, users: Sequence[int]) -> Floats:
        topics = [self._random.choice(self._interests[user]) for user in users]
        noise = self._random.normal(scale=SPREAD, size=(len(users), self._centres.shape[1]))
        return self._centres[topics] + noise.astype(np.float32)


def _users(options: Options) -> tuple[dict[int, int], dict[int, int]]:
    """Return the large users and the small ones, with the number of points of each."""
    each = int(options.points * LARGE_SHARE / LARGE_USERS)
    large = {1 + number: each for number in range(LARGE_USERS)}
    rest, others = options.points - each * LARGE_USERS, options.users - LARGE_USERS
    small = {1 + LARGE_USERS + number: rest // others + (number < rest % others) for number in range(others)}
    return large, {user: count for user, count in small.items() if count}


async def load(place: Place, shape: CollectionShape, data: Data, variant: Variant) -> float:
    """Make the collection and write all points; return the seconds that the writing took."""
    async with place.store(shape) as store:
        if variant.plain_indexes:
            await _make_with_plain_indexes(place, shape)
        return await write(store, data.batches())


async def write(store: VectorStore, batches: Iterable[UpsertPoints]) -> float:
    """Write batches, as the worker writes them; return the seconds that it took, without what it takes to make them."""
    await store.collections.ensure(_MEMORIES)
    took_s = 0.0
    for batch in batches:
        started = time.perf_counter()
        await store.apply(_MEMORIES, [batch], timeout_s=_REQUEST_TIMEOUT_S)
        took_s += time.perf_counter() - started
    return took_s


async def _make_with_plain_indexes(place: Place, shape: CollectionShape) -> None:
    """Make it as collections usually are, so that its indexes are; then change what graphs are to be built."""
    usual = CollectionShape(memories=shape.memories, documents=shape.documents, dimension=shape.dimension)
    async with place.store(usual) as store:
        await store.collections.ensure(_MEMORIES)
    request = q.UpdateCollection(collection_name=shape.memories)
    request.hnsw_config.CopyFrom(q.HnswConfigDiff(m=shape.hnsw_m, payload_m=shape.hnsw_payload_m))
    async with place.rpc() as rpc:
        await rpc.call("updating", rpc.update_collection, request)


async def search(
    place: Place, collection: str, data: Data, *, exact: bool = False, rescored: bool = False
) -> dict[Group, _Answers]:
    """Ask all queries, one after the other; the worker never leaves the user out, as the group of all users does."""
    async with place.rpc() as rpc:
        answers: dict[Group, _Answers] = {}
        for group, jobs in data.queries.items():
            requests = [_query(collection, job, group, exact=exact, rescored=rescored) for job in jobs]
            answers[group] = _Answers([], [])
            for request in requests:
                started = time.perf_counter()
                answer = await rpc.call("searching", rpc.query, request)
                answers[group].times_ms.append((time.perf_counter() - started) * 1000)
                answers[group].found.append({point.id.uuid for point in answer.result})
        return answers


class _Answers(NamedTuple):
    found: list[set[str]]
    times_ms: list[float]


def _query(collection: str, job: Search, group: Group, *, exact: bool, rescored: bool) -> q.QueryPoints:
    request = messages.search(collection, job, rescored=rescored)
    request.params.exact = exact
    if group == "all users":
        del request.filter.must[0]  # the condition on the user
    return request


async def built(place: Place, collection: str) -> int:
    """Wait until the engine has built all it means to, and return how many vectors are in indexes."""
    async with place.rpc() as rpc:
        request = q.GetCollectionInfoRequest(collection_name=collection)
        settled, last = 0, -1
        while True:
            info = (await rpc.call("describing", rpc.get_collection, request)).result
            quiet = info.status == q.CollectionStatus.Green and info.indexed_vectors_count == last
            settled, last = (settled + 1 if quiet else 0), info.indexed_vectors_count
            if settled >= _SETTLED_LOOKS:
                return last
            await asyncio.sleep(_LOOK_AGAIN_S)


async def drop(place: Place, shape: CollectionShape) -> None:
    """Delete the collections."""
    async with place.store(shape) as store:
        for kind in KINDS:
            await store.collections.drop(CollectionRef(kind))


def measure(options: Options, variants: Sequence[Variant], report: Callable[[str], None]) -> list[Figures]:
    """Measure each kind of collection on the server at QDRANT_URL, or on embedded engines.

    Raises `MemoryWorkerError`.
    """
    place, data = configured_place(), Data(options)
    base = own_shape(options)
    found = []
    for variant in variants:
        report(variant.name)
        shape = replace(base, **variant.shape)
        if place is None:
            found.append(_on_embedded_engine(shape, data, variant))
        else:
            found.append(_on_server(place, shape, data, variant))
    return found


def own_shape(options: Options) -> CollectionShape:
    """Return collections whose names nobody else has."""
    name = f"bench-{secrets.token_hex(4)}"
    return CollectionShape(memories=name, documents=f"{name}-documents", dimension=options.dimension)


def configured_place() -> Place | None:
    """Return where the configured server is; ``None`` where an embedded engine is to be used."""
    settings = load_settings()
    if settings.qdrant_url is None:
        return None
    api_key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return Place(settings.qdrant_url, api_key, settings.qdrant_tls_ca_file)


def _on_server(place: Place, shape: CollectionShape, data: Data, variant: Variant) -> Figures:
    try:
        load_s = uvloop.run(load(place, shape, data, variant))
        started = time.perf_counter()
        indexed = uvloop.run(built(place, shape.memories))
        build_s = time.perf_counter() - started
        searches, _ = _searches(place, shape.memories, data, variant, lambda: None)
    finally:
        uvloop.run(drop(place, shape))
    return Figures(
        variant=variant.name,
        load_s=load_s,
        build_s=build_s,
        indexed_vectors=indexed,
        memory=None,
        disk_mib=None,
        searches=searches,
    )


def _on_embedded_engine(shape: CollectionShape, data: Data, variant: Variant) -> Figures:
    with tempfile.TemporaryDirectory(prefix="memory-worker-settings-") as directory:
        with start_edge(directory) as engine:
            load_s = uvloop.run(load(Place(engine.url), shape, data, variant))
        started = time.perf_counter()
        with start_edge(directory, optimize=True, timeout_s=BUILD_TIMEOUT_S):
            build_s = time.perf_counter() - started
        with start_edge(directory) as engine:  # once more: building leaves memory behind
            place, pid = Place(engine.url), engine.pid
            indexed = uvloop.run(built(place, shape.memories))
            searches, memory = _searches(place, shape.memories, data, variant, lambda: _memory(pid))
        disk_mib = _disk_bytes(Path(directory)) / _MEBIBYTE
    return Figures(
        variant=variant.name,
        load_s=load_s,
        build_s=build_s,
        indexed_vectors=indexed,
        memory=memory,
        disk_mib=disk_mib,
        searches=searches,
    )


def _searches(
    place: Place, collection: str, data: Data, variant: Variant, look: Callable[[], Memory | None]
) -> tuple[list[Searches], Memory | None]:
    rescored = variant.rescored and "quantize_int8" in variant.shape
    uvloop.run(search(place, collection, data, rescored=rescored))  # the first round warms up
    approximate = uvloop.run(search(place, collection, data, rescored=rescored))
    memory = look()
    exact = uvloop.run(search(place, collection, data, exact=True))
    return [_compared(group, approximate[group], exact[group]) for group in approximate], memory


def _compared(group: Group, approximate: _Answers, exact: _Answers) -> Searches:
    pairs = zip(approximate.found, exact.found, strict=True)
    recalls = [len(found & right) / len(right) for found, right in pairs if right]
    return Searches(
        group=group,
        recall=float(np.mean(recalls)),
        p50_ms=float(np.percentile(approximate.times_ms, 50)),
        p99_ms=float(np.percentile(approximate.times_ms, 99)),
        exact_p50_ms=float(np.percentile(exact.times_ms, 50)),
    )


def _memory(pid: int | None) -> Memory | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None  # only Linux tells
    kib = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines)}
    return Memory(pss_mib=kib["Pss"] / 1024, anonymous_mib=kib["Anonymous"] / 1024)


def _disk_bytes(directory: Path) -> int:
    """Return what the files take on the disk: Qdrant makes some larger than what is in them."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def print_figures(found: Sequence[Figures], options: Options, console: Console) -> None:
    """Print what the kinds of collections take, and how they answer."""
    large, small = _users(options)
    console.print(
        f"{options.points:,} points of {options.dimension} dimensions: {len(large)} users with {large[1]:,} each, "
        f"{len(small):,} with {min(small.values()):,} or {max(small.values()):,}; a mixture of {TOPICS} topics, "
        f"seed {options.seed}; m=0: no graph but users' own, QDRANT_HNSW_M=0 and QDRANT_HNSW_PAYLOAD_M=16"
    )
    _print_costs(found, console)
    _print_searches(found, console)


def _print_costs(found: Sequence[Figures], console: Console) -> None:
    table = _table("What it takes", ("load s", "build s", "in index", "memory MiB", "not on disk", "disk MiB"))
    for one in found:
        memory = (f"{one.memory.pss_mib:,.0f}", f"{one.memory.anonymous_mib:,.0f}") if one.memory else ("", "")
        disk = "" if one.disk_mib is None else f"{one.disk_mib:,.0f}"
        table.add_row(one.variant, f"{one.load_s:.1f}", f"{one.build_s:.1f}", f"{one.indexed_vectors:,}", *memory, disk)
    console.print(table)


def _print_searches(found: Sequence[Figures], console: Console) -> None:
    for group in dict.fromkeys(searches.group for one in found for searches in one.searches):
        title = f"Searches of {group}: the first {LIMIT}, held against exact search"
        table = _table(title, ("recall", "p50 ms", "p99 ms", "exact p50 ms"))
        for one in found:
            (of_group,) = (searches for searches in one.searches if searches.group == group)
            times = (of_group.p50_ms, of_group.p99_ms, of_group.exact_p50_ms)
            table.add_row(one.variant, f"{of_group.recall:.3f}", *(f"{ms:.2f}" for ms in times))
        console.print(table)


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("collection", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


@click.command()
@click.option("--points", default=20_000, show_default=True, help="Points in all.")
@click.option("--users", default=400, show_default=True, help="Users in all.")
@click.option("--dimension", default=1024, show_default=True, help="Dimension of the vectors.")
@click.option("--seed", default=1, show_default=True, help="Seed of points and queries.")
@click.option("--queries", default=200, show_default=True, help="Searches in each group of users.")
@click.option("--only", multiple=True, type=click.Choice([variant.name for variant in VARIANTS]), help="Only these.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def main(*, only: tuple[str, ...], json_file: Path | None, **chosen: int) -> None:
    """Measure the engine's settings for many small tenants."""
    options, errors = Options(**chosen), Console(stderr=True)
    variants = [variant for variant in VARIANTS if not only or variant.name in only]
    try:
        found = measure(options, variants, lambda name: errors.print(f"measuring: {name} ..."))
    except MemoryWorkerError as error:
        raise click.ClickException(str(error)) from error
    print_figures(found, options, Console())
    if json_file is not None:
        document = {"options": options, "cores": os.cpu_count(), "load": os.getloadavg()[0], "figures": found}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document)))


if __name__ == "__main__":
    main()
