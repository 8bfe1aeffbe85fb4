"""What a producer's process loads: the client, and nothing that only a worker needs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

PACKAGES = ["prometheus_client", "grpc", "google", "qdrant_client", "qdrant_edge", "pydantic", "uvicorn", "numpy"]
LOADED = "import sys, memory_worker.client.memory_queue; print(*sys.modules, sep='\\n')"


@functools.cache
def modules(**environment: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_client_loads_nothing_that_only_a_worker_needs(package: str) -> None:
    assert package not in modules()


def test_the_client_makes_no_metrics() -> None:
    loaded = modules(PROMETHEUS_MULTIPROC_DIR="/nonexistent/metrics")
    assert "memory_worker.client.memory_queue" in loaded
    assert "memory_worker.telemetry.metrics" not in loaded
