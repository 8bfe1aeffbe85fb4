"""The settings as the README's table and as an env file, made of the settings class itself.

python -m memory_worker.commands.settings_reference            print the table
python -m memory_worker.commands.settings_reference --write    update README.md and .env.example
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from memory_worker.settings import Settings

BEGIN = "<!-- settings: begin, written by python -m memory_worker.commands.settings_reference --write -->"
END = "<!-- settings: end -->"

_ENV_HEAD = """\
# Every setting of memory-worker, with its default. Nothing needs to be set: without REDIS_URL and QDRANT_URL, embedded
# engines take their part. memory-worker reads the environment, not this file: hand it over with
# docker run --env-file, systemd's EnvironmentFile=, or set -a; . ./.env
#
# Written by python -m memory_worker.commands.settings_reference --write
"""
_MEBIBYTE = 1_048_576


def markdown_table() -> str:
    """Return a Markdown table with a row for each setting, in the order of the class."""
    rows = ["| variable | default | values | meaning |", "|---|---|---|---|"]
    for name, field in _fields():
        value = _value(field.default)
        default = f"`{value}`" if value else "unset"
        allowed = _allowed(field).replace("|", "\\|")
        rows.append(f"| `{name}` | {default}{_hint(name, field.default)} | {allowed} | {field.description} |")
    return "\n".join(rows)


def env_file() -> str:
    """Return an env file that sets nothing: each setting commented out, at its default, below its description."""
    entries = []
    for name, field in _fields():
        allowed = _allowed(field).replace("`", "")
        about = (field.description or "").replace("`", "")
        entries.append(f"# {about}{f' [{allowed}]' if allowed else ''}\n#{name}={_value(field.default)}\n")
    return "\n".join([_ENV_HEAD, *entries])


def with_table(readme: str) -> str:
    """Return ``readme`` with the table between its two markers made anew."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the markers are missing: {BEGIN} ... {END}")
    return f"{before}{begin}\n\n{markdown_table()}\n\n{end}{after}"


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for name, field in Settings.model_fields.items():
        yield name.upper(), field


def _value(default: Any) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
    return str(default)


def _hint(name: str, default: Any) -> str:
    return f" ({default // _MEBIBYTE:,} MiB)" if name.endswith("_BYTES") else ""


def _allowed(field: FieldInfo) -> str:
    """Return what the field takes: its choices, its bounds or its pattern."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    bounds = {
        bound: value
        for limit in field.metadata
        for bound in ("gt", "ge", "le", "pattern")
        if (value := getattr(limit, bound, None)) is not None
    }
    if "pattern" in bounds:
        return f"`{bounds['pattern']}`"
    if "le" not in bounds:
        return f"{bounds['ge']:,} or more" if "ge" in bounds else ""
    low = f"above {bounds['gt']:,}" if "gt" in bounds else f"{bounds['ge']:,}"
    return f"{low} to {bounds['le']:,}"


@click.command()
@click.option("--write", is_flag=True, help="Bring README.md and .env.example of the current directory up to date.")
def main(*, write: bool) -> None:
    """Print the table of all settings."""
    if not write:
        click.echo(markdown_table())
        return
    readme = Path("README.md")
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    Path(".env.example").write_text(env_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
