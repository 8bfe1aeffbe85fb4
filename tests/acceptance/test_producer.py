"""A program of a producer works with a real worker, whatever modules are in the working directory of its app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.processes import WorkerProcess, run_command

PROGRAM = Path(__file__).with_name("producer.py")


def test_a_producer_pushes_searches_and_gets_errors(
    environment: dict[str, str], start_worker: Callable[..., WorkerProcess], app: Path
) -> None:
    start_worker("all", cwd=app)
    arguments = [environment["REDIS_URL"], environment["QUEUE_PREFIX"], environment["QDRANT_VECTOR_DIMENSION"]]
    done = run_command(*arguments, program=[sys.executable, "-W", "error", str(PROGRAM)], cwd=app)
    assert "works" in done.stdout
