"""The release before this one, for tests of a rolling upgrade."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.tools import tool

COMMIT = "e0166dda266ebead9a69804e88885fddc5c5cfe4"
"""The last commit of version 0.1.0."""

_PROGRAM = "import sys; sys.path.insert(0, {path!r}); from memory_worker.__main__ import main; main()"


def command_of_the_release_before(directory: Path) -> list[str]:
    """Return the command ``memory-worker`` of the release before, whose sources are unpacked into ``directory``.

    They come from the history of this checkout, or from the folder that ``TEST_RELEASE_BEFORE`` names. Without either,
    the test is skipped.
    """
    sources = Path(os.environ.get("TEST_RELEASE_BEFORE") or _unpacked(directory))
    return [sys.executable, "-c", _PROGRAM.format(path=str(sources / "worker"))]


def _unpacked(directory: Path) -> Path:
    archive = subprocess.run(
        [tool("git"), "archive", COMMIT, "worker"], cwd=Path(__file__).parents[1], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip("this checkout has no history with the release before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    return directory
