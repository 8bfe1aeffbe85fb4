"""The wire contract: what a producer may push, in any language.

A job is a map with an ``op``, encoded as MessagePack or as JSON; the first byte tells which. A vector is float32
little-endian bytes in MessagePack, base64 of the same bytes in JSON, or a list of numbers in either.

    job         one request of the main app
    write job   upsert, delete, purge: an entry of a stream, applied in the order of its user
    read job    search, get, info: answered at once
    point       one memory or document chunk; its logical id is ``point_id``
    kind        memory or document (see `memory_worker.kinds`)
    receipt     what a push returns: partition and entry id

Decoding checks types; `checked` checks what types cannot say. Both raise `InvalidJob`, which names the field.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from memory_worker.errors import InvalidJob
from memory_worker.kinds import KINDS, POINT_ID_FIELD, USER_ID_FIELD, Kind, KindName
from memory_worker.vectors import check_vector, pack_vector

CONTRACT_VERSION = 1

MAX_POINT_IDS = 1000
MAX_PAYLOAD_FIELDS = 256
MAX_PAYLOAD_DEPTH = 16
MAX_PAYLOAD_VALUES = 4096
MAX_KEY_CHARACTERS = 256
MAX_SEARCH_LIMIT = 100
MAX_TIMEOUT_MS = 60_000

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_JSON_OBJECT_STARTS = b"{ \t\r\n"
_MSGSPEC_PROBLEM = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)

UserId: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="The user who owns the points.")]
PointIds: TypeAlias = Annotated[list[str], Meta(min_length=1, max_length=MAX_POINT_IDS)]
FileId: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Vector: TypeAlias = Annotated[
    bytes | list[float], Meta(description="float32 little-endian bytes (base64 in JSON), or numbers.")
]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may measure: ``dimension`` of vectors (``None``: not known yet), ``max_job_bytes`` once encoded."""

    dimension: int | None = None
    max_job_bytes: int = 1_048_576


class _Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True, forbid_unknown_fields=True):
    """What all jobs have in common: their encoding."""


class _PointJob(_Job, frozen=True, kw_only=True):
    """What every job about points carries: a kind and, for memories, a namespace (a collection of their own)."""

    kind: KindName = "memory"
    namespace: str | None = None


class Upsert(_PointJob, frozen=True, kw_only=True, tag="upsert"):
    """Write a point, whole: an older point of the same ``point_id`` is replaced."""

    user_id: UserId
    point_id: str
    vector: Vector
    payload: dict[str, Any] = {}


class Delete(_PointJob, frozen=True, kw_only=True, tag="delete"):
    """Delete the points of these ids; ids that do not exist are no error."""

    user_id: UserId
    point_ids: PointIds


class Purge(_PointJob, frozen=True, kw_only=True, tag="purge"):
    """Delete all points of a user, of one kind or (``kind`` is ``null``) of both.

    Without a namespace it reaches every namespace; ``category`` (memories), ``group_key`` and ``file_id`` (documents)
    narrow it.
    """

    user_id: UserId
    kind: KindName | None = None  # type: ignore[assignment]  # wider on purpose: a purge may reach both kinds
    category: str | None = None
    group_key: str | None = None
    file_id: FileId | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether it spares some of the user's points in its reach."""
        return not (self.category is None and self.group_key is None and self.file_id is None)


class Search(_PointJob, frozen=True, kw_only=True, tag="search"):
    """Find the points of a user that are nearest to ``vector``.

    ``limit`` and ``min_score`` default to the kind's (5 and 0.7 for memories, 10 and 0.3 for documents);
    ``timeout_ms`` counts from the push.
    """

    user_id: UserId
    vector: Vector
    limit: Annotated[int, Meta(ge=1, le=MAX_SEARCH_LIMIT)] | None = None
    min_score: Annotated[float, Meta(ge=-1, le=1)] | None = None
    category: str | None = None
    group_key: str | None = None
    file_id: FileId | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


class Get(_PointJob, frozen=True, kw_only=True, tag="get"):
    """Read points by their ids; ids that do not exist are left out of the answer."""

    user_id: UserId
    point_ids: PointIds
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


class Info(_Job, frozen=True, kw_only=True, tag="info"):
    """Describe the collections: counts and the state of their indexes."""

    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] = 5000


WriteJob: TypeAlias = Upsert | Delete | Purge
ReadJob: TypeAlias = Search | Get | Info


class Receipt(msgspec.Struct, frozen=True):
    """Where a pushed job stands: the partition, and the id of its entry in the partition's stream."""

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
    """A point found by a search. ``score`` is the cosine similarity, -1 to 1."""

    point_id: str
    score: float
    payload: dict[str, Any]


