"""Makes the settings from the environment. Names each variable that is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, get_args

import pydantic
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings.environment import refuse_empty_addresses, secrets_from_files, texts
from memory_worker.settings.model import Settings
from memory_worker.settings.variable_names import Unknown, foreign, misspelt


def load_settings(**overrides: Any) -> Settings:
    """Return the settings from the environment and from the files it names, with ``overrides`` by field name.

    Raise `ConfigurationError` that names each wrong or misspelt variable and shows no secret.
    """
    unknown = misspelt(os.environ, _known())
    if unknown:
        raise ConfigurationError("; ".join(f"{name}: unknown, did you mean {meant}?" for name, meant in unknown))
    given = texts(os.environ, _known())
    refuse_empty_addresses(os.environ, given, overrides)
    secrets, origins = secrets_from_files(given, secret_file_variables())
    try:
        return Settings(**{**secrets, **overrides})
    except pydantic.ValidationError as error:
        raise ConfigurationError("; ".join(_problem(found, origins) for found in error.errors())) from None


def foreign_variables() -> list[Unknown]:
    """Return the variables of the environment that look like settings but probably belong to another program."""
    return foreign(os.environ, _known())


def child_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment for a child process, but with exactly these settings. It has plain secrets.

    The child logs lines of text from the level INFO on.
    """
    left_out = {*_known(), *(unknown.name for unknown in foreign_variables())}
    found = {name: value for name, value in os.environ.items() if name not in left_out}
    for name in settings.model_fields_set | {"redis_url", "qdrant_url"}:
        value = getattr(settings, name)
        if value is not None:
            found[name.upper()] = str(getattr(value, "get_secret_value", lambda value=value: value)())
    return {**found, "LOG_LEVEL": "INFO", "LOG_JSON": "false"}


def variables() -> dict[str, str]:
    """Return the name and the description of each setting's variable."""
    return {name.upper(): field.description or "" for name, field in Settings.model_fields.items()}


def secret_file_variables() -> dict[str, str]:
    """Return the name of each variable that names a file with a secret, and the field of that secret."""
    return {f"{name.upper()}_FILE": name for name, field in Settings.model_fields.items() if _is_secret(field)}


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in get_args(field.annotation)


def _known() -> set[str]:
    return {*variables(), *secret_file_variables()}


def _problem(error: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    name = origins.get(field, field.upper())
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
