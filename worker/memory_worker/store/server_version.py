"""Versions of Qdrant, and what a server can do from which version on."""

from __future__ import annotations

from typing import TypeAlias

Version: TypeAlias = tuple[int, ...]

FIRST_WITH_METADATA: Version = (1, 16)
"""It stores the metadata of collections. Older servers ignore it."""
FIRST_WITH_ONLY_USER_GRAPHS: Version = (1, 17)
"""It can build graphs for the users, and for no other payload values."""
FIRST_WITH_RELIABLE_USER_GRAPHS: Version = (1, 20)
"""A search enters the graph of a user at any point that its filter allows.

Older servers store one entry point for each graph of a user. If the filter of a search excludes that point, or if the
point was deleted or overwritten, the search finds nothing in the whole graph.
"""


def version_of(text: str) -> Version:
    """Return the major and minor version, such as ``(1, 18)`` for ``1.18.3`` and for ``1.18.3-dev``."""
    return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".")[:2] if part.isdigit())
