"""The PHP library keeps to the contract. ``tests/integration`` runs it on a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_worker.wire.scripts import scripts
from tests.php_tools import LIBRARY, phpunit, run


async def test_its_unit_tests(tmp_path: Path) -> None:
    """Among them are the golden files, which all clients share."""
    await run(*phpunit("unit"), directory=tmp_path)


@pytest.mark.parametrize("name", sorted(path.name for path in (LIBRARY / "lua").iterdir()))
def test_its_scripts_are_those_of_the_worker(name: str) -> None:
    """They are complete: they include the parts that they use."""
    assert (LIBRARY / "lua" / name).read_text() == scripts.source(name.removesuffix(".lua"))
