"""The cursors of lists. For callers they are opaque text."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from qdrant_client import grpc as q

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.fields import MAX_NUMBER

Order = Literal["id", "created", "updated"]
Part = Literal["all", "below", "at", "without"]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A place in the list of a user's points.

    In the order of a field, the list has three parts, which repeat for each value: the points ``below`` a value (or
    all that have one), those ``at`` one value in the order of their ids, and at the end those ``without`` a value. In
    the order of ids, the only part is ``all``. ``next_id`` is the first id of the place within its part.
    """

    order: Order
    part: Part
    value: Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)] | None = None
    next_id: Annotated[int, Meta(ge=0)] | str | None = None

    def moved(self, next_id: q.PointId) -> Cursor:
        """Return the place that begins with another id of the same part."""
        return msgspec.structs.replace(self, next_id=next_id.uuid or next_id.num)

    def offset(self) -> q.PointId | None:
        """Return the first id as that of Qdrant."""
        if self.next_id is None:
            return None
        return q.PointId(num=self.next_id) if isinstance(self.next_id, int) else q.PointId(uuid=self.next_id)


_decoder = msgspec.msgpack.Decoder(Cursor)


def first_cursor(order: Order) -> Cursor:
    """Return the beginning of a list."""
    return Cursor(order, "all" if order == "id" else "below")


def encode_cursor(cursor: Cursor) -> str:
    """Return a cursor as text that is safe in URLs."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str, order: Order) -> Cursor:
    """Return the cursor of a list in this order. Raises `InvalidJob`."""
    try:
        cursor = _decoder.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidJob("cursor", "is not one that a page has returned") from error
    if (
        cursor.order != order
        or (cursor.part == "all") != (order == "id")
        or (cursor.part == "at" and cursor.value is None)
    ):
        raise InvalidJob("cursor", f"is not one of a list in the order of {order!r}")
    return cursor
