"""A durable queue between an AI app and Qdrant: the app pushes writes to Redis, workers apply them in batches.

    from memory_worker import MemoryQueue

All public names are those of `memory_worker.client`. They are loaded on first use, so that commands start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_worker.client import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return a public name of the client."""
    if not name.startswith("_"):
        from memory_worker import client  # noqa: PLC0415

        if name in client.__all__:
            return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from memory_worker import client  # noqa: PLC0415

    return sorted({*globals(), *client.__all__})