class Point(msgspec.Struct, frozen=True):
    """A point read by its id."""

    point_id: str
    payload: dict[str, Any]


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A collection: points, vectors in its index, segments, dimension, and Qdrant's ``green``, ``yellow``, ``red``.

    ``indexing_held``: it is in bulk mode, what is written now is not indexed.
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
    """Why a read job has no answer: ``invalid``, ``unavailable``, ``timeout`` or ``internal``, with a message."""

    code: str
    message: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a read job: one of the lists, or an error. ``engine_ms`` is the time spent in Qdrant."""

    ok: bool
    hits: list[Hit] | None = None
    points: list[Point] | None = None
    collections: list[CollectionInfo] | None = None
    error: ReadError | None = None
    engine_ms: float = 0.0


_write_msgpack: msgspec.msgpack.Decoder[WriteJob] = msgspec.msgpack.Decoder(WriteJob)
_write_json: msgspec.json.Decoder[WriteJob] = msgspec.json.Decoder(WriteJob)
_encoder = msgspec.msgpack.Encoder()


def partition_of(user_id: int, partitions: int) -> int:
    """Return the partition that holds all jobs of a user: CRC-32 of the decimal user id, modulo ``partitions``."""
    return zlib.crc32(b"%d" % user_id) % partitions


def op_of(job: WriteJob | ReadJob) -> str:
    """Return the ``op`` under which a job goes over the wire."""
    return str(type(job).__struct_config__.tag)


def encode_job(job: WriteJob | ReadJob) -> bytes:
    """Return the job as MessagePack; raises `InvalidJob` for what MessagePack cannot hold."""
    try:
        return _encoder.encode(job)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidJob("payload", f"cannot be encoded: {error}") from error


def encode_checked(job: WriteJob, limits: Limits) -> bytes:
    """Return the job as MessagePack once it has passed all that a worker will check; raises `InvalidJob`.

    The vector may be anything that `memory_worker.vectors.pack_vector` takes.
    """
    if isinstance(job, Upsert):
        job = msgspec.structs.replace(job, vector=pack_vector(job.vector))
    body = encode_job(job)
    check_size(len(body), limits)
    checked(decode_write(body), limits)
    return body


def decode_write(body: bytes) -> WriteJob:
    """Return the write job in ``body`` (MessagePack or JSON); raises `InvalidJob`."""
    decoder = _write_json if body[:1] in _JSON_OBJECT_STARTS and body else _write_msgpack
    return _decoded(decoder, body)


_Read = TypeVar("_Read", bound=_Job)


def convert_read(document: Any, kind_of_job: type[_Read]) -> _Read:
    """Return the read job in an already decoded map; raises `InvalidJob`."""
    try:
        return msgspec.convert(document, kind_of_job)
    except msgspec.ValidationError as error:
        raise _named(error) from error


def checked_read(job: _Read, limits: Limits) -> _Read:
    """Return a read job made in Python once it has passed all that a worker will check; raises `InvalidJob`."""
    if isinstance(job, Search):
        job = msgspec.structs.replace(job, vector=pack_vector(job.vector))
    return checked(_decoded(msgspec.msgpack.Decoder(type(job)), encode_job(job)), limits)  # type: ignore[arg-type]  # a read job


_AnyJob = TypeVar("_AnyJob", bound=_Job)


def checked(job: _AnyJob, limits: Limits) -> _AnyJob:
    """Return ``job`` with its vector packed and its payload complete; raises `InvalidJob` for what breaks a limit."""
    kind = KINDS[job.kind] if isinstance(job, _PointJob) and job.kind else None
    if isinstance(job, _PointJob) and kind is not None:
        kind.check_namespace(job.namespace)
    match job:
        case Upsert():
            return _checked_upsert(job, _required(kind), limits)  # type: ignore[return-value]  # same type as given
        case Delete() | Get():
            for point_id in job.point_ids:
                _required(kind).check_point_id(point_id, job.user_id)
        case Purge():
            _check_purge(job, kind)
        case Search():
            _check_narrowing(job, _required(kind))
            packed = pack_vector(job.vector)
            check_vector(packed, limits.dimension)
            return msgspec.structs.replace(job, vector=packed)
    return job


def check_size(size_bytes: int, limits: Limits) -> None:
    """Raise `InvalidJob` when the encoded job is larger than the limit."""
    if size_bytes > limits.max_job_bytes:
        raise InvalidJob("job", f"at most {limits.max_job_bytes:,} bytes are allowed, got {size_bytes:,}")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of all jobs and of the reply."""
    schema, definitions = msgspec.json.schema_components([WriteJob, ReadJob, Reply])[:2]
    write, read, reply = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "memory-worker wire contract",
        "version": CONTRACT_VERSION,
        "oneOf": [
            {"title": "write job", **write},
            {"title": "read job", **read},
            {"title": "reply", **reply},
        ],
        "$defs": definitions,
    }


def _is_entry_id(text: str) -> bool:
    milliseconds, sequence = map(int, text.split("-"))
    return (milliseconds, sequence) > (0, 0) and milliseconds in _UINT64 and sequence in _UINT64


_Decoded = TypeVar("_Decoded")


def _decoded(decoder: msgspec.msgpack.Decoder[_Decoded] | msgspec.json.Decoder[_Decoded], body: bytes) -> _Decoded:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidJob("job", f"is neither MessagePack nor JSON: {error}") from error


