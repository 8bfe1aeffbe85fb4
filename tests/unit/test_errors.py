from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import memory_worker
from memory_worker.contract import errors
from memory_worker.contract.errors import (
    DeadLettered,
    InvalidJob,
    MemoryWorkerError,
    PartitionMismatch,
    PushedInPart,
    QueueFull,
    ReadFailed,
    StoreUnavailable,
)


def drawn() -> dict[str, str]:
    """Return each error in the drawing of the module's docstring, with the error above it."""
    assert errors.__doc__ is not None
    parents, path = {}, ["MemoryWorkerError"]
    for line in errors.__doc__.splitlines():
        branch = max(line.find("├── "), line.find("└── "))
        if branch < 0:
            continue
        depth, name = branch // 4, line[branch + 4 :].split()[0]
        path[depth:] = [name]
        parents[name] = path[depth - 1]
    return parents


def descendants(of: type[BaseException]) -> set[type[BaseException]]:
    found = set(of.__subclasses__())
    return found.union(*map(descendants, found))


def test_the_drawing_shows_the_tree_of_errors() -> None:
    defined = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__
    }
    assert {name: kind.__base__.__name__ for name, kind in defined.items() if kind is not MemoryWorkerError} == drawn()


def test_all_errors_are_defined_in_one_module() -> None:
    for module in pkgutil.walk_packages(memory_worker.__path__, "memory_worker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert {kind.__module__ for kind in descendants(MemoryWorkerError)} == {errors.__name__}


def test_every_error_has_a_docstring() -> None:
    for kind in (MemoryWorkerError, *descendants(MemoryWorkerError)):
        assert kind.__doc__
        assert kind.__doc__ != kind.__base__.__doc__


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PartitionMismatch(8, 32), "QUEUE_PARTITIONS is 8, but this Redis holds a queue of 32 partitions"),
        (PartitionMismatch(None, 32), "this Redis holds a queue of 32 partitions"),
        (InvalidJob("payload.key", "too long"), "payload.key: too long"),
        (QueueFull("jobs", 1_000_000), "the queue is full: at most 1,000,000 jobs may wait; nothing was stored"),
        (PushedInPart([object()] * 3, 1200), "only the first 3 of 1,200 jobs were stored"),
        (DeadLettered("3/1-0", "invalid", "vector: short"), "job 3/1-0 is a dead letter (invalid): vector: short"),
        (ReadFailed("timeout", "too late"), "timeout: too late"),
        (StoreUnavailable("no answer", code="UNAVAILABLE"), "no answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_its_message(error: MemoryWorkerError, text: str) -> None:
    assert str(error) == text
