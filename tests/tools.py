"""Tools that some tests need and that no package brings."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Return where a tool is. A missing one skips the test, or fails it where ``TEST_REQUIRED_TOOLS`` names it."""
    found = shutil.which(name)
    if found is None:
        if name in os.environ.get("TEST_REQUIRED_TOOLS", "").split():
            pytest.fail(f"there is no {name}")
        pytest.skip(f"there is no {name}")
    return found
