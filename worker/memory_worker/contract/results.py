"""The results that a producer gets: the receipt of a push, and the reply to a read job."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import KindName

_UINT64 = range(2**64)


class Receipt(msgspec.Struct, frozen=True):
    """Identifies a pushed job: the partition, and the id of its entry in the partition's stream."""

    partition: int
    entry_id: str

    def __str__(self) -> str:
        return f"{self.partition}/{self.entry_id}"

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """Return the receipt that ``text`` (``17/1732000000000-0``) stands for; raises `InvalidJob`."""
        match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,20}-[0-9]{1,20})", text)
        if match is None or not _is_entry_id(match[2]):
            raise InvalidJob("receipt", f"{text[:80]!r} is not of the form PARTITION/MILLISECONDS-SEQUENCE")
        return cls(int(match[1]), match[2])


class Hit(msgspec.Struct, frozen=True):
    """A point that a search found. ``score`` is the cosine similarity, -1 to 1."""

    point_id: str
    score: float
    payload: dict[str, Any]


class Point(msgspec.Struct, frozen=True):
    """A point that was read by its id."""

    point_id: str
    payload: dict[str, Any]


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a collection. ``status`` is Qdrant's: ``green``, ``yellow`` or ``red``.

    ``indexing_held`` is true in bulk mode, in which new points are not indexed.
    """

    name: str
    kind: KindName
    namespace: str | None
    status: str
    points: int
    indexed_vectors: int
    segments: int
    dimension: int
    payload_indexes: list[str]
    indexing_held: bool = False


class ReadError(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a read job has no answer: a code and a message.

    The codes are ``invalid``, ``too_large``, ``unavailable``, ``timeout`` and ``internal``.
    """

    code: str
    message: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a read job: one of the lists, or an error. ``engine_ms`` is the time in Qdrant."""

    ok: bool
    hits: list[Hit] | None = None
    points: list[Point] | None = None
    collections: list[CollectionInfo] | None = None
    error: ReadError | None = None
    engine_ms: float = 0.0


def check_receipt(receipt: Any) -> None:
    """Raise `InvalidJob` unless ``receipt`` is one that a push can return."""
    if not isinstance(receipt, Receipt):
        raise InvalidJob(
            "receipt", f"expected a Receipt, got {type(receipt).__name__}; Receipt.parse reads one from its text"
        )
    Receipt.parse(str(receipt))


def _is_entry_id(text: str) -> bool:
    milliseconds, sequence = map(int, text.split("-"))
    return (milliseconds, sequence) > (0, 0) and milliseconds in _UINT64 and sequence in _UINT64
