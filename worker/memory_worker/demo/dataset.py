"""The data of the demo: memories, document chunks and questions. A real model made the vectors of their texts.

``data/README.md`` describes the files. `load` reads them, which takes about ten milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeVar

import msgspec

from memory_worker.contract.kinds import KindName
from memory_worker.contract.vectors import pack_vector

DIMENSION = 384
MODEL = "all-MiniLM-L6-v2"

Shows = Literal["isolation", "category", "delete", "meaning", "german", "document", "nothing"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A point, as an app pushes it. ``vector`` has length 1, as little-endian float32 bytes."""

    kind: KindName
    user_id: int
    point_id: str
    vector: bytes
    payload: dict[str, Any]

    @property
    def text(self) -> str:
        """The text of the vector."""
        return str(self.payload["value" if self.kind == "memory" else "text"])


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A search, and the points that must be its best hits (``expected``), in this order.

    If none are expected, no point may reach ``min_score``. ``shows`` is the purpose of the question. The question with
    ``delete`` finds nothing once its point is deleted.
    """

    user_id: int
    kind: KindName
    text: str
    limit: int
    min_score: float
    expected: tuple[str, ...]
    shows: Shows
    category: str | None = None
    group_key: str | None = None
    vector: bytes = b""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """All data of the demo. Each vector has ``dimension`` components."""

    dimension: int
    memories: list[Item]
    documents: list[Item]
    questions: list[Question]


class _MemoryRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    user_id: int
    memory_id: int
    category: str
    key: str
    value: str
    source: str
    created: int
    updated: int
    message_id: int | None = None


class _DocumentRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    user_id: int
    file_id: int
    file_type: int
    group_key: str
    chunk_index: int
    start_line: int
    end_line: int
    created: int
    text: str


_Row = TypeVar("_Row")


def load() -> Dataset:
    """Return the data from the package."""
    data = resources.files("memory_worker.demo").joinpath("data")
    memories = _rows(data, "memories.jsonl", _MemoryRow)
    documents = _rows(data, "documents.jsonl", _DocumentRow)
    questions = _rows(data, "questions.jsonl", Question)
    vectors = _vectors(data, len(memories) + len(documents) + len(questions))
    return Dataset(
        dimension=DIMENSION,
        memories=[_memory(row, next(vectors)) for row in memories],
        documents=[_document(row, next(vectors)) for row in documents],
        questions=[msgspec.structs.replace(row, vector=next(vectors)) for row in questions],
    )


def _rows(data: Traversable, name: str, row: type[_Row]) -> list[_Row]:
    return msgspec.json.Decoder(row).decode_lines(data.joinpath(name).read_bytes())


def _vectors(data: Traversable, count: int) -> Iterator[bytes]:
    """Return the vectors in the order of the rows: memories, documents, questions."""
    halves = struct.iter_unpack(f"<{DIMENSION}e", data.joinpath("vectors.f16").read_bytes())
    vectors = [pack_vector(numbers) for numbers in halves]
    if len(vectors) != count:
        raise ValueError(f"vectors.f16 holds {len(vectors)} vectors for {count} rows: run make_vectors.py")
    return iter(vectors)


def _memory(row: _MemoryRow, vector: bytes) -> Item:
    payload = msgspec.to_builtins(row)
    point_id = f"mem_{payload.pop('user_id')}_{payload.pop('memory_id')}"
    return Item(kind="memory", user_id=row.user_id, point_id=point_id, vector=vector, payload=payload)


def _document(row: _DocumentRow, vector: bytes) -> Item:
    payload = msgspec.to_builtins(row)
    point_id = f"doc_{payload.pop('user_id')}_{row.file_id}_{row.chunk_index}"
    return Item(kind="document", user_id=row.user_id, point_id=point_id, vector=vector, payload=payload)
