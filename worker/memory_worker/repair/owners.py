"""The users of stored points and of point ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import POINT_ID_FIELD, USER_ID_FIELD, Kind, UserId

_MAX_USER_ID = 2**63 - 1
OWNER_FIELDS = (POINT_ID_FIELD, USER_ID_FIELD)
"""The payload fields that `owner_of` needs."""


def user_of(kind: Kind, point_id: str) -> UserId:
    """Return the user that a logical id names. Raises `InvalidJob` if it is no id of this kind."""
    text = point_id.removeprefix(f"{kind.id_prefix}_").partition("_")[0]
    user_id: UserId = int(text) if kind.user_ids == "integer" and text.isdecimal() else text
    kind.check_user_id(user_id)
    if isinstance(user_id, int) and not 1 <= user_id <= _MAX_USER_ID:
        raise InvalidJob("point_id", f"{point_id[:80]!r} belongs to no user")
    kind.check_point_id(point_id, user_id)
    return user_id


def owner_of(kind: Kind, payload: Mapping[str, Any]) -> UserId | None:
    """Return the user of a stored point; ``None`` if its ``_point_id`` is missing or does not belong to its user."""
    point_id, user_id = payload.get(POINT_ID_FIELD), payload.get(USER_ID_FIELD)
    if not isinstance(point_id, str) or not isinstance(user_id, int | str) or isinstance(user_id, bool):
        return None
    try:
        return user_id if user_of(kind, point_id) == user_id else None
    except InvalidJob:
        return None
