"""Pins: entries in the metadata of collections that name their deployment. They need Qdrant 1.16 or newer.

The registry in Redis can be restored from the pins. Older servers ignore metadata, so there are no pins.
"""

from __future__ import annotations

from typing import Any

import msgspec
from qdrant_client import grpc as q

from memory_worker.store.operations import CollectionRef
from memory_worker.store.registry import Origin, origin_of
from memory_worker.store.values import payload_of, put_payload

METADATA_KEY = "memory_worker"


class Pin(msgspec.Struct, frozen=True):
    """The deployment of a collection, its kind and namespace there, and its origin."""

    deployment: str
    ref: CollectionRef
    origin: Origin


def put_pin(metadata: Any, pin: Pin) -> None:
    """Write a pin into the metadata of a request."""
    fields = {
        "prefix": pin.deployment,
        "kind": pin.ref.kind,
        "namespace": pin.ref.namespace,
        "origin": pin.origin,
    }
    put_payload(metadata, {METADATA_KEY: fields})


def pin_of(info: q.CollectionInfo, ref: CollectionRef) -> Pin | None:
    """Return the pin of a collection, or ``None`` if it has none for ``ref``."""
    fields = payload_of(info.config.metadata).get(METADATA_KEY)
    if not isinstance(fields, dict) or not isinstance(fields.get("prefix"), str):
        return None
    if (fields.get("kind"), fields.get("namespace")) != (ref.kind, ref.namespace):
        return None  # a copy of a collection has the pin of the original
    return Pin(fields["prefix"], ref, origin_of(fields.get("origin")))
