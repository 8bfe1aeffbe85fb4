"""Run PHP: the library in clients/php, its tests, and programs that use it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from functools import cache
from pathlib import Path

from tests.documents import ROOT
from tests.tools import missing, tool

LIBRARY = ROOT / "clients" / "php"
_PREDIS = 'exit((int) !(include getenv("PREDIS_AUTOLOAD") ?: "Predis/autoload.php"));'


@cache
def _loaded(php: str) -> frozenset[str]:
    listed = subprocess.run([php, "-m"], capture_output=True, text=True, check=True).stdout.split()
    predis = subprocess.run([php, "-r", _PREDIS], capture_output=True, check=False)
    return frozenset([*listed, *(["predis"] if predis.returncode == 0 else [])])


def php(*needed: str) -> str:
    """Return PHP's path. If it is missing, or one of these extensions or Predis is, skip the test or fail."""
    interpreter = tool("php")
    for name in needed:
        if name not in _loaded(interpreter):
            missing(name)
    return interpreter


def phpunit(suite: str, *needed: str) -> tuple[str, ...]:
    """Return the command that runs a test suite of the library."""
    return (php(*needed), tool("phpunit"), "--configuration", str(LIBRARY / "phpunit.xml.dist"), "--testsuite", suite)


async def run(*command: str, directory: Path, **environment: str) -> str:
    """Return what a command prints. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode(errors="replace")
    return printed.decode()
