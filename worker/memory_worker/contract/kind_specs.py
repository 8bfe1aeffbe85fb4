"""Kinds as data: the tables of a ``KINDS_FILE``, and the kinds that workers publish for producers.

A table describes one kind. A table named like a built-in kind changes only the values that it has; its ``fields`` and
``indexes`` add to those of the built-in kind. Any other table needs ``collection`` and ``id_prefix``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import MAX_SEARCH_LIMIT, NARROWING
from memory_worker.contract.kinds import (
    CREATED_FIELD,
    KINDS,
    MODEL_FIELD,
    POINT_ID_FIELD,
    TENANT_FIELD,
    USER_ID_FIELD,
    VERSION_FIELD,
    Distance,
    IndexType,
    Kind,
    Kinds,
    UserIdType,
    namespace_of,
)
from memory_worker.contract.payloads import check_payload

FieldType: TypeAlias = Literal["str", "int", "float", "bool"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES: Mapping[FieldType, type] = MappingProxyType({"str": str, "int": int, "float": float, "bool": bool})
_INDEXED_TYPES: Mapping[IndexType, type] = MappingProxyType({"integer": int, "keyword": str, "bool": bool})
_INDEX_OF = {indexed: index for index, indexed in _INDEXED_TYPES.items()}
_LARGEST_SCORE = 3.4e38
_OWN_FIELDS = (USER_ID_FIELD, POINT_ID_FIELD, TENANT_FIELD)
_AGE_FIELDS = (CREATED_FIELD, MODEL_FIELD, VERSION_FIELD)
"""The fields by which purges and prunes select old points."""


class KindSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind as it is written in a file. Absent values are those of the built-in kind, or the defaults."""

    collection: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,120}$")] | UnsetType = UNSET
    """The collection of points without a namespace. A namespace adds ``_`` and its name."""
    id_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9]{0,15}$")] | UnsetType = UNSET
    """A point id is this prefix, ``_``, the user id, ``_`` and the app's own part."""
    dimension: Annotated[int, Meta(ge=1, le=65_536)] | UnsetType = UNSET
    distance: Distance | UnsetType = UNSET
    user_ids: UserIdType | UnsetType = UNSET
    namespaces: bool | UnsetType = UNSET
    fields: dict[str, FieldType] | UnsetType = UNSET
    """The types that are checked. Other fields are stored unchanged."""
    indexes: dict[str, IndexType] | UnsetType = UNSET
    narrowing: list[str] | UnsetType = UNSET
    """Those of ``category``, ``group_key`` and ``file_id`` that may narrow a search or a purge."""
    filter: dict[str, bool] | UnsetType = UNSET
    """Values that a point must have to be found by a search."""
    defaults: dict[str, bool | int | float | str] | UnsetType = UNSET
    """Values of absent fields."""
    search_limit: Annotated[int, Meta(ge=1, le=MAX_SEARCH_LIMIT)] | UnsetType = UNSET
    search_min_score: float | UnsetType = UNSET
    """For another distance than cosine, no built-in kind has one."""


def kinds_of(specs: Mapping[str, KindSpec], built_in: Kinds = KINDS) -> Kinds:
    """Return the kinds that ``specs`` describe, by name.

    Raises `InvalidJob`, whose field is the path of the wrong value, such as ``note.dimension``.
    """
    if not specs:
        raise InvalidJob("kinds", "at least one kind is needed")
    kinds = {name: _kind(name, spec, built_in.get(name)) for name, spec in specs.items()}
    check_together(kinds.values())
    return MappingProxyType(kinds)