def _checked_upsert(job: Upsert, kind: Kind, limits: Limits) -> Upsert:
    kind.check_point_id(job.point_id, job.user_id)
    packed = pack_vector(job.vector)
    check_vector(packed, limits.dimension)
    _check_payload(job.payload, kind)
    payload = {
        **job.payload,
        **{name: value for name, value in kind.payload_defaults.items() if job.payload.get(name) is None},
        USER_ID_FIELD: _identity(job.payload, USER_ID_FIELD, job.user_id),
        POINT_ID_FIELD: _identity(job.payload, POINT_ID_FIELD, job.point_id),
    }
    return Upsert(
        kind=job.kind,
        namespace=job.namespace,
        user_id=job.user_id,
        point_id=job.point_id,
        vector=packed,
        payload=payload,
    )


def _identity(payload: dict[str, Any], field: str, expected: Any) -> Any:
    if payload.get(field, expected) != expected:
        raise InvalidJob(f"payload.{field}", f"differs from the job's {expected!r}")
    return expected


_PLAIN = frozenset({str, bool, type(None)})


def _check_payload(payload: dict[str, Any], kind: Kind) -> None:
    if len(payload) > MAX_PAYLOAD_FIELDS:
        raise InvalidJob("payload", f"at most {MAX_PAYLOAD_FIELDS} fields are allowed, got {len(payload)}")
    types, rest = kind.payload_types, []
    for name, value in payload.items():
        given, expected = type(value), types.get(name)
        if expected is not None and given is not expected and value is not None:
            raise InvalidJob(f"payload.{name}", f"expected {expected.__name__}, got {given.__name__}")
        if type(name) is not str or not 0 < len(name) <= MAX_KEY_CHARACTERS:
            _check_key("payload", name)
        if given not in _PLAIN and (given is not int or value not in _INT64):
            rest.append((name, value))
    if rest:
        _check_rest(payload, rest)


def _check_rest(payload: dict[str, Any], rest: list[tuple[str, Any]]) -> None:
    """Check those values of a payload that are not plain."""
    if _values_in(payload, MAX_PAYLOAD_VALUES) > MAX_PAYLOAD_VALUES:
        raise InvalidJob(
            "payload", f"at most {MAX_PAYLOAD_VALUES:,} values are allowed, those in lists and maps included"
        )
    for name, value in rest:
        _check_value(f"payload.{name}", value, 1)


def _values_in(root: dict[str, Any], enough: int) -> int:
    """Count the values in a payload, those inside others too, until there are more than ``enough``."""
    count = 0
    containers: list[Collection[Any]] = [root.values()]
    while containers and count <= enough:
        children = containers.pop()
        count += len(children)
        if count <= enough:
            containers += [
                child.values() if isinstance(child, dict) else child
                for child in children
                if isinstance(child, (dict, list, tuple))
            ]
    return count


def _check_key(path: str, key: Any) -> None:
    if type(key) is not str or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidJob(path, f"a field name must be a string of 1 to {MAX_KEY_CHARACTERS} characters")


def _check_value(path: str, value: Any, depth: int) -> None:
    match value:
        case None | bool() | str():
            return
        case int():
            if value not in _INT64:
                raise InvalidJob(path, "an integer must fit 64 bits")
        case float():
            if not math.isfinite(value):
                raise InvalidJob(path, "a number must be finite")
        case list() | tuple() | dict():
            if depth >= MAX_PAYLOAD_DEPTH:
                raise InvalidJob(path, f"at most {MAX_PAYLOAD_DEPTH} levels of nesting are allowed")
            _check_children(path, value, depth)
        case _:
            raise InvalidJob(path, f"a {type(value).__name__} cannot be stored")


def _check_children(path: str, value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _check_key(path, key)
            _check_value(path, child, depth + 1)
    else:
        for child in value:
            _check_value(path, child, depth + 1)


def _check_purge(job: Purge, kind: Kind | None) -> None:
    if kind is None and job.namespace is not None:
        raise InvalidJob("namespace", "needs kind 'memory'")
    _check_narrowing(job, kind)


def _check_narrowing(job: Purge | Search, kind: Kind | None) -> None:
    for name in ("category", "group_key", "file_id"):
        if getattr(job, name) is not None and (kind is None or name not in kind.narrowing):
            owner = "a kind" if kind is None else f"another kind than {kind.name!r}"
            raise InvalidJob(name, f"needs {owner}")


def _required(kind: Kind | None) -> Kind:
    if kind is None:
        raise InvalidJob("kind", "expected 'memory' or 'document'")
    return kind


def _named(error: msgspec.ValidationError) -> InvalidJob:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.user_id``` into an error with the field's name."""
    found = _MSGSPEC_PROBLEM.fullmatch(str(error))
    problem, of_key, path = found.groups() if found else (str(error), None, "")
    named = re.search(r"(?:missing required|unknown) field `(.+)`", problem)
    field = named[1] if named else path.lstrip(".")
    problem = f"a field name: {problem}" if of_key else problem[0].lower() + problem[1:]
    return InvalidJob(field or "job", problem)
