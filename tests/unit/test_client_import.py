"""A producer's process loads the client, and nothing that only a worker needs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

NOT_LOADED = [
    *("arq", "prometheus_client", "grpc", "google", "qdrant_client", "qdrant_edge", "pydantic", "uvicorn", "numpy"),
    *("memory_worker.store", "memory_worker.telemetry"),
]
LOADED = "import sys, memory_worker.client.memory_queue; print(*sys.modules, sep='\\n')"


@functools.cache
def modules(**environment: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("package", NOT_LOADED)
def test_the_client_loads_nothing_that_only_a_worker_needs(package: str) -> None:
    assert package not in modules()


def test_a_wrong_directory_for_metrics_does_not_break_the_client() -> None:
    assert "memory_worker.client.memory_queue" in modules(PROMETHEUS_MULTIPROC_DIR="/nonexistent/metrics")
