"""Explain the errors by which a node of a Redis Cluster sends a request elsewhere. It has not executed the request."""

from __future__ import annotations

_ELSEWHERE = "another node has the slot of the queue now, and the next request goes there"
_MOVING = "the slot of the queue is being moved to another node; nothing was stored, try again"
_MEANINGS = {
    "ASK": _MOVING,
    "CLUSTERDOWN": "the slot of the queue has no primary at the moment, or the cluster is down",
    "CROSSSLOT": "QUEUE_PREFIX needs a hash tag, such as {mw}; nothing was stored",
    "MOVED": _ELSEWHERE,
    "TRYAGAIN": _MOVING,
}
REDIRECTIONS = frozenset(_MEANINGS)
"""The first words of these errors."""

_NOT_AWARE = (
    "REDIS_URL leads to a node of a Redis Cluster; write redis+cluster://, and give QUEUE_PREFIX a hash tag, "
    "such as {mw}; nothing was stored"
)
_IN_A_SCRIPT = "access a non local key in a cluster node"
"""Part of the error of a script that needs a key that was already moved. This error begins without a code."""


def explained(message: str, *, finds: bool) -> str:
    """Return the message of an error with its meaning, if it is a redirection.

    ``finds`` says whether the connection finds the owner of the slot by itself.
    """
    if _IN_A_SCRIPT in message:
        message = f"TRYAGAIN {message}"
    meaning = _MEANINGS.get(message.partition(" ")[0])
    if meaning is None:
        return message
    return f"{message} ({meaning if finds else _NOT_AWARE})"
