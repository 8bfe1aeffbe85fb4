"""Convert the errors of msgspec to `InvalidJob`."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import NARROWING, FieldCondition, Scalar
from memory_worker.contract.jobs import NarrowedJob
from memory_worker.contract.type_words import in_words

_PROBLEM = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_NAMED = re.compile(r"(?:missing required|unknown) field `(.+)`")
_NARROWING = ("kind", "namespace", *NARROWING, "active", "before", "other_than_model")


def invalid_job(error: msgspec.ValidationError, job_type: type | None, document: Any = None) -> InvalidJob:
    """Return the error about a job. ``document`` is what msgspec converted; only reads have conditions to look up."""
    path, problem = _path_and_problem(error)
    if "where[...]" in path:
        path, problem = _in_condition(path.partition("[...]")[0], document)
    field = path.lstrip(".")
    if problem.endswith("got null") and job_type is not None and issubclass(job_type, NarrowedJob):
        default = {info.name: info.default for info in msgspec.structs.fields(job_type)}.get(field)
        if field in _NARROWING and default is UNSET:
            problem = f"must not be null: {job_type.null_advice}"
    return InvalidJob(field or "job", problem)


def _path_and_problem(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the path and the problem of an error such as ``Expected `int`, got `str` - at `$.user_id```."""
    found = _PROBLEM.fullmatch(str(error))
    problem, of_key, path = found.groups() if found else (str(error), None, "")
    if named := _NAMED.search(problem):
        path = f"{path}.{named[1]}"
    problem = in_words(problem)
    return path, f"{'a field name: ' if of_key else ''}{problem[0].lower()}{problem[1:]}"


def _in_condition(where: str, document: Any) -> tuple[str, str]:
    """Return the path and the problem of the first wrong condition, because msgspec does not name its field.

    ``where`` is the path of the conditions in ``document``, such as ``.searches[0].where``.
    """
    for step in re.findall(r"\w+", where):
        document = document[int(step) if step.isdecimal() else step]
    for field, condition in document.items():
        try:
            msgspec.convert(condition, Scalar | FieldCondition)
        except msgspec.ValidationError as error:
            inside, problem = _path_and_problem(error)
            return f"{where}.{field[:80]}{inside}", problem
    raise AssertionError(f"msgspec refuses none of the conditions by itself: {where}")
