"""The results that a producer gets: the receipt of a push, and the reply to a read job."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import KindName
from memory_worker.contract.type_words import type_word

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
        match = re.fullmatch(r"([0-9]{1,5})/(.*)", text)
        if match is None or not is_entry_id(match[2]):
            raise InvalidJob("receipt", f"{text[:80]!r} is not of the form PARTITION/MILLISECONDS-SEQUENCE")
        return cls(int(match[1]), match[2])


class JobState(msgspec.Struct, frozen=True):
    """The state of the job of a receipt.

    ``waiting``: it has not been applied yet. ``applied``: it has been applied, or it is a replay or a dead letter that
    a later purge of its user has made needless. ``dead``: it can never be applied, for this reason. The reason
    ``dropped`` means that an operator has deleted its dead letter, ``discarded`` that an operator has discarded the
    waiting job. ``unknown``: Redis no longer knows, because it has lost data since the push, because many later dead
    letters were dropped or replayed, or because later jobs were discarded. ``ref`` is that of a dead letter. If the
    dead letter was replayed, ``replay`` is the receipt of its last replay, and the state is that of this replay.
    """

    receipt: Receipt
    state: Literal["waiting", "applied", "dead", "unknown"]
    reason: str = ""
    detail: str = ""
    ref: str | None = None
    replay: Receipt | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job. ``id`` is the place of the outcome among all outcomes.

    ``applied``: the job was applied. It is reported if the job has ``notify``, and for each replay that was not forced.
    ``dead``: it became a dead letter, for this reason. It is always reported. ``dropped``: an operator has deleted its
    dead letter, or (reason ``purged``) a later purge of its user has made it needless, or (reason ``discarded``) an
    operator has discarded the waiting job. The last two are reported as ``applied`` is. ``replayed``: an operator has
    pushed its dead letter again. ``replay`` is the new receipt, and the outcome of the replay follows.

    ``position`` is the id under which the job was first pushed, which replays that were not forced keep. ``at`` is the
    time in unix milliseconds. ``op`` and ``user_id`` are ``None`` if the job could not be decoded. ``kind`` and
    ``namespace`` are ``None`` for all kinds and for none or all namespaces. ``gap`` means that outcomes between the
    last one that was read and this one may be lost.
    """

    id: str
    receipt: Receipt
    position: str
    outcome: Literal["applied", "dead", "dropped", "replayed"]
    at: int
    op: str | None = None
    user_id: int | str | None = None
    kind: KindName | None = None
    namespace: str | None = None
    reason: str = ""
    detail: str = ""
    ref: str | None = None
    replay: Receipt | None = None
    gap: bool = False


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A point that a search found. ``score`` is the similarity (for cosine -1 to 1) or the distance."""

    point_id: str
    score: float
    payload: dict[str, Any]
    namespace: str | None = None


class Point(msgspec.Struct, frozen=True, omit_defaults=True):
    """A point that was read. ``vector`` is float32 little-endian bytes, normalized by Qdrant for cosine."""

    point_id: str
    payload: dict[str, Any]
    namespace: str | None = None
    vector: bytes | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of points. ``cursor`` is that of the next page; ``None``: this is the last one."""

    points: list[Point]
    cursor: str | None


class FacetValue(msgspec.Struct, frozen=True):
    """A value of a field, and how many points have it."""

    value: str | int | bool
    count: int


class FacetCounts(msgspec.Struct, frozen=True):
    """The values of a field, the most frequent first. If ``truncated``, there are more values."""

    values: list[FacetValue]
    truncated: bool = False


class FileInfo(msgspec.Struct, frozen=True):
    """A file of a user: its chunks, and the group that most of them are in (``None``: none is in a group)."""

    file_id: int
    chunks: int
    group_key: str | None = None


class UserStats(msgspec.Struct, frozen=True, kw_only=True):
    """The points of a user: how many there are, and how many by the values of each field.

    ``by`` has a list for each narrowing field of the kind and for ``embedding_model_id``. ``absent`` has the number of
    points without the field. If ``truncated``, a list has not all values.
    """

    points: int
    by: dict[str, list[FacetValue]]
    absent: dict[str, int]
    truncated: bool = False


class QueueReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the queue ``at`` a time of Redis's clock, in unix seconds. Workers publish it every few seconds.

    ``waiting`` counts write jobs, ``oldest_age_s`` is the age of the oldest in seconds, ``dead`` counts dead letters,
    and ``reads_waiting`` counts read jobs. ``store_error`` says why Qdrant does not answer, if it does not.
    """

    at: float
    waiting: int
    waiting_bytes: int
    oldest_age_s: float
    dead: int
    reads_waiting: int
    store_error: str | None = None


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a worker that could reach Qdrant. ``version`` is Qdrant's, ``engine_ms`` the time of its answer.

    ``queue`` is the state of the queue, or ``None`` if no worker has published it lately.
    """

    version: str
    engine_ms: float
    queue: QueueReport | None = None


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a collection. ``status`` is Qdrant's: ``green``, ``yellow`` or ``red``.

    ``indexing_held`` is true in bulk mode, in which new points are not indexed. ``engine_version`` is Qdrant's.
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
    distance: str = "cosine"
    engine_version: str = ""


class ReadError(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a read job has no answer: a code and a message.

    The codes are ``invalid``, ``too_large``, ``unavailable``, ``timeout``, ``not_applied`` and ``internal``.
    """

    code: str
    message: str


class SearchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one of several searches: its hits, or its error."""

    hits: list[Hit] | None = None
    error: ReadError | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a read job: what its ``op`` asks for, or an error.

    ``queue_ms`` is the time from the push of the job until a worker began it, ``engine_ms`` is the time in Qdrant, and
    ``total_ms`` is the time from the push until the worker had the answer.
    """

    ok: bool
    hits: list[Hit] | None = None
    results: list[SearchResult] | None = None
    points: list[Point] | None = None
    cursor: str | None = None
    count: int | None = None
    facet: FacetCounts | None = None
    files: list[FileInfo] | None = None
    truncated: bool = False
    stats: UserStats | None = None
    collections: list[CollectionInfo] | None = None
    health: HealthReport | None = None
    error: ReadError | None = None
    engine_ms: float = 0.0
    queue_ms: float = 0.0
    total_ms: float = 0.0


def check_receipt(receipt: Any, field: str = "receipt") -> None:
    """Raise `InvalidJob` about ``field`` unless ``receipt`` is one that a push can return."""
    if not isinstance(receipt, Receipt):
        raise InvalidJob(field, f"expected a Receipt, got {type_word(receipt)}; Receipt.parse reads one from its text")
    try:
        Receipt.parse(str(receipt))
    except InvalidJob as error:
        raise InvalidJob(field, error.problem) from error


def is_entry_id(text: str) -> bool:
    """Return whether a text can be the id of an entry of a stream in Redis."""
    match = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})", text)
    if match is None:
        return False
    milliseconds, sequence = map(int, match.groups())
    return (milliseconds, sequence) > (0, 0) and milliseconds in _UINT64 and sequence in _UINT64
