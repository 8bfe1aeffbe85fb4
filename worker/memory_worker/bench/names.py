"""What a measurement is called: in the figures, in the tables and where two of them are compared."""

from __future__ import annotations

FILL = "fill: pushed in bulk and drained"
BULK = "push, many at a time"
DRAIN = "drain of single writes, one process"
STRAIGHT = "search straight at the engine"
DURING_INGEST = "search, one caller, during a full ingest"
UPLOAD = "upload_points"
ARQ = "one arq job per write, one process"

PUSH, SEARCH, GET, DELETE = "push", "search", "get", "delete"
VISIBLE, DELETED = "write until searchable", "delete until applied"
IDLE = f"{VISIBLE}, idle"
UPSERT, QUERY = "direct upsert", "direct query"


def by(path: str, callers: int) -> str:
    """Return the name of calls in a closed loop."""
    return f"{path}, one caller" if callers == 1 else f"{path}, {callers} callers"


def at_rate(path: str, rate: float) -> str:
    """Return the name of calls in an open loop."""
    return f"{path}, {rate:g} a second"


def visible_at(load: float) -> str:
    """Return the name of writes until searchable while others write at this share of the drain's rate."""
    return f"{VISIBLE}, {load:.0%} load"


def load_of(load: float) -> str:
    """Return the name of what the others write meanwhile."""
    return f"writes meanwhile, {load:.0%} load"


def in_mix(path: str) -> str:
    """Return the name of calls beside others of all kinds."""
    return f"mixed: {path}"
