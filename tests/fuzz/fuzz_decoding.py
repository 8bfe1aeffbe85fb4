"""Fuzz the code that reads jobs: any bytes in Redis are a job or a dead letter, and nothing else happens.

    python tests/fuzz/fuzz_decoding.py [libFuzzer's arguments]          with atheris (Python 3.11: pip install atheris)
    python tests/fuzz/fuzz_decoding.py --plain N --seed S [--memory M]  without it; one in M is run under tracemalloc

Under atheris, ``-max_len=1048576 -rss_limit_mb=1024`` are defaults, and interesting inputs are kept in a directory. An
input that breaks a rule ends the run with a traceback; ``one_input`` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import decimal
import math
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

if __name__ == "__main__":  # run as a script, the repository is not on the path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from qdrant_client import grpc as q

from memory_worker.contract import (
    CONTRACT_VERSION,
    Count,
    Delete,
    Facet,
    Files,
    Get,
    Limits,
    List,
    Patch,
    Prune,
    Purge,
    Receipt,
    Search,
    SearchMany,
    Stats,
    Upsert,
    WriteJob,
    checked,
    convert_read,
    decode_write,
    encode_job,
    encode_write,
    normalize_job,
    unknown_kind,
)
from memory_worker.contract.arguments import to_list
from memory_worker.contract.building import to_search
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    MAX_SEARCHES,
)
from memory_worker.contract.kind_specs import KindSpec, kinds_of
from memory_worker.contract.kinds import KINDS, UserId
from memory_worker.contract.vectors import unpack_vector
from memory_worker.ingest.arq_jobs import new_entry
from memory_worker.ingest.decoding import DecodedBatch, decode_and_validate
from memory_worker.ingest.outcome import Outcome, decide
from memory_worker.ingest.plan import CollectionPlan, plan
from memory_worker.queue.arq_writes import ArqWrite
from memory_worker.queue.log import DeadEntry, Entry, parse_version
from memory_worker.queue.replay_guard import MAX_SCOPES, PURGES_FIELD, Guard, decode_guarded_job, has_scope, sort_key
from memory_worker.reads.answers import READ_JOBS
from memory_worker.store.cursors import decode_cursor
from memory_worker.store.messages import points_by_id, search, update_batch
from memory_worker.store.operations import DeletePoints, PatchPoints, UpsertPoints
from memory_worker.store.selections import selection_of
from memory_worker.store.values import payload_of
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.meta import QueueMeta
from tests.fuzz.mutations import ARQ, BATCH, MAX_BYTES, PYTHON, READ, RECEIPT, SEEDS, TARGETS, Mutator, unpack
from tests.touching import may_touch
from tests.unit.engine_model import steps_of

MAX_SECONDS = 3.0
MAX_MEMORY = 192 << 20
REPORT_EVERY = 50_000
NEWER = 7
_ONE_BY_ONE = 65_536
_KINDS = kinds_of(
    {
        "memory": KindSpec(),
        "document": KindSpec(),
        "note": KindSpec(
            collection="notes",
            id_prefix="note",
            user_ids="string",
            namespaces=True,
            fields={"category": "str", "file_id": "int"},
            narrowing=["category", "file_id"],
        ),
    }
)
"""The built-in kinds, and one whose users are texts and most of whose fields have any type."""
_WIDE = Limits(dimension=None)
_META = QueueMeta(limits=_WIDE)
_WRITES = {"upsert": Upsert, "delete": Delete, "purge": Purge, "patch": Patch, "prune": Prune}
_READS: dict[str, Any] = {str(job.__struct_config__.tag): job for job in READ_JOBS}


def one_input(data: bytes) -> None:
    """Drive one input through everything its first byte names; raises when a rule is broken."""
    if data:
        _RUN[data[0] % TARGETS](data[1:])


# --- a batch of entries -----------------------------------------------------------------------------------------------


def _batch(data: bytes) -> None:
    flags, rows = unpack(data)
    partitions = 8 if flags & 1 else 1
    limits = Limits(
        dimension=2 if flags & 2 else None,
        max_job_bytes=100 if flags & 4 else MAX_BYTES,
        kinds=_KINDS if flags & 16 else KINDS,
    )
    dead_letters = _dead_letters([body for _, body in rows[:3]]) if flags & 8 else {}
    entries = [_entry(number, control, body, dead_letters) for number, (control, body) in enumerate(rows)]
    decoded = decode_and_validate(entries, limits, partition=5 % partitions, partitions=partitions)
    _check_decoding(entries, decoded, limits)
    outcome = decide(decoded, _guards(dead_letters))
    _check_outcome(decoded, outcome, dead_letters)
    _check_guards(outcome)
    _write([job for _, job in outcome.jobs], limits)


def _dead_letters(bodies: list[bytes]) -> dict[str, WriteJob]:
    """Return older dead letters by their positions."""
    dead_letters: dict[str, WriteJob] = {}
    for number, body in enumerate(bodies):
        if len(body) > _ONE_BY_ONE:
            continue
        try:
            dead_letters[f"{number}-1"] = decode_write(body)
        except InvalidJob:
            continue
    return dead_letters


def _guards(dead_letters: dict[str, WriteJob]) -> dict[UserId, Guard]:
    guards: dict[UserId, Guard] = {}
    for position, job in dead_letters.items():
        guards.setdefault(job.user_id, Guard()).add(job, position, position)
    return guards


def _entry(number: int, control: int, body: bytes, dead_letters: dict[str, WriteJob]) -> Entry:
    version = {NEWER: CONTRACT_VERSION + 1, 2: parse_version(body[:12])}.get(control & 7, CONTRACT_VERSION)
    replay_of = ("", "0-1", "1-1", f"{number}-9")[control >> 5 & 3]
    if replay_of in dead_letters:
        # A replay has the body of its dead letter.
        replay_of = replay_of if _dead_letters([body]).get("0-1") == dead_letters[replay_of] else ""
    return Entry(f"{number + 100}-0", version, body, len(body), replay_of, control & 24 == 24)


def _check_decoding(entries: list[Entry], decoded: DecodedBatch, limits: Limits) -> None:
    end = len(decoded.entries)
    assert list(decoded.entries) == entries[:end]
    assert not any(_needs_newer_worker(entry, limits) for entry in decoded.entries if len(entry.body) <= _ONE_BY_ONE)
    if decoded.held is not None:
        assert decoded.held.entry_id == entries[end].entry_id
        assert _needs_newer_worker(entries[end], limits)
        assert not decoded.cut
    elif decoded.cut:
        _check_cut(decoded, entries[end], limits)
    else:
        assert end == len(entries)
    lived, died = (
        [entry.entry_id for entry, _ in decoded.jobs],
        [dead_letter.entry.entry_id for dead_letter in decoded.dead],
    )
    assert not set(lived) & set(died)
    order = {entry.entry_id: at for at, entry in enumerate(decoded.entries)}
    assert sorted(lived + died, key=order.__getitem__) == [entry.entry_id for entry in decoded.entries]
    assert lived == sorted(lived, key=order.__getitem__)
    assert died == sorted(died, key=order.__getitem__)
    for dead_letter in decoded.dead:
        _check_dead_letter(dead_letter)
    for entry, job in decoded.jobs:
        assert not entry.crashed
        assert len(entry.body) <= limits.max_job_bytes
        _check_job(job, limits)


def _needs_newer_worker(entry: Entry, limits: Limits) -> bool:
    """Return whether an entry has a newer version, or a kind that this deployment does not have."""
    if entry.version > CONTRACT_VERSION:
        return True
    if entry.crashed or entry.size_bytes > limits.max_job_bytes:
        return False
    try:
        return unknown_kind(decode_write(entry.body), limits) is not None
    except InvalidJob:
        return False


def _check_cut(decoded: DecodedBatch, following: Entry, limits: Limits) -> None:
    """Only a patch or an upsert ends a batch, behind another job of its user that selects by payload or patches."""
    job = decode_write(following.body)
    assert isinstance(job, (Patch, Upsert))
    assert any(one.user_id == job.user_id and isinstance(one, (Patch, Prune, Purge)) for _, one in decoded.jobs)
    checked(job, limits)


def _check_dead_letter(dead_letter: DeadEntry) -> None:
    assert 0 < len(dead_letter.detail) <= 500
    dead_letter.detail.encode(errors="backslashreplace")
    assert (dead_letter.op != "") is (dead_letter.job is not None)
    assert dead_letter.job is None or dead_letter.reason == "invalid"


def _check_job(job: WriteJob, limits: Limits) -> None:
    assert checked(job, limits) == job
    body = encode_job(job)
    assert checked(decode_write(body), limits) == job
    if isinstance(job, Upsert):
        assert isinstance(job.vector, bytes)
        assert all(map(math.isfinite, unpack_vector(job.vector)))
        assert limits.dimension in (None, len(job.vector) // 4)


# --- dead letters and replays -----------------------------------------------------------------------------------------


def _check_outcome(decoded: DecodedBatch, found: Outcome, dead_letters: dict[str, WriteJob]) -> None:
    """Compare the outcome with that of a slow algorithm, which compares every job with every other."""
    job_of = {entry.entry_id: job for entry, job in decoded.jobs}
    applied, dead = [entry for entry, _ in found.jobs], {dead_letter.entry.entry_id for dead_letter in found.dead}
    assert not {entry.entry_id for entry in applied} & dead
    before: list[tuple[Entry, WriteJob]] = []
    known = set(dead_letters)
    scoped = [job for job in (*job_of.values(), *dead_letters.values()) if has_scope(job)]
    exact = 2 * len(scoped) < MAX_SCOPES  # else scopes may be widened, and more replays are refused
    for entry in decoded.entries:
        job = job_of.get(entry.entry_id)
        if job is None:
            continue
        touched = [
            one for one, other in before if sort_key(one.position) > sort_key(entry.position) and may_touch(job, other)
        ]
        is_replay = entry.replay_of != ""
        stale = is_replay and (bool(touched) or entry.position not in known)
        assert not (stale and entry in applied), f"{entry.position}: {job}"
        assert stale or entry in applied or not exact, f"{entry.position}: {job}"
        if entry in applied:
            before.append((entry, job))
            known.discard(entry.position)
    for entry in decoded.entries:
        assert entry in applied or entry.entry_id in dead or _is_purged(entry, before, decoded, job_of, dead_letters)


def _check_guards(outcome: Outcome) -> None:
    """What a commit stores of a guard is read back by the next drain."""
    for guard in outcome.guards.values():
        fields, added, _ = guard.changes()
        Guard({}, fields.get(PURGES_FIELD, "").encode())
        for dead_letter in added.values():
            decode_guarded_job(dead_letter.encode())


def _is_purged(
    entry: Entry,
    applied: list[tuple[Entry, WriteJob]],
    decoded: DecodedBatch,
    job_of: dict[str, WriteJob],
    dead_letters: dict[str, WriteJob],
) -> bool:
    """Return whether a later purge of its user deleted what a dead entry wrote."""
    dead = {dead_letter.entry.entry_id: dead_letter.job for dead_letter in decoded.dead}
    job = job_of.get(entry.entry_id) or dead.get(entry.entry_id) or dead_letters.get(entry.replay_of)
    purges = [(at, one) for at, one in applied if isinstance(one, Purge) and not one.is_narrowed]
    return job is not None and any(
        sort_key(at.position) > sort_key(entry.position) and may_touch(job, purge) for at, purge in purges
    )


# --- plan and messages ------------------------------------------------------------------------------------------------


def _write(jobs: list[WriteJob], limits: Limits) -> None:
    for step in plan(jobs, kinds=limits.kinds):
        _check_plan(step)
        request = update_batch("c", step.operations)
        again = q.UpdateBatchPoints.FromString(request.body)
        assert len(again.operations) == request.operations
        points = [point for operation in again.operations for point in operation.upsert.points]
        upserts = [
            job for operation in step.operations if isinstance(operation, UpsertPoints) for job in operation.points
        ]
        assert len(steps_of(again)) == len(again.operations)
        for point, job in zip(points, upserts, strict=True):
            assert payload_of(point.payload) == job.payload
            assert list(point.vectors.vector.dense.data) == list(unpack_vector(job.vector))


def _check_plan(step: CollectionPlan) -> None:
    """Purges and patches come first, then at most one delete and one upsert, then prunes."""
    kinds = [type(operation) for operation in step.operations]
    assert kinds
    for kind in (DeletePoints, UpsertPoints):
        assert kinds.count(kind) <= 1
    if UpsertPoints in kinds:
        written = kinds.index(UpsertPoints)
        assert DeletePoints not in kinds[written:]
        assert PatchPoints not in kinds[written:]
    if DeletePoints in kinds:
        assert PatchPoints not in kinds[kinds.index(DeletePoints) :]
    deleted = {name for op in step.operations if isinstance(op, DeletePoints) for name in op.point_ids}
    written_ids = [job.point_id for op in step.operations if isinstance(op, UpsertPoints) for job in op.points]
    assert len(set(written_ids)) == len(written_ids)
    assert not deleted & set(written_ids)


# --- reads, arq's records, receipts -----------------------------------------------------------------------------------


def _document(data: bytes) -> Any:
    try:
        return (msgspec.json if data[:1] == b"{" else msgspec.msgpack).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _read(data: bytes) -> None:
    _read_document(_document(data))


def _read_document(document: Any) -> None:
    for kind_of_job in _READS.values():
        for limits in (_WIDE, Limits(dimension=2)):
            try:
                job = checked(convert_read(document, kind_of_job), limits)
            except InvalidJob as error:
                str(error).encode()
                continue
            _check_read(job, limits)


def _check_read(job: Any, limits: Limits) -> None:
    assert checked(job, limits) == job
    encode_job(job)
    match job:
        case Search():
            _check_search(job, limits)
        case SearchMany():
            for one in job.searches:
                _check_search(one, limits)
        case Get():
            points_by_id("c", job.user_id, job.point_ids, fields=job.fields, vectors=job.vectors).SerializeToString()
        case List() | Count() | Facet() | Files() | Stats():
            selected = selection_of(job, limits.kinds[job.kind]).filter
            assert q.Filter.FromString(selected.SerializeToString()) == selected
    if isinstance(job, List) and job.cursor is not None:
        with contextlib.suppress(InvalidJob):
            assert decode_cursor(job.cursor, job.order).order == job.order


def _check_search(job: Search, limits: Limits) -> None:
    if job.vector is UNSET:
        job = msgspec.structs.replace(job, vector=b"")
    request = search("c", limits.kinds[job.kind], job)
    assert q.QueryPoints.FromString(request.SerializeToString()) == request
    assert -1 <= request.score_threshold <= 1


def _arq(data: bytes) -> None:
    result = new_entry(ArqWrite(b"id", b"1", len(data), data), _META).result
    assert result.reason != "internal"
    str(result.error).encode()
    try:
        record = decode_arq(data)
    except msgspec.DecodeError as error:
        str(error).encode()
        return
    assert type(record) is dict
    arguments = record.get("a")
    for document in arguments if isinstance(arguments, list) else ():
        _read_document(document)


def _receipt(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        receipt = Receipt.parse(text)
    except InvalidJob as error:
        str(error).encode()
        return
    assert Receipt.parse(str(receipt)) == receipt
    milliseconds, sequence = map(int, receipt.entry_id.split("-"))
    assert (0, 0) < (milliseconds, sequence) < (2**64, 0)
    assert sequence < 2**64


def _raw(data: bytes) -> None:
    try:
        decode_write(data)
    except InvalidJob as error:
        str(error).encode()
    if len(data) > _ONE_BY_ONE:
        return
    _arq(data)
    _read(data)


# --- jobs made in Python ----------------------------------------------------------------------------------------------


def _python(data: bytes) -> None:
    # A large one would take longer to build than to check.
    document = _document(data) if len(data) <= _ONE_BY_ONE else None
    if not isinstance(document, dict):
        return
    op = document.get("op")
    op = op if isinstance(op, str) else ""
    kind_of_job: Any = {**_WRITES, **_READS}.get(op, Upsert)
    fields = {name: _with_python_values(document[name]) for name in kind_of_job.__struct_fields__ if name in document}
    try:
        job = kind_of_job(**fields)
    except TypeError:  # a field is missing
        return
    limits = Limits(dimension=2, kinds=_KINDS)
    try:
        if isinstance(job, SearchMany):
            searches = to_list("searches", job.searches, of="searches", max_items=MAX_SEARCHES)
            job = msgspec.structs.replace(job, searches=[to_search("searches", search) for search in searches])
        if op in _READS:
            _check_read(checked(normalize_job(job), limits), limits)
            return
        body = encode_write(normalize_job(job), limits)
    except InvalidJob as error:
        str(error).encode()
        return
    assert len(body) <= limits.max_job_bytes
    decoded = decode_and_validate([Entry("1-0", CONTRACT_VERSION, body, len(body))], limits, partition=0, partitions=1)
    assert len(decoded.jobs) == 1
    _write([job for _, job in decoded.jobs], limits)


def _with_python_values(value: Any, depth: int = 0) -> Any:
    """Replace the placeholders of the input with values that only Python can make."""
    if isinstance(value, str) and value[:1] == "\x01" and value[1:] in _PYTHON_ONLY:
        return _PYTHON_ONLY[value[1:]]()
    if depth < 50 and isinstance(value, list):
        return [_with_python_values(child, depth + 1) for child in value]
    if depth < 50 and isinstance(value, dict):
        return {name: _with_python_values(child, depth + 1) for name, child in value.items()}
    return value


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


_PYTHON_ONLY: dict[str, Callable[[], Any]] = {
    "S": lambda: "\ud800",
    "O": object,
    "R": _loop,
    "D": lambda: decimal.Decimal("NaN"),
    "N": lambda: float("nan"),
    "B": lambda: bytearray(b"\0" * 8),
    "M": lambda: memoryview(b"\0" * 8),
    "I": lambda: iter([1.0, 2.0]),
}
_RUN: tuple[Callable[[bytes], None], ...] = (_batch, _read, _arq, _receipt, _python, _raw)
assert [_RUN[target] for target in (BATCH, READ, ARQ, RECEIPT, PYTHON)] == list(_RUN[:-1])


# --- ways to run ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded(data: bytes, *, memory: bool = False) -> Iterator[None]:
    """Refuse an input that takes too much time or, with ``memory``, too much memory; then any time is allowed."""
    if memory:
        tracemalloc.start()
    started = time.thread_time()
    try:
        yield
        took = time.thread_time() - started
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
    finally:
        tracemalloc.stop()
    assert memory or took < MAX_SECONDS, f"{len(data)} bytes took {took:.2f} s: {data[:200]!r}"
    assert peak < MAX_MEMORY, f"{len(data)} bytes took {peak >> 20} MiB: {data[:200]!r}"


def plain(runs: int, seed: int, *, memory_every: int = 500, keep: bool = False) -> None:
    """Run the seeds first, then mutations of the seeds and of earlier inputs.

    ``keep`` writes an input that breaks a rule to a file, as libFuzzer does.
    """
    chance = random.Random(seed)
    mutator = Mutator(chance)
    pool = list(SEEDS)
    began, slowest = time.monotonic(), 0.0
    for number in range(runs):
        data = SEEDS[number] if number < len(SEEDS) else mutator.mutate(chance.choice(pool))
        started = time.thread_time()
        try:
            with bounded(data, memory=number % memory_every == memory_every - 1):
                one_input(data)
        except BaseException:
            if keep:
                Path(f"crash-{seed}-{number}").write_bytes(data)
            print(f"seed {seed}, run {number}: {data[:300]!r}")
            raise
        slowest = max(slowest, time.thread_time() - started)
        if len(data) < 2_000 and chance.random() < 0.05:
            if len(pool) < 5_000:
                pool.append(data)
            else:
                pool[chance.randrange(len(SEEDS), len(pool))] = data
        if number % REPORT_EVERY == REPORT_EVERY - 1 or number == runs - 1:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(
                f"{number + 1:,} runs, {time.monotonic() - began:.0f} s, slowest {slowest:.2f} s, peak {rss} MiB",
                flush=True,
            )


def _atheris(arguments: list[str]) -> None:
    import atheris  # noqa: PLC0415  # only this function needs it

    for name in [name for name in sys.modules if name.startswith("memory_worker.")]:
        _instrument(atheris, sys.modules[name])

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.4:
            return bytes(atheris.Mutate(data, max_size))
        return Mutator(chance, max_size, bulk=0.0005).mutate(data)

    def run(data: bytes) -> None:
        with bounded(data):
            one_input(data)

    if not any(not argument.startswith("-") for argument in arguments):
        arguments = [*arguments, str(_corpus())]
    defaults = [f"-max_len={MAX_BYTES}", "-rss_limit_mb=1024", "-timeout=20"]
    atheris.Setup([sys.argv[0], *defaults, *arguments], run, custom_mutator=mutate)
    atheris.Fuzz()


def _instrument(atheris: Any, module: Any) -> None:
    """Count the branches of a module that is already imported."""
    for thing in list(vars(module).values()):
        owners = [thing] if not isinstance(thing, type) else list(vars(thing).values())
        for function in owners:
            if getattr(function, "__module__", None) == module.__name__ and hasattr(function, "__code__"):
                atheris.instrument_func(function)


def _corpus() -> Path:
    """Write the seeds to a directory for libFuzzer."""
    import tempfile  # noqa: PLC0415  # only this function needs it

    directory = Path(tempfile.mkdtemp(prefix="fuzz-decoding-"))
    for number, seed in enumerate(SEEDS):
        (directory / f"seed-{number:03}").write_bytes(seed)
    return directory


def main() -> None:
    """Run the fuzzer with these arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", type=int, metavar="N", help="N seeded mutations, without atheris")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--memory", type=int, default=500, metavar="M", help="check the memory of one input in M")
    options, rest = parser.parse_known_args()
    if options.plain is None:
        _atheris(rest)
    else:
        print(f"seed {options.seed}", flush=True)
        plain(options.plain, options.seed, memory_every=options.memory, keep=True)


if __name__ == "__main__":
    main()
