"""A durable queue between an AI app and Qdrant: the app pushes writes to Redis, workers apply them in batches.

    from memory_worker import MemoryQueue

All public names are those of `memory_worker.client`. They are loaded on first use, so that commands start fast.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_worker.client import *  # noqa: F403

__version__ = "0.2.0"

_NO_WORKER_SETTINGS = "memory_worker has no WorkerSettings for the arq command. Run: memory-worker run"


def __getattr__(name: str) -> Any:
    """Return a public name of the client. All of them begin with a capital letter, unlike names of modules.

    ``arq memory_worker.WorkerSettings`` ends with a line that says what to run instead.
    """
    if name == "WorkerSettings":
        error = SystemExit if "arq.cli" in sys.modules else AttributeError
        raise error(_NO_WORKER_SETTINGS)
    if name[:1].isupper():
        client = importlib.import_module("memory_worker.client")
        if name in client.__all__:
            return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("memory_worker.client").__all__})
