"""What the index settings of a collection cost and find, for users of very different sizes.

    TEST_QDRANT_URL=http://127.0.0.1:6334 python -m tests.studies.user_graphs --pid PID --storage DIRECTORY --keep FILE

It needs a real Qdrant on this machine that nobody else uses: its gRPC address, its process id and its storage
directory. The same points go into one collection for each variant, in random order, four batches at a time, as a worker
writes them. Then the script waits until Qdrant is idle, and searches as a worker does, one caller after the other.

The vectors are a mixture of 64 normal distributions around random directions. Each user draws from 8 of them, and the
queries are drawn like the points. Recall is that of the first ten hits against Qdrant's exact search: of all memories
of the user, of those of one category (a fifth of them), and once more after 5 % of all points were overwritten and 5 %
deleted. Memory is what the process of Qdrant gained, and CPU time includes writing and building.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray
from qdrant_client import grpc as q

from memory_worker.contract import Limits, Search, Upsert
from memory_worker.contract.checks import checked
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.contract.kinds import KINDS, MEMORY, with_collections
from memory_worker.store import messages
from memory_worker.store.channel import open_channel
from memory_worker.store.indexing import HELD_FROM_KB
from memory_worker.store.operations import CollectionRef, DeletePoints, UpsertPoints
from memory_worker.store.rpc import QdrantRpc
from memory_worker.store.shape import CollectionShape
from memory_worker.store.store import VectorStore

SIZES = (20, 500, 5_000, 50_000)
TOPICS, TOPICS_OF_A_USER, SPREAD = 64, 8, 0.7
BATCH, IN_FLIGHT, LIMIT = 256, 4, 10
TIMEOUT_S, BUILD_TIMEOUT_S = 120.0, 3600.0
CATEGORIES = ("personal", "preference", "fact", "work", "other")
CHANGED = 0.05
MEMORIES = CollectionRef("memory")
TICKS = os.sysconf("SC_CLK_TCK")

Floats = NDArray[np.float32]
Result: TypeAlias = tuple[list[float], dict[int, list[float]]]
"""What a collection cost, and by the size of users what searches found and how long they took."""


class Variant(NamedTuple):
    """Index settings that are measured. A threshold of `HELD_FROM_KB` is bulk mode."""

    m: int
    threshold_kb: int
    tenant_index: bool

    @property
    def name(self) -> str:
        """The name of the variant in the tables."""
        graphs = "m=0, payload_m=16" if self.m == 0 else f"m={self.m}"
        threshold = "held back" if self.threshold_kb == HELD_FROM_KB else f"{self.threshold_kb:,} kB"
        return f"{graphs}, {threshold}{', tenant index' if self.tenant_index else ''}"

    def shape(self, base: CollectionShape) -> CollectionShape:
        """Return the collections with these settings."""
        return dataclasses.replace(
            base,
            hnsw_m=self.m,
            hnsw_payload_m=16 if self.m == 0 else None,
            indexing_threshold_kb=self.threshold_kb,
            tenant_index=self.tenant_index,
        )


VARIANTS = [
    Variant(16, 10_000, tenant_index=False),  # what Qdrant does by default
    Variant(16, 10_000, tenant_index=True),
    Variant(16, 100_000, tenant_index=True),
    Variant(16, 400_000, tenant_index=True),
    *(
        Variant(0, threshold_kb, tenant_index)
        for threshold_kb in (10_000, 100_000, 400_000, 1_000_000, HELD_FROM_KB)
        for tenant_index in (False, True)
    ),
]


class Data:
    """The points, in the order in which they are written, and the queries of each size of users."""

    def __init__(self, users: str, dimension: int, seed: int, queries: int) -> None:
        self._random = np.random.default_rng(seed)
        self._centres = self._random.standard_normal((TOPICS, dimension), dtype=np.float32)
        self.limits = Limits(dimension=dimension)
        sizes = [size for size, count in zip(SIZES, users.split(","), strict=True) for _ in range(int(count))]
        self._topics = [self._random.choice(TOPICS, TOPICS_OF_A_USER, replace=False) for _ in sizes]
        self._owners = np.repeat(np.arange(len(sizes)), sizes)
        self._random.shuffle(self._owners)
        self._vectors = self._near(self._owners)
        self.queries = {
            size: self._asked([user for user, own in enumerate(sizes) if own == size], queries)
            for size in SIZES
            if size in sizes
        }

    def __len__(self) -> int:
        return len(self._owners)

    def batch(self, numbers: Sequence[int], vectors: Floats | None = None) -> UpsertPoints:
        """Return points as a worker writes them, perhaps with new vectors."""
        found = self._vectors if vectors is None else vectors
        rows = numbers if vectors is None else range(len(numbers))
        return UpsertPoints(tuple(self._point(number, found[row]) for number, row in zip(numbers, rows, strict=True)))

    def overwriting(self, numbers: Sequence[int]) -> UpsertPoints:
        """Return points that exist, with new vectors."""
        return self.batch(numbers, self._near(self._owners[list(numbers)]))

    def point_id(self, number: int) -> str:
        """Return the id of a point."""
        return f"mem_{self._owners[number] + 1}_{number}"

    def _point(self, number: int, vector: Floats) -> Upsert:
        payload = {"category": CATEGORIES[number % len(CATEGORIES)], "value": f"The memory of number {number}."}
        user_id = int(self._owners[number]) + 1
        job = Upsert(user_id=user_id, point_id=self.point_id(number), vector=vector.tobytes(), payload=payload)
        return checked(job, self.limits)

    def _asked(self, users: list[int], count: int) -> list[Search]:
        askers = self._random.choice(users, count)
        return [
            Search(user_id=int(user) + 1, vector=vector.tobytes(), limit=LIMIT, min_score=-1.0)
            for user, vector in zip(askers, self._near(askers), strict=True)
        ]

    def _near(self, users: NDArray[np.int64]) -> Floats:
        topics = [self._topics[user][self._random.integers(TOPICS_OF_A_USER)] for user in users]
        noise = self._random.standard_normal((len(users), self._centres.shape[1]), dtype=np.float32)
        return self._centres[topics] + np.float32(SPREAD) * noise


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """The process of Qdrant and its files."""

    pid: int
    storage: Path

    def cpu_s(self) -> float:
        """Return the CPU time of the process in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        """Return the resident memory of the process in MiB."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def disk_mib(self, collection: str) -> float:
        """Return the size of a collection on the disk in MiB."""
        files = (self.storage / "collections" / collection).rglob("*")
        return sum(path.stat().st_blocks * 512 for path in files if path.is_file()) / 2**20


class Run:
    """The measurement of one variant."""

    def __init__(self, url: str, machine: Machine, data: Data, shape: CollectionShape) -> None:
        self._data, self._machine, self._shape = data, machine, shape
        self._store = VectorStore(url, shape, timeout_s=TIMEOUT_S)
        self._channel = open_channel(url)
        self._rpc = QdrantRpc(self._channel, api_key=None, timeout_s=TIMEOUT_S)
        self._name = shape.name(MEMORIES)

    async def measure(self) -> Result:
        """Return what the collection cost, and for each size of users what searches found and how long they took."""
        try:
            costs = await self._build()
            before = {size: await self._searched(jobs) for size, jobs in self._data.queries.items()}
            costs[3:3] = [self._machine.rss_mib() - self._rss_before]
            await self._change()
            after = {size: await self._recall(jobs) for size, jobs in self._data.queries.items()}
            return costs, {size: [*figures, after[size]] for size, figures in before.items()}
        finally:
            await self._store.collections.drop(MEMORIES)
            await self._channel.close()
            await self._store.close()

    async def _build(self) -> list[float]:
        self._rss_before = await self._settled_rss_mib()
        cpu_before = self._machine.cpu_s()
        await self._store.collections.ensure(MEMORIES)
        started = time.perf_counter()
        numbers = range(len(self._data))
        await self._write([numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)])
        written = time.perf_counter()
        indexed = await self._settled()
        built = time.perf_counter()
        cpu_s = self._machine.cpu_s() - cpu_before
        return [written - started, built - written, cpu_s, self._machine.disk_mib(self._name), indexed]

    async def _settled_rss_mib(self) -> float:
        """Wait until Qdrant has given back the memory of the collection before, for at most a minute."""
        found = [self._machine.rss_mib()]
        while len(found) < 60 and (len(found) < 15 or found[-10] - found[-1] > 1):
            await asyncio.sleep(1)
            found.append(self._machine.rss_mib())
        return found[-1]

    async def _write(self, batches: Sequence[Sequence[int]]) -> None:
        waiting = iter(batches)

        async def write() -> None:
            for numbers in waiting:
                await self._store.apply(MEMORIES, [self._data.batch(numbers)], timeout_s=TIMEOUT_S)

        await asyncio.gather(*(write() for _ in range(IN_FLIGHT)))

    async def _settled(self) -> float:
        """Wait until Qdrant has been idle for two seconds, and return how many vectors are in indexed segments."""
        quiet, last = 0, -1
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            while True:
                info = await self._store.collections.describe(MEMORIES)
                assert info is not None
                is_quiet = info.status == q.CollectionStatus.Green and info.indexed_vectors_count == last
                quiet, last = (quiet + 1 if is_quiet else 0), info.indexed_vectors_count
                if quiet == 8:
                    return last
                await asyncio.sleep(0.25)

    async def _searched(self, jobs: list[Search]) -> list[float]:
        """Return recall, p50 and p99 in ms, p50 of exact search in ms, and recall in a category."""
        await self._answers(jobs)  # the first round warms up
        found, times = await self._answers(jobs)
        right, exact_times = await self._answers(jobs, exact=True)
        categories = [CATEGORIES[number % len(CATEGORIES)] for number in range(len(jobs))]
        in_category = [msgspec.structs.replace(job, category=one) for job, one in zip(jobs, categories, strict=True)]
        return [
            recall(found, right),
            float(np.percentile(times, 50)),
            float(np.percentile(times, 99)),
            float(np.percentile(exact_times, 50)),
            await self._recall(in_category),
        ]

    async def _recall(self, jobs: list[Search]) -> float:
        return recall((await self._answers(jobs))[0], (await self._answers(jobs, exact=True))[0])

    async def _answers(self, jobs: list[Search], *, exact: bool = False) -> tuple[list[set[str]], list[float]]:
        found, times = [], []
        for job in jobs:
            request = messages.search(self._name, MEMORY, job)
            request.params.exact = exact
            started = time.perf_counter()
            answer = await self._rpc.call("searching", self._rpc.query, request)
            times.append((time.perf_counter() - started) * 1000)
            found.append({hit.id.uuid for hit in answer.result})
        return found, times

    async def _change(self) -> None:
        """Overwrite some points, and delete as many others."""
        count = int(len(self._data) * CHANGED)
        chosen = np.random.default_rng(2).choice(len(self._data), 2 * count, replace=False).tolist()
        for start in range(0, count, BATCH):
            overwritten = self._data.overwriting(chosen[start : min(start + BATCH, count)])
            deleted = DeletePoints(tuple(map(self._data.point_id, chosen[count + start : count + start + BATCH])))
            await self._store.apply(MEMORIES, [overwritten, deleted], timeout_s=TIMEOUT_S)


async def measured(url: str, machine: Machine, data: Data, variant: Variant) -> Result:
    """Measure a variant in a collection of its own."""
    name = f"study-{secrets.token_hex(4)}"
    kinds = with_collections(KINDS, {"memory": f"{name}-memories", "document": f"{name}-documents"})
    shape = variant.shape(CollectionShape(kinds=kinds, dimension=data.limits.dimension))
    return await Run(url, machine, data, shape).measure()


def recall(found: list[set[str]], right: list[set[str]]) -> float:
    """Return the share of the right hits that were found."""
    shares = [
        len(some & all_of_them) / len(all_of_them)
        for some, all_of_them in zip(found, right, strict=True)
        if all_of_them
    ]
    return float(np.mean(shares))


def row(cells: Sequence[Any]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def print_tables(results: dict[str, Result], data: Data) -> None:
    """Print what each variant cost, and what its searches found."""
    costs = ("write, s", "then build, s", "CPU, s", "memory, MiB", "disk, MiB", "indexed")
    print("\n" + row(("collection", *costs)), row(("---", *["--:"] * len(costs))), sep="\n")
    for name, (figures, _) in results.items():
        print(row((name, *(f"{figure:,.1f}" for figure in figures[:3]), *(f"{figure:,.0f}" for figure in figures[3:]))))
    for size in data.queries:
        heads = ("recall", "p50, ms", "p99, ms", "exact p50, ms", "recall in a category", "recall after changes")
        print(f"\nUsers with {size:,} points:\n")
        print(row(("collection", *heads)), row(("---", *["--:"] * len(heads))), sep="\n")
        for name, (_, found) in results.items():
            share, p50, p99, exact, in_category, changed = found[size]
            print(
                row(
                    (
                        name,
                        f"{share:.3f}",
                        f"{p50:.1f}",
                        f"{p99:.1f}",
                        f"{exact:.1f}",
                        f"{in_category:.3f}",
                        f"{changed:.3f}",
                    )
                )
            )


@click.command()
@click.option("--pid", required=True, type=int, help="Process id of Qdrant.")
@click.option("--storage", required=True, type=click.Path(path_type=Path, exists=True), help="Its storage directory.")
@click.option(
    "--keep",
    required=True,
    type=click.Path(path_type=Path),
    help="File of the results. Variants that it has are not measured again, so that a run may be interrupted.",
)
@click.option("--users", default="500,30,5,1", show_default=True, help=f"How many users have {SIZES} points each.")
@click.option("--dimension", default=1024, show_default=True)
@click.option("--queries", default=200, show_default=True, help="Searches for each size of users.")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", multiple=True, help="Only variants whose names contain this text.")
def main(*, pid: int, storage: Path, keep: Path, only: tuple[str, ...], **drawn: Any) -> None:
    """Measure the index settings of collections on the Qdrant at TEST_QDRANT_URL."""
    url, machine, data = os.environ["TEST_QDRANT_URL"], Machine(pid, storage), Data(**drawn)
    results = msgspec.json.decode(keep.read_bytes(), type=dict[str, Result]) if keep.exists() else {}
    for variant in VARIANTS:
        if variant.name in results or (only and not any(text in variant.name for text in only)):
            continue
        print(f"{time.strftime('%H:%M:%S')} {variant.name} ...", file=sys.stderr, flush=True)
        try:
            results[variant.name] = uvloop.run(measured(url, machine, data, variant))
        except (MemoryWorkerError, TimeoutError) as error:
            print(f"{variant.name}: {error!r}", file=sys.stderr, flush=True)
        keep.write_bytes(msgspec.json.encode(results))
    print(f"`TEST_QDRANT_URL={url} python -m tests.studies.user_graphs {shlex.join(sys.argv[1:])}`")
    load = os.getloadavg()[0]
    print(f"{len(data):,} points, {time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {load:.1f}")
    print_tables({variant.name: results[variant.name] for variant in VARIANTS if variant.name in results}, data)


if __name__ == "__main__":
    main()
