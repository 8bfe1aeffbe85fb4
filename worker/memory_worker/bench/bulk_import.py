"""What bulk mode gains in a large import: the same points, indexed while they come, and all at once afterwards.

    python -m memory_worker.bench.bulk_import --points 20000 --users 400 --dimension 1024 --seed 1

On the server at QDRANT_URL, which indexes in the background: one import as it is, one between ``bulk on`` and ``bulk
off``, each until everything is indexed. An embedded engine indexes only when it is told to: there the one import is
stopped `STOPS` times to be indexed, and the other once, at its end. Points as in `memory_worker.bench.engine_settings`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from memory_worker.bench.engine_settings import Data, Options, Place, built, configured_place, drop, own_shape, write
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.embedded.engines import start_edge
from memory_worker.store.bulk import BulkMode
from memory_worker.store.operations import UpsertPoints
from memory_worker.store.shape import CollectionShape

STOPS = 8
"""How often an embedded engine is told to index in the import that is indexed while it comes."""


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """An import: seconds for the writes, for the indexes, and from its beginning until everything was indexed."""

    name: str
    load_s: float
    index_s: float
    all_s: float
    indexed_vectors: int


def measure(options: Options) -> list[Import]:
    """Measure both imports; raises `MemoryWorkerError`."""
    batches, place = list(Data(options).batches()), configured_place()
    if place is None:
        return [
            _on_embedded_engine("indexed while it comes", own_shape(options), batches, stops=STOPS),
            _on_embedded_engine("bulk mode", own_shape(options), batches, stops=1),
        ]
    return [
        uvloop.run(_on_server("indexed while it comes", place, own_shape(options), batches, held=False)),
        uvloop.run(_on_server("bulk mode", place, own_shape(options), batches, held=True)),
    ]


async def _on_server(
    name: str, place: Place, shape: CollectionShape, batches: Sequence[UpsertPoints], *, held: bool
) -> Import:
    started = time.perf_counter()
    try:
        async with place.store(shape) as store:
            bulk = BulkMode(store.collections)
            if held:
                await bulk.on()
            load_s = await write(store, batches)
            if held:
                await bulk.off()
        waiting = time.perf_counter()
        indexed = await built(place, shape.memories)
        ended = time.perf_counter()
    finally:
        await drop(place, shape)
    return Import(name=name, load_s=load_s, index_s=ended - waiting, all_s=ended - started, indexed_vectors=indexed)


def _on_embedded_engine(name: str, shape: CollectionShape, batches: Sequence[UpsertPoints], *, stops: int) -> Import:
    load_s = index_s = 0.0
    with tempfile.TemporaryDirectory(prefix="memory-worker-import-") as directory:
        for part in _parts(batches, stops):
            with start_edge(directory) as engine:
                load_s += uvloop.run(_load(Place(engine.url), shape, part))
            index_s += _indexed(Path(directory), shape.memories)
        with start_edge(directory) as engine:
            indexed = uvloop.run(built(Place(engine.url), shape.memories))
    return Import(name=name, load_s=load_s, index_s=index_s, all_s=load_s + index_s, indexed_vectors=indexed)


def _indexed(directory: Path, collection: str) -> float:
    """Have Edge index what is stored, in this process; return the seconds that it took."""
    from memory_worker.embedded.shards import Shards  # noqa: PLC0415  # on a server nothing of it is needed

    with closing(Shards(directory / "edge" / "collections")) as shards:
        started = time.perf_counter()
        shards[collection].shard.optimize()
        return time.perf_counter() - started


def _parts(batches: Sequence[UpsertPoints], count: int) -> Iterator[Sequence[UpsertPoints]]:
    size = -(-len(batches) // count)
    return (batches[first : first + size] for first in range(0, len(batches), size))


async def _load(place: Place, shape: CollectionShape, batches: Sequence[UpsertPoints]) -> float:
    async with place.store(shape) as store:
        return await write(store, batches)


def print_imports(found: Sequence[Import], options: Options, console: Console) -> None:
    """Print what the imports took."""
    console.print(f"an import of {options.points:,} points of {options.dimension} dimensions, seed {options.seed}")
    table = Table()
    table.add_column("import", no_wrap=True)
    for heading in ("writes s", "indexes s", "in all s", "in index"):
        table.add_column(heading, justify="right")
    for one in found:
        seconds = (f"{value:.1f}" for value in (one.load_s, one.index_s, one.all_s))
        table.add_row(one.name, *seconds, f"{one.indexed_vectors:,}")
    console.print(table)


@click.command()
@click.option("--points", default=20_000, show_default=True, help="Points in all.")
@click.option("--users", default=400, show_default=True, help="Users in all.")
@click.option("--dimension", default=1024, show_default=True, help="Dimension of the vectors.")
@click.option("--seed", default=1, show_default=True, help="Seed of the points.")
def main(**chosen: int) -> None:
    """Measure an import with and without bulk mode."""
    options = Options(**chosen)
    try:
        found = measure(options)
    except MemoryWorkerError as error:
        raise click.ClickException(str(error)) from error
    print_imports(found, options, Console())


if __name__ == "__main__":
    main()
