"""Every document of the repository agrees with the code in what all of them have: links, commands and shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, blocks, broken_links, commands, unknown_in_command

DOCUMENTS = [
    *(ROOT / "CHANGELOG.md", ROOT / "README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
    *sorted((ROOT / "clients").glob("*/*.md")),
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("line", commands(DOCUMENTS))
def test_every_command_exists_with_its_options(line: str) -> None:
    assert unknown_in_command(line) == []


@pytest.mark.parametrize("block", blocks(DOCUMENTS, "bash"), ids=str)
def test_shell_is_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.body, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
