"""Failpoints: named places in the code at which a test can kill or stop this process.

``MEMORY_WORKER_FAILPOINTS`` arms them. ``before_commit=kill@3`` kills the process when it reaches this place for the
third time. A place that is not armed costs one lookup in an empty dictionary.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from memory_worker.contract.errors import ConfigurationError

VARIABLE = "MEMORY_WORKER_FAILPOINTS"
DRAIN_PLACES = (
    *("before_read", "read", "decode", "before_send", "serialized", "sending", "sent"),
    *("before_commit", "committed"),
)
TAKER_PLACES = ("arq_writes_read", "arq_writes_taken_over")
PLACES = DRAIN_PLACES + TAKER_PLACES

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_SPECIFICATION = re.compile(r"(\w+)=(kill|stop)(?:@([0-9]{1,9}))?")


@dataclass(slots=True)
class _Failpoint:
    signal: int
    hits_left: int


_armed: dict[str, _Failpoint] = {}


def arm(specifications: str) -> None:
    """Arm the failpoints in ``specifications``, which are separated by commas. Raises `ConfigurationError`."""
    _armed.clear()
    for text in filter(None, specifications.split(",")):
        found = _SPECIFICATION.fullmatch(text)
        if found is None or found[1] not in PLACES:
            raise ConfigurationError(f"{VARIABLE}: {text!r} is not PLACE=kill@N or PLACE=stop@N; places: {PLACES}")
        _armed[found[1]] = _Failpoint(_SIGNALS[found[2]], int(found[3] or 1))


def failpoint(place: str) -> None:
    """Kill or stop this process if ``place`` is armed and has been reached often enough."""
    if _armed and (armed := _armed.get(place)) is not None:
        armed.hits_left -= 1
        if armed.hits_left == 0:
            os.kill(os.getpid(), armed.signal)
