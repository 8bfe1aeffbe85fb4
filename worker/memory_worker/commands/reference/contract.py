"""The wire contract: jobs, limits, scripts, replies and keys, from the code that uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from memory_worker.commands.reference.markdown import prose, table
from memory_worker.contract import (
    MAX_KEY_CHARACTERS,
    MAX_PAYLOAD_DEPTH,
    MAX_PAYLOAD_FIELDS,
    MAX_PAYLOAD_VALUES,
    MAX_POINT_IDS,
    MAX_SEARCH_LIMIT,
    MAX_TIMEOUT_MS,
    json_schema,
)
from memory_worker.contract.fields import (
    MAX_FACET_LIMIT,
    MAX_FIELDS,
    MAX_LIST_LIMIT,
    MAX_NAMESPACES,
    MAX_PATCH_FIELDS,
    MAX_POINTS_WITH_VECTORS,
    MAX_REF_CHARACTERS,
    MAX_SEARCHES,
    MAX_VALUES,
    MAX_WHERE,
)
from memory_worker.contract.vectors import MAX_NORM, MIN_NORM
from memory_worker.wire import keys as wire_keys
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.drain_job import drain_job
from memory_worker.wire.scripts import scripts

_JOBS: Final = (
    *("Upsert", "Delete", "Purge", "Patch", "Prune"),
    *("Search", "SearchMany", "Get", "List", "Count", "Facet", "Files", "Stats", "Info", "Health"),
    *("ListAll", "CountAll", "FacetAll"),
)
_REPLIES: Final = (
    *("Reply", "Hit", "SearchResult", "Point", "FacetCounts", "FacetValue", "FileInfo", "UserStats"),
    *("CollectionInfo", "HealthReport", "QueueReport", "ReadError"),
)
_KEYS: Final = (
    *("meta", "since", "pushed:{token}", "backlog", "stream:{p}", "applied:{p}", "dead:{p}"),
    *("overflow:{p}", "overflow:{p}:pushed", "removed:{p}", "outcomes"),
    *("drain", "search", "writes", "drain:wakeup", "search:wakeup", "search:calls", "search:taker", "reply:{job}"),
)
"""The keys that a producer uses, without their prefix; `drain` and `search` share a line."""


def jobs() -> str:
    """Return a section for each job, with its fields."""
    definitions = json_schema()["$defs"]
    return "\n\n".join(_job(definitions[name]) for name in _JOBS)


def conditions() -> str:
    """Return a table of the tests of a condition in ``where``."""
    return _reply(json_schema()["$defs"]["FieldCondition"])


def replies() -> str:
    """Return a section for the reply and for each of its parts, with their fields."""
    definitions = json_schema()["$defs"]
    return "\n\n".join(_reply(definitions[name]) for name in _REPLIES)


def limits() -> str:
    """Return a table of all limits of a job."""
    rows = [
        ("job", "`JOB_MAX_BYTES` encoded"),
        ("`user_id`", "1 to 2^63 - 1; for kinds whose users are texts 1 to 128 of `A-Z a-z 0-9 . @ -`"),
        ("`point_id`", "`mem_{user_id}_` or `doc_{user_id}_`, then 1 to 200 of `A-Z a-z 0-9 _ . : -`"),
        ("`point_ids`", f"1 to {MAX_POINT_IDS:,}"),
        (
            "`vector`",
            f"as many finite numbers as the kind has dimensions, with a norm from {MIN_NORM:.3g} to {MAX_NORM:.3g}, "
            "because no search finds others",
        ),
        (
            "`payload`",
            f"{MAX_PAYLOAD_FIELDS:,} fields, {MAX_PAYLOAD_VALUES:,} values including those in lists and maps, "
            f"{MAX_PAYLOAD_DEPTH} levels, names of {MAX_KEY_CHARACTERS} characters, 64-bit integers, finite numbers",
        ),
        (
            "`set`, `unset`",
            f"{MAX_PATCH_FIELDS} fields each, with the limits of a payload; `unset` takes `A-Z a-z 0-9 _ -`",
        ),
        ("`version`, `before`", "1 to 2^53"),
        ("`ref`", f"1 to {MAX_REF_CHARACTERS} characters"),
        ("`namespace`", "1 to 64 of `a-z 0-9 _ -`"),
        ("`namespaces`, `searches`", f"1 to {MAX_NAMESPACES}, 1 to {MAX_SEARCHES}"),
        ("`limit`", f"search 1 to {MAX_SEARCH_LIMIT}, list 1 to {MAX_LIST_LIMIT:,}, others 1 to {MAX_FACET_LIMIT:,}"),
        ("`vectors`", f"at most {MAX_POINTS_WITH_VECTORS} points"),
        ("`where`", f"{MAX_WHERE} fields; `any` and `not_any` 1 to {MAX_VALUES} values"),
        ("`exclude`, `not_category`", f"{MAX_VALUES} each"),
        ("`fields`", f"1 to {MAX_FIELDS}"),
        ("`min_score`", "-1 to 1 for cosine"),
        ("`timeout_ms`", f"1 to {MAX_TIMEOUT_MS:,}"),
        ("answer to one read", "`READ_MAX_BYTES`; a larger one is the error `too_large`"),
    ]
    return table(("what", "limit"), rows)


def script_head(name: str) -> str:
    """Return the comment at the head of a script, which describes its keys and arguments."""
    source = re.sub(r"^#!.*\n", "", scripts.source(name))
    lines = re.match(r"(?:--.*\n)+", source)
    if lines is None:
        raise ValueError(f"{name}.lua does not begin with a comment")
    text = re.sub(r"^-- ?", "", lines[0], flags=re.MULTILINE)
    return f"```text\n{text}```"


def drain_record() -> str:
    """Return the drain job of partition 17 as JSON."""
    return f"```json\n{json.dumps(decode_arq(drain_job(17)))}\n```"


def keys() -> str:
    """Return a table of the keys that producers use."""
    rows = {name: (kind, meaning) for name, kind, meaning in _all_keys()}
    return table(("key", "type", "content"), ((f"`mw:{name}`", *rows[name]) for name in _KEYS))


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "jobs": jobs,
    "conditions": conditions,
    "limits": limits,
    "push": partial(script_head, "push"),
    "drain job": drain_record,
    "states": partial(script_head, "states"),
    "call": partial(script_head, "call"),
    "cancel": partial(script_head, "cancel"),
    "replies": replies,
    "keys": keys,
}


def _job(schema: Mapping[str, Any]) -> str:
    fields = {name: field for name, field in schema["properties"].items() if name != "op"}
    required = [name for name in fields if name in schema["required"]]
    rows = [
        (f"`{name}`", _type(fields[name]), "required" if name in required else "", _meaning(fields[name]))
        for name in (*required, *(name for name in fields if name not in required))
    ]
    head = f"### {schema['properties']['op']['enum'][0]}"
    return f"{head}\n\n{prose(schema['description'])}\n\n" + table(("field", "type", "", "meaning"), rows)


def _reply(schema: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", _type(field)) for name, field in schema["properties"].items()]
    return f"**{schema['title']}.** {prose(schema['description'])}\n\n" + table(("field", "type"), rows)


def _meaning(field: Mapping[str, Any]) -> str:
    """Return the description of a field, and its default if it has one."""
    either: list[Mapping[str, Any]] = field.get("anyOf", [{}])
    meaning = field.get("description") or either[0].get("description", "")
    default = field.get("default")
    return meaning if default in (None, {}) else f"{meaning} Default: `{default}`."


def _type(field: Mapping[str, Any]) -> str:
    """Return the type of a field in words. The table of limits has the bounds."""
    match field:
        case {"enum": choices}:
            words = " or ".join(f"`{choice}`" for choice in reversed(choices))
        case {"anyOf": [{"type": "string", "contentEncoding": "base64"}, *_]}:
            words = "bytes or list of numbers"
        case {"anyOf": [only, {"type": "null"}]}:
            words = f"{_type(only)}, or null"
        case {"anyOf": choices}:
            words = " or ".join(dict.fromkeys(map(_type, choices)))
        case {"type": "array", "items": item}:
            words = f"list of {_type(item)}{'s' if 'type' in item else ''}"
        case {"$ref": str(reference)}:
            words = reference.rpartition("/")[2]
        case _:
            words = str(field["type"]).replace("object", "map")
    return words


def _all_keys() -> Iterator[tuple[str, str, str]]:
    """Yield the name, the type and the meaning of each key, as the docstring of `memory_worker.wire.keys` has them."""
    row = re.compile(r"^    mw:(.+?)  +(\w+)  +(.+(?:\n {30,}.+)*)", re.MULTILINE)
    for names, kind, meaning in row.findall(wire_keys.__doc__ or ""):
        for name in names.split(", mw:"):
            yield name, kind, " ".join(meaning.replace("``", "`").split())
