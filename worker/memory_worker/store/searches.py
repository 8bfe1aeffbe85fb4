"""Searches by a vector or by the vector of a point, in one collection or in several."""

from __future__ import annotations

from functools import partial
from operator import attrgetter

import msgspec
from msgspec import UNSET
from qdrant_client import grpc as q

from memory_worker.contract import Hit, Search
from memory_worker.contract.kinds import UserId, primary_id
from memory_worker.store import messages
from memory_worker.store.duplicates import distinct_hits
from memory_worker.store.filters import any_point_id, of_user
from memory_worker.store.operations import CollectionRef
from memory_worker.store.reader import Read, Reader
from memory_worker.store.selections import NO_PAYLOAD
from memory_worker.store.values import vector_of

_MAX_COPIES = 10


class Searches:
    """Finds the points of a user that are nearest to a vector."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def search(self, job: Search, read: Read) -> list[Hit]:
        """Return the points nearest to the job's packed vector, or to the point that it names, best first.

        If a point has two copies in a collection, the better one counts. In each namespace a point counts as another
        one. Raises `StoreRefused`, `StoreUnavailable`, `AnswerTooLarge`.
        """
        namespaces = [job.namespace] if job.namespaces is UNSET else list(dict.fromkeys(job.namespaces))
        refs = [CollectionRef(job.kind, namespace) for namespace in namespaces]
        if job.like is not UNSET:
            vector = await self._first_vector(refs, job.user_id, job.like, read)
            if vector is None:
                return []
            job = msgspec.structs.replace(job, vector=vector)
        if len(refs) == 1:
            return await self._search_in(refs[0], job, read)
        found = await read.together(partial(self._search_in, ref, job) for ref in refs)
        kind = self._reader.kind(refs[0])
        hits = [hit for hits in found for hit in hits]
        hits.sort(key=attrgetter("score"), reverse=not messages.lower_is_better(kind))
        return hits[: job.limit or kind.default_limit]

    async def _search_in(self, ref: CollectionRef, job: Search, read: Read) -> list[Hit]:
        collections = self._reader.collections
        request = messages.search(self._reader.name(ref), self._reader.kind(ref), job, rescored=collections.quantized)
        wanted = request.limit
        while True:
            found = await self._reader.query(ref, request, job.user_id, read)
            hits = distinct_hits(found, ref.namespace, job.fields)
            if len(hits) >= wanted or len(found) < request.limit:
                return hits[:wanted]
            request.limit *= 2

    async def _first_vector(
        self, refs: list[CollectionRef], user_id: UserId, point_id: str, read: Read
    ) -> bytes | None:
        """Return the vector of a point, from the first collection that has it."""
        vectors = await read.together(partial(self._vector, ref, user_id, point_id) for ref in refs)
        return next((vector for vector in vectors if vector is not None), None)

    async def _vector(self, ref: CollectionRef, user_id: UserId, point_id: str, read: Read) -> bytes | None:
        request = q.ScrollPoints(
            collection_name=self._reader.name(ref),
            filter=q.Filter(must=[*of_user(user_id), any_point_id([point_id])]),
            limit=_MAX_COPIES,
            with_payload=NO_PAYLOAD,
            with_vectors=q.WithVectorsSelector(enable=True),
        )
        copies = (await self._reader.scroll(ref, request, user_id, read)).result
        newest_last = sorted(copies, key=lambda copy: copy.id.uuid == primary_id(point_id))
        return vector_of(newest_last[-1]) if newest_last else None
