"""What is shown of the job of a dead letter. Unless payloads are shown, its values and texts are masked.

Ids, ops, sizes and names of fields are always shown. The detail of a dead letter may quote a value, so the values of
its job are removed from it. Errors of Qdrant are free text, so the list, which does not read jobs, shows only their
code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from memory_worker.contract import decode_write
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.type_words import type_word
from memory_worker.queue.dead_letters import DeadLetter, DeadLetterHeader

MASK = "•••"
_OPEN_FIELDS = frozenset(
    ("op", "kind", "namespace", "user_id", "point_id", "point_ids", "file_id", "ref", "notify", "version", "unset")
)
"""Fields of jobs that are ids, or that only say what to do."""
_SHORTEST_VALUE = 3
"""Shorter values are not removed from details, because they would match everywhere."""
_SURE_PREFIX = 12
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_CODE = re.compile(r"[A-Z][A-Z_]+(?=:)")
_DUMP_BYTES = 512
_DUMP_WIDTH = 16
_FLOAT32_BYTES = 4
_MOST_CHARACTERS = 10_000


class ShownField(NamedTuple):
    """A field of a job: its path, its value as text, and whether this is a description instead of the value."""

    path: str
    value: str
    is_masked: bool


class ShownJob(NamedTuple):
    """The job of a dead letter. ``fields`` is ``None`` if it cannot be read; then ``dump`` may have its first bytes."""

    detail: str
    fields: list[ShownField] | None
    dump: str


def shown_job(dead_letter: DeadLetter, *, payloads: bool) -> ShownJob:
    """Return what to show of a dead letter with its job."""
    job = _decoded(dead_letter.body)
    if payloads:
        fields = None if job is None else [*_open_fields(job)]
        return ShownJob(dead_letter.detail, fields, _dump(dead_letter.body) if job is None else "")
    if job is None:
        return ShownJob(_QUOTED.sub(MASK, dead_letter.detail), None, "")
    hidden = [value for name, value in job.items() if name not in _OPEN_FIELDS and name != "vector"]
    return ShownJob(_without(dead_letter.detail, hidden), [*_masked_fields(job)], "")


def shown_detail(header: DeadLetterHeader, *, payloads: bool) -> str:
    """Return what to show of the detail of a dead letter whose job is not read."""
    if payloads or header.reason not in ("refused", "malformed"):
        return header.detail
    if header.reason == "refused":
        code = _CODE.search(header.detail)
        return f"{code[0]}: {MASK}" if code else MASK
    return _QUOTED.sub(MASK, header.detail)


def _decoded(body: bytes) -> dict[str, Any] | None:
    """Return the fields of a job, with its vector as bytes. Return ``None`` if it cannot be read."""
    try:
        job = msgspec.to_builtins(decode_write(body), builtin_types=(bytes, bytearray, memoryview))
    except (InvalidJob, TypeError, RecursionError):
        return None
    return job if isinstance(job, dict) else None


def _open_fields(job: dict[str, Any]) -> Iterator[ShownField]:
    for name, value in job.items():
        if name == "vector":
            yield ShownField(name, _described(value), True)
        elif name in ("payload", "set") and isinstance(value, dict):
            yield from (ShownField(f"{name}.{key}", _text(inner), False) for key, inner in value.items())
        else:
            yield ShownField(name, _text(value), False)


def _masked_fields(job: dict[str, Any]) -> Iterator[ShownField]:
    for name, value in job.items():
        if name in ("payload", "set") and isinstance(value, dict):
            yield from (ShownField(f"{name}.{key}", _described(inner), True) for key, inner in value.items())
        elif name in _OPEN_FIELDS:
            yield ShownField(name, _text(value), False)
        else:
            yield ShownField(name, _described(value), True)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}... ({len(text):,} characters)"


def _described(value: Any) -> str:
    """Describe a value by its type and its size."""
    match value:
        case str():
            return f"text, {_count(len(value), 'character')}"
        case bytes() | bytearray() | memoryview():
            size = memoryview(value).nbytes
            return f"{_count(size // _FLOAT32_BYTES, 'dimension')}, {_count(size, 'byte')}"
        case dict():
            return f"map, {_count(len(value), 'field')}"
        case list() | tuple():
            return f"list, {_count(len(value), 'value')}"
    return type_word(value)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _without(detail: str, hidden: Any) -> str:
    """Remove all values in ``hidden`` from a detail, also in the form of `repr` and if the detail ends within one."""
    values = {text for value in _scalars(hidden) for text in (value, repr(value)[1:-1]) if len(text) >= _SHORTEST_VALUE}
    for value in sorted(values, key=len, reverse=True):
        detail = detail.replace(value, MASK)
        start = detail.find(value[:_SURE_PREFIX]) if len(value) > _SURE_PREFIX else -1
        if start >= 0:  # the detail has only the beginning
            detail = f"{detail[:start]}{MASK}"
    return detail


def _scalars(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for inner in value.values():
                yield from _scalars(inner)
        case list() | tuple():
            for inner in value:
                yield from _scalars(inner)
        case bool() | None:
            return
        case str():
            yield value
        case int() | float():
            yield str(value)


def _dump(body: bytes) -> str:
    """Return the first bytes as hexadecimal numbers and as text, 16 bytes per line."""
    lines = []
    for start in range(0, min(len(body), _DUMP_BYTES), _DUMP_WIDTH):
        part = body[start : start + _DUMP_WIDTH]
        text = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else "." for byte in part)
        lines.append(f"{start:04x}  {part.hex(' '):<{3 * _DUMP_WIDTH}}  {text}")
    if len(body) > _DUMP_BYTES:
        lines.append(f"... {len(body) - _DUMP_BYTES:,} more bytes")
    return "\n".join(lines)
