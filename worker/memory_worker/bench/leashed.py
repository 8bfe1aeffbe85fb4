"""Runs a module as ``python -m`` does, in a process that ends with the one that started it, even if that is killed.

python -m memory_worker.bench.leashed MODULE ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Run the module that ``argv`` names, with the rest as its arguments."""
    parent = os.getppid()
    if sys.platform == "linux":  # elsewhere only an orderly end reaches it
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    sys.argv = argv
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
