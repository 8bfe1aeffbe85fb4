"""Update the generated parts of the documentation.

python -m memory_worker.commands.reference            name the files that are out of date
python -m memory_worker.commands.reference --write    update them
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from memory_worker.commands.reference import commands, contract, events, metrics, settings

_Parts = Mapping[str, Callable[[], str]]

PAGES: Final[Mapping[str, _Parts]] = {
    "docs/settings.md": {"settings": settings.tables},
    "docs/contract.md": contract.PARTS,
    "docs/metrics.md": {
        "process metrics": metrics.of_process,
        "queue metrics": metrics.of_queue,
        "events": events.table_of_events,
    },
    "docs/commands.md": {"commands": commands.sections},
}
"""The pages, each with its generated parts."""

ENV_FILE: Final = ".env.example"
_MARKED = re.compile(r"(<!-- generated: (.+) -->\n).*?(<!-- end: \2 -->\n)", re.DOTALL)


def updated(page: str, parts: _Parts) -> str:
    """Return the text of a page with all ``parts`` between their marks; raise `ValueError` if the marks differ."""
    found = [name for _, name, _ in _MARKED.findall(page)]
    if found != [*parts]:
        raise ValueError(f"the page marks {found}, but the parts are {[*parts]}")
    return _MARKED.sub(lambda mark: f"{mark[1]}\n{parts[mark[2]]()}\n\n{mark[3]}", page)


def outdated(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file under ``root`` that is out of date, with the text that it should have."""
    wanted = {name: updated((root / name).read_text(encoding="utf-8"), parts) for name, parts in PAGES.items()}
    for name, text in {**wanted, ENV_FILE: settings.env_file()}.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, text


@click.command()
@click.option("--write", is_flag=True, help="Update the files.")
def main(*, write: bool) -> None:
    """Name the files of the current directory that are out of date; exit with 1 if there are any."""
    found = list(outdated(Path()))
    for path, text in found:
        click.echo(path)
        if write:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if found and not write else 0)


if __name__ == "__main__":
    main()
