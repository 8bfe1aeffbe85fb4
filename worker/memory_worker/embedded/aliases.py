"""Aliases of collections, as in a Qdrant server. An alias hides a collection of the same name."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from memory_worker.embedded.refusals import bad_argument, collection_exists, no_alias, no_collection

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

    from qdrant_client import grpc as q


class Aliases:
    """The collection of each alias, stored in a file. Reads need no lock, because a change replaces the whole table."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._targets: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def target(self, name: str) -> str:
        """Return the collection that a name or an alias refers to."""
        return self._targets.get(name, name)

    def items(self) -> list[tuple[str, str]]:
        """Return all aliases with their collections."""
        return sorted(self._targets.items())

    def change(self, actions: Iterable[q.AliasOperations], collections: Container[str]) -> None:
        """Apply actions in order. Readers see all of them at once. If one is refused, earlier ones are kept."""
        targets = dict(self._targets)
        try:
            for action in actions:
                _apply(targets, action, collections)
        finally:
            self._store(targets)

    def forget(self, collection: str) -> None:
        """Remove the aliases of a deleted collection."""
        self._store({alias: target for alias, target in self._targets.items() if target != collection})

    def _store(self, targets: dict[str, str]) -> None:
        if targets == self._targets:
            return
        unfinished = self._file.with_suffix(".new")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(targets, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._file)
        self._targets = targets


def _apply(targets: dict[str, str], action: q.AliasOperations, collections: Container[str]) -> None:
    match action.WhichOneof("action"):
        case "create_alias":
            create = action.create_alias
            if create.collection_name not in collections:
                raise no_collection(create.collection_name)
            if create.alias_name in collections:
                raise collection_exists(create.alias_name)
            targets[create.alias_name] = create.collection_name
        case "delete_alias":
            targets.pop(action.delete_alias.alias_name, None)
        case "rename_alias":
            rename = action.rename_alias
            if rename.old_alias_name not in targets:
                raise no_alias(rename.old_alias_name)
            targets[rename.new_alias_name] = targets.pop(rename.old_alias_name)
        case _:
            raise bad_argument("Malformed AliasOperation type")