def spec_of(kind: Kind) -> KindSpec:
    """Return the complete description of a kind. `kinds_of` makes an equal kind of it."""
    names = {python: name for name, python in _TYPES.items()}
    own = {name for name in _OWN_FIELDS if name in kind.indexes}
    return KindSpec(
        collection=kind.collection,
        id_prefix=kind.id_prefix,
        dimension=UNSET if kind.dimension is None else kind.dimension,
        distance=kind.distance,
        user_ids=kind.user_ids,
        namespaces=kind.namespaced,
        fields={name: names[python] for name, python in kind.payload_types.items()},
        indexes={name: index for name, index in kind.indexes.items() if name not in own},
        narrowing=list(kind.narrowing),
        filter=dict(kind.search_filter),
        defaults=dict(kind.payload_defaults),
        search_limit=kind.default_limit,
        search_min_score=UNSET if kind.default_min_score is None else kind.default_min_score,
    )


def encode_kinds(kinds: Kinds) -> bytes:
    """Encode kinds as JSON, for producers."""
    return msgspec.json.encode({name: spec_of(kind) for name, kind in kinds.items()})


def decode_kinds(body: bytes) -> Kinds | None:
    """Decode what `encode_kinds` has encoded; ``None`` if another version of the worker has encoded it differently."""
    try:
        return kinds_of(msgspec.json.decode(body, type=dict[str, KindSpec]), built_in={})
    except (msgspec.MsgspecError, InvalidJob, RecursionError):
        return None


def _kind(name: str, spec: KindSpec, base: Kind | None) -> Kind:
    if not _NAME.fullmatch(name):
        raise InvalidJob(name[:80], "the name of a kind is 1 to 32 characters a-z 0-9 _, the first one a letter")
    for needed in ("collection", "id_prefix"):
        if base is None and getattr(spec, needed) is UNSET:
            raise InvalidJob(f"{name}.{needed}", "is missing")
    for field in spec.indexes or ():
        if field in _OWN_FIELDS:
            raise InvalidJob(f"{name}.indexes.{field}", "is indexed in any case")
    kind = _replaced(name, spec, base or _blank(name))
    _check_fields(kind)
    _check_score(kind)
    return kind


def _blank(name: str) -> Kind:
    nothing: Mapping[str, Any] = MappingProxyType({})
    return Kind(
        name=name,
        collection="",
        id_prefix="",
        namespaced=False,
        indexes=nothing,
        payload_types=nothing,
        payload_defaults=nothing,
        narrowing=(),
        search_filter=nothing,
        default_limit=10,
        default_min_score=None,
    )


def _replaced(name: str, spec: KindSpec, base: Kind) -> Kind:
    changes: dict[str, Any] = {
        "name": name,
        "collection": spec.collection,
        "id_prefix": spec.id_prefix,
        "dimension": spec.dimension,
        "distance": spec.distance,
        "user_ids": spec.user_ids,
        "namespaced": spec.namespaces,
        "default_limit": spec.search_limit,
        "default_min_score": spec.search_min_score,
        "payload_types": {**base.payload_types, **{field: _TYPES[name] for field, name in (spec.fields or {}).items()}},
        "payload_defaults": spec.defaults,
        "search_filter": spec.filter,
        "narrowing": spec.narrowing if spec.narrowing is UNSET else tuple(spec.narrowing),
        "indexes": {**base.indexes, **(spec.indexes or {})},
    }
    kind = replace(base, **{field: _frozen(value) for field, value in changes.items() if value is not UNSET})
    if kind.distance != "cosine" and spec.search_min_score is UNSET:
        kind = replace(kind, default_min_score=None)  # it was meant for cosines
    return replace(kind, indexes=_all_indexes(kind))


def _frozen(value: Any) -> Any:
    return MappingProxyType(value) if isinstance(value, dict) else value


def _all_indexes(kind: Kind) -> Mapping[str, IndexType]:
    """Return the indexes that a kind names, and those of all fields by which jobs select its points."""
    own: dict[str, IndexType] = {
        USER_ID_FIELD: "integer" if kind.user_ids == "integer" else "keyword",
        POINT_ID_FIELD: "keyword",
    }
    needed: dict[str, IndexType] = {}
    for field in (*kind.narrowing, *kind.search_filter, *_AGE_FIELDS):
        index = _INDEX_OF.get(kind.payload_types.get(field, object))
        if index is not None and field not in kind.indexes:
            needed[field] = index
    return MappingProxyType({**kind.indexes, **needed, **own})


