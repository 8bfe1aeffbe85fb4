"""Check the changes that a patch makes, and make them to a payload in memory."""

from __future__ import annotations

import re
from typing import Any

from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import (
    NARROWING,
)
from memory_worker.contract.jobs import (
    Patch,
)
from memory_worker.contract.kinds import (
    POINT_ID_FIELD,
    TENANT_FIELD,
    USER_ID_FIELD,
    VERSION_FIELD,
    Kind,
)
from memory_worker.contract.payloads import check_payload

_FIXED_FIELDS = (USER_ID_FIELD, POINT_ID_FIELD, TENANT_FIELD, VERSION_FIELD)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_TARGETS = ("point_ids", *NARROWING)


def check_patch(job: Patch, kind: Kind) -> None:
    """Raise `InvalidJob` unless ``job`` has one target and changes that may be made to points of ``kind``."""
    targets = [name for name in _TARGETS if getattr(job, name) is not UNSET]
    if len(targets) != 1:
        given = f"got {' and '.join(targets)}" if targets else "got none"
        raise InvalidJob(targets[1] if targets else "point_ids", f"give exactly one of {', '.join(_TARGETS)}; {given}")
    if not job.set and not job.unset:
        raise InvalidJob("set", "give at least one field in set or unset")
    _check_set(job.set, kind)
    for position, name in enumerate(job.unset):
        _check_unset(f"unset[{position}]", name, job, kind)


def patched(payload: dict[str, Any], job: Patch) -> dict[str, Any]:
    """Return a payload with the changes of a patch."""
    kept = {name: value for name, value in payload.items() if name not in job.unset}
    return {**kept, **job.set}


def _check_set(values: dict[str, Any], kind: Kind) -> None:
    for name, value in values.items():
        if name in _FIXED_FIELDS:
            raise InvalidJob(f"set.{name}", "a patch cannot change this field")
        if value is None:
            raise InvalidJob(f"set.{name}", "must not be null: name the field in unset to remove it")
    try:
        check_payload(values, kind)
    except InvalidJob as error:
        raise InvalidJob(f"set{error.field.removeprefix('payload')}", error.problem) from error


def _check_unset(field: str, name: str, job: Patch, kind: Kind) -> None:
    if not _PLAIN_NAME.fullmatch(name):
        raise InvalidJob(field, "1 to 256 characters A-Z a-z 0-9 _ - are allowed")
    if name in _FIXED_FIELDS:
        raise InvalidJob(field, f"a patch cannot remove {name!r}")
    if name in kind.payload_defaults:
        raise InvalidJob(field, f"{name!r} has a default in kind {kind.name!r}: set it instead")
    if name in job.set:
        raise InvalidJob(field, f"{name!r} is in set, too")
