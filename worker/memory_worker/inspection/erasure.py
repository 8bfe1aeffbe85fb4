"""What is left of a user after a purge: in Qdrant, and in the queue."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from memory_worker.contract.kinds import UserId
from memory_worker.queue.leftovers import find_leftovers
from memory_worker.store.store import VectorStore
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import QueueMeta, read_meta

_ADVICE = {
    "waiting": ("waiting jobs", "memory-worker drain --wait"),
    "copies": ("copies of entries for reconcile", "they expire within a minute"),
    "dead_letters": ("dead letters", "memory-worker dead drop --user"),
    "arq_writes": ("writes of arq's own client", "memory-worker drain --wait"),
    "replay_guard": ("replay guard", "it ends with the dead letters"),
}
_IDENTIFIERS = {
    "outcomes": ("outcomes", "they name the user and refs; newer ones replace them"),
    "overflow": ("overflow users", "they name the user; they end with the overflow"),
    "unreadable": ("jobs that cannot be read", "nobody can tell whose they are: memory-worker dead list"),
}


class Leftover(msgspec.Struct, frozen=True):
    """How much of a user is left in one place. ``is_content`` says whether it must be gone after a purge.

    Without it, the place only names the user, or nobody can tell whose the data are.
    """

    place: str
    left: int
    is_content: bool
    advice: str


async def collect_leftovers(redis: Redis, keys: Keys, store: VectorStore, user_id: UserId) -> list[Leftover]:
    """Return what is left of a user in each place. This changes nothing. Raises `QueueUnavailable`, `StoreError`.

    Points are counted exactly, in all collections of the deployment whose users have ids of this type, also behind
    aliases.
    """
    found, counted = list[Leftover](), set[str]()
    for ref, target in (await store.collections.known()).items():
        if target in counted or not store.collections.kinds[ref.kind].has_user(user_id):
            continue
        counted.add(target)
        name = store.collections.name(ref)
        points = await store.stored_points(ref).count_of(user_id)
        shown = name if name == target else f"{name} (alias of {target})"
        found.append(Leftover(f"points in {shown}", points, is_content=True, advice="push a purge of the user"))
    meta = await read_meta(redis, keys) or QueueMeta()
    left = await find_leftovers(redis, keys, meta.partitions, user_id)
    for is_content, places in ((True, _ADVICE), (False, _IDENTIFIERS)):
        for field, (place, advice) in places.items():
            found.append(Leftover(place, getattr(left, field), is_content=is_content, advice=advice))
    return found