def _check_fields(kind: Kind) -> None:
    named = {"fields": kind.payload_types, "filter": kind.search_filter, "defaults": kind.payload_defaults}
    for table, fields in named.items():
        for field in fields:
            if field in _OWN_FIELDS:
                raise InvalidJob(f"{kind.name}.{table}.{field}", "is written by the worker itself")
            if not _FIELD.fullmatch(field):
                raise InvalidJob(
                    f"{kind.name}.{table}", f"{field[:80]!r}: 1 to 64 characters A-Z a-z 0-9 _ - are allowed"
                )
    _check_types(kind)
    _check_defaults(kind)


def _check_types(kind: Kind) -> None:
    types = kind.payload_types
    for field, index in kind.indexes.items():
        if field not in _OWN_FIELDS and types.get(field) is not _INDEXED_TYPES[index]:
            wanted = _INDEXED_TYPES[index].__name__
            raise InvalidJob(
                f"{kind.name}.indexes.{field}", f"fields needs it as {wanted!r} for an index of type {index!r}"
            )
    for field in kind.search_filter:
        if types.get(field) is not bool:
            raise InvalidJob(f"{kind.name}.filter.{field}", "fields needs it as 'bool'")
    for field in kind.narrowing:
        if field not in NARROWING:
            raise InvalidJob(f"{kind.name}.narrowing", f"{field[:80]!r} is none of {', '.join(NARROWING)}")
        wanted_type = int if field == "file_id" else str
        if types.get(field) is not wanted_type:
            raise InvalidJob(f"{kind.name}.narrowing", f"fields needs {field!r} as {wanted_type.__name__!r}")


def _check_defaults(kind: Kind) -> None:
    for field, value in kind.payload_defaults.items():
        if kind.payload_types.get(field) is not type(value):
            raise InvalidJob(f"{kind.name}.defaults.{field}", f"fields needs it as {type(value).__name__!r}")
        try:
            check_payload({field: value}, kind)
        except InvalidJob as error:
            raise InvalidJob(f"{kind.name}.defaults.{field}", error.problem) from error


def _check_score(kind: Kind) -> None:
    score, bound = kind.default_min_score, 1 if kind.distance == "cosine" else _LARGEST_SCORE
    if score is not None and not -bound <= score <= bound:
        raise InvalidJob(f"{kind.name}.search_min_score", f"expected {-bound:g} to {bound:g}, got {score:g}")


def check_together(kinds: Iterable[Kind]) -> None:
    """Raise `InvalidJob` if two kinds have the same id prefix, or collections that may have the same name."""
    found = list(kinds)
    for position, kind in enumerate(found):
        for other in found[:position]:
            if kind.id_prefix == other.id_prefix:
                raise InvalidJob(f"{kind.name}.id_prefix", f"{kind.id_prefix!r} is also {other.name}.id_prefix")
            if kind.collection == other.collection:
                raise InvalidJob(f"{kind.name}.collection", f"{kind.collection!r} is also {other.name}.collection")
            _check_namespaces(kind, other)
            _check_namespaces(other, kind)


def _check_namespaces(kind: Kind, other: Kind) -> None:
    """Raise `InvalidJob` if the collection of ``kind`` may be that of a namespace of ``other``."""
    namespace = namespace_of(kind.collection, other.collection) if other.namespaced else None
    if namespace is not None:
        raise InvalidJob(
            f"{kind.name}.collection",
            f"{kind.collection!r} is also the name of the namespace {namespace!r} of {other.name}.collection "
            f"({other.collection!r}); rename one of them",
        )
