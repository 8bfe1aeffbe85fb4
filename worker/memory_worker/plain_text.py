"""Output without markup: text on one line, and JSON. It fails on no text and no encoding.

`memory_worker.terminal` is for tables and colours. It loads rich, which a worker does not need.
"""

from __future__ import annotations

import json
import sys
from typing import IO, Any

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def never_fail(stream: IO[str] | None) -> None:
    """Let a stream write characters that its encoding does not have as escapes."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def plain(text: str, encoding: str = "utf-8") -> str:
    """Return foreign text on one line, with unprintable characters escaped as in `repr`.

    These are control characters, line breaks, marks that change the direction of text, and characters that ``encoding``
    does not have.
    """
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def print_json(document: Any, *, indent: int | None = None) -> None:
    """Print a document as JSON in ASCII, which every terminal can show."""
    sys.stdout.write(f"{json.dumps(document, indent=indent)}\n")


def age(seconds: float) -> str:
    """Return a duration as people read it: ``850 ms``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
