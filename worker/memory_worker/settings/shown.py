"""The settings in force, as text to show: without secrets, and with where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import SecretStr

from memory_worker.addresses import without_credentials
from memory_worker.settings.environment import texts
from memory_worker.settings.groups import groups
from memory_worker.settings.model import Settings

Origin = Literal["default", "environment", "file", "embedded"]
"""``embedded`` is what a worker has chosen by itself, because the setting is not set."""

_MASK = "••••••••"
_ADDRESSES = ("redis_url", "qdrant_url")


class ShownSetting(NamedTuple):
    """A setting to show. ``value`` is empty if it is unset."""

    name: str
    value: str
    origin: Origin
    description: str


class ShownGroup(NamedTuple):
    """The settings of a group, with its title."""

    title: str
    about: str
    settings: list[ShownSetting]


def shown_settings(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[ShownGroup]:
    """Return all settings by their groups. Secrets are masked, and addresses have no credentials."""
    return [
        ShownGroup(
            title,
            about,
            [
                ShownSetting(name, _value(name.lower(), value), _origin(name, value, default, environment), about_it)
                for name, default, about_it in ((one, field.default, field.description or "") for one, field in fields)
                for value in (getattr(settings, name.lower()),)
            ],
        )
        for title, about, fields in groups()
    ]


def shown_value(value: Any) -> str:
    """Return a value as it would be set. It is empty if it is unset."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


def _value(field: str, value: Any) -> str:
    if field in _ADDRESSES and value is not None:
        return without_credentials(value.get_secret_value() if isinstance(value, SecretStr) else value) or _MASK
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, Path):
        return str(value.absolute())
    return shown_value(value)


def _origin(name: str, value: Any, default: Any, environment: Mapping[str, str]) -> Origin:
    if texts(environment, [name]):
        return "environment"
    if _is_secret(name) and texts(environment, [f"{name}_FILE"]):
        return "file"
    return "default" if value == default else "embedded"


def _is_secret(name: str) -> bool:
    return SecretStr in get_args(Settings.model_fields[name.lower()].annotation)
