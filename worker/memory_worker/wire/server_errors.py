"""What the errors of Redis say about its server: that it is the wrong one, or that it has no room.

Both kinds of connections, for asyncio and for threads, ask here.
"""

from __future__ import annotations

import errno

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_FIRST_WORDS: dict[type[RedisError], str] = {
    AskError: "ASK",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    ExecAbortError: "EXECABORT",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}
"""The first word of the server's message, for the errors that have their own class in redis-py.

redis-py removes this word from their messages. Which errors have a class depends on its version.
"""

_WRONG_SERVER = frozenset({"CLUSTERDOWN", "MASTERDOWN", "MOVED", "NOREPLICAS", "READONLY", "UNBLOCKED"})
"""First words of the errors of a server that is not, or no longer, the primary."""

_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
"""Error numbers when this process or this machine may open no more files."""


class TurnedAway(RedisConnectionError):
    """Redis accepted a connection and closed it at once, because it has too many."""


def keep_full_message(error: RedisError) -> None:
    """Keep the message as Redis sent it for `full_message`, because a pipeline changes the text of the error."""
    vars(error)["full_message"] = _with_first_word(error)


def full_message(error: RedisError) -> str:
    """Return the message as Redis sent it: with its first word, but without the command that pipelines prepend."""
    return str(vars(error).get("full_message", error))


def indicates_wrong_server(error: RedisError) -> bool:
    """Return whether a wrong server may have caused the error. After a failover, a server that hangs may be one."""
    if isinstance(error, (BusyLoadingError, RedisTimeoutError)):
        return True
    return isinstance(error, ResponseError) and full_message(error).partition(" ")[0] in _WRONG_SERVER


def _with_first_word(error: RedisError) -> str:
    word, text = _FIRST_WORDS.get(type(error)), str(error)
    return f"{word} {text}" if word and not text.startswith(f"{word} ") else text


def is_out_of_room(error: BaseException) -> bool:
    """Return whether it may help to close another connection: Redis has too many, or too many files are open."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TurnedAway) or (isinstance(cause, OSError) and cause.errno in _TOO_MANY_FILES):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
