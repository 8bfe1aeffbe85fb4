"""A producer's program runs against a real worker, whatever modules its app has in the working directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.processes import WorkerProcess

PROGRAM = Path(__file__).with_name("producer.py")


def test_a_producer_pushes_searches_and_gets_the_errors(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], app: Path
) -> None:
    start_worker("all", cwd=app)
    arguments = [environment["REDIS_URL"], environment["QUEUE_PREFIX"], environment["QDRANT_VECTOR_DIMENSION"]]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments],
        cwd=app,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "works" in done.stdout
