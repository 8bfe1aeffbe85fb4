"""The PHP library keeps to the contract. ``tests/integration`` runs it on a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.php_tools import LIBRARY, phpunit, run

SCRIPTS = ROOT / "worker" / "memory_worker" / "wire" / "scripts"


async def test_its_unit_tests(tmp_path: Path) -> None:
    """Among them are the golden files, which all clients share."""
    await run(*phpunit("unit"), directory=tmp_path)


@pytest.mark.parametrize("name", sorted(path.name for path in (LIBRARY / "lua").iterdir()))
def test_its_scripts_are_those_of_the_worker(name: str) -> None:
    assert (LIBRARY / "lua" / name).read_bytes() == (SCRIPTS / name).read_bytes()
