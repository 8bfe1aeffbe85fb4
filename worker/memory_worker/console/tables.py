"""The pages of collections and of settings."""

from __future__ import annotations

from collections import Counter
from typing import Any

from memory_worker.console.query import Query
from memory_worker.console.sources import ConsoleSources
from memory_worker.settings.shown import shown_settings


async def collections(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the page of collections shows."""
    status = sources.stats()
    found = sorted(status.collections, key=lambda info: (-info.points, info.name)) if status else []
    indexes = Counter((info.kind, tuple(sorted(info.payload_indexes))) for info in found)
    return {
        "indexes": [(kind, fields, number) for (kind, fields), number in sorted(indexes.items())],
        "refresh": query.refresh,
        "status": status,
        "collections": found,
        "points": sum(info.points for info in found),
        "indexed": sum(info.indexed_vectors for info in found),
    }


async def settings(sources: ConsoleSources, query: Query) -> dict[str, Any]:
    """Return what the page of settings shows."""
    groups = shown_settings(sources.settings)
    only_set = query.get("show") == "set"
    found = [group._replace(settings=[one for one in group.settings if one.origin != "default"]) for group in groups]
    return {
        "groups": [group for group in found if group.settings] if only_set else groups,
        "only_set": only_set,
        "changed": sum(one.origin in ("environment", "file") for group in groups for one in group.settings),
        "count": sum(len(group.settings) for group in groups),
    }
