"""The requests of the demo's app, in the order in which it pushes them.

The order matters. Memories are changed and deleted while their first version may still wait, and the data of a user who
leaves is deleted while some of it may still wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import zip_longest

import msgspec

from memory_worker.contract import Delete, Purge, Upsert, WriteJob
from memory_worker.demo.dataset import Dataset, Item

LEAVER = 3001
"""The user who leaves. The memories are copies of another user's."""
_COPIED_USER = 2042
_FIRST_WRITES = 150
_COPY_NUMBER = 1000


class Requests(msgspec.Struct, frozen=True):
    """The requests of the app, by what is the matter when it pushes them, and how many memories they are about.

    ``changed`` memories are written with another text first, ``deleted`` ones do not come back, ``rewritten`` ones do.
    """

    all_is_well: list[WriteJob]
    without_qdrant: list[WriteJob]
    without_worker: list[WriteJob]
    changed: int
    deleted: int
    rewritten: int

    def in_order(self) -> list[WriteJob]:
        """Return all requests."""
        return [*self.all_is_well, *self.without_qdrant, *self.without_worker]


def requests_for(data: Dataset) -> Requests:
    """Return the requests. In the end the app wants all of the data, except the answer to the question on deletes."""
    earlier = dict(zip(_ids(data.memories[::6]), data.memories[1::6], strict=True))
    rewritten = data.memories[3::18]
    unwanted = {point_id for question in data.questions if question.shows == "delete" for point_id in question.expected}
    copies = [_copy(item, item.user_id) for item in data.memories[::20]]
    leaving = [_copy(item, LEAVER) for item in data.memories if item.user_id == _COPIED_USER]
    deleted = [*copies, *(item for item in data.memories if item.point_id in unwanted)]
    writes = [
        _upsert(item, like=earlier.get(item.point_id, item))
        for item in _in_turns([*data.memories, *data.documents, *copies, *leaving])
    ]
    rewrites: list[WriteJob] = [job for item in rewritten for job in (_delete(item), _upsert(item, like=item))]
    changes = [_upsert(item, like=item) for item in data.memories if item.point_id in earlier]
    return Requests(
        all_is_well=[*writes[:_FIRST_WRITES]],
        without_qdrant=[*writes[_FIRST_WRITES:], *changes, *map(_delete, deleted), Purge(user_id=LEAVER)],
        without_worker=rewrites,
        changed=len(changes),
        deleted=len(deleted),
        rewritten=len(rewritten),
    )


def _ids(items: Iterable[Item]) -> list[str]:
    return [item.point_id for item in items]


def _in_turns(items: Iterable[Item]) -> list[Item]:
    """Return the items so that the users take turns."""
    of_user: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        of_user[item.user_id].append(item)
    return [item for turn in zip_longest(*of_user.values()) for item in turn if item is not None]


def _copy(item: Item, user_id: int) -> Item:
    """Return a copy of a memory under another id."""
    number = _COPY_NUMBER + int(item.point_id.rpartition("_")[2])
    return msgspec.structs.replace(item, user_id=user_id, point_id=f"mem_{user_id}_{number}")


def _upsert(item: Item, *, like: Item) -> Upsert:
    """Return the write of an item, with the vector and the payload of the item that it is ``like``."""
    return Upsert(
        user_id=item.user_id, point_id=item.point_id, vector=like.vector, payload=like.payload, kind=item.kind
    )


def _delete(item: Item) -> Delete:
    return Delete(user_id=item.user_id, point_ids=[item.point_id], kind=item.kind)
