from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from memory_worker.contract.errors import ConfigurationError
from memory_worker.failpoints import PLACES, arm, failpoint


@pytest.fixture(autouse=True)
def disarmed_afterwards():
    yield
    arm("")


@pytest.mark.parametrize("wrong", ["nowhere=kill", "read", "read=explode", "read=kill@", "read=kill@x"])
def test_a_wrong_specification_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="MEMORY_WORKER_FAILPOINTS"):
        arm(wrong)


def test_a_place_that_is_not_armed_does_nothing() -> None:
    arm("read=kill@2")
    for place in PLACES:
        failpoint(place)


def test_the_process_is_killed_at_the_given_hit() -> None:
    program = """
from memory_worker.failpoints import arm, failpoint
arm("read=kill@3")
for n in range(5):
    print(n, flush=True)
    failpoint("read")
"""
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert died.returncode == -signal.SIGKILL
    assert died.stdout.split() == ["0", "1", "2"]
