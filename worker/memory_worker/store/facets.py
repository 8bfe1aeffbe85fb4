"""Counts of points: all of them, by the values of a field, and by file."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TypeAlias

from memory_worker.contract import (
    Count,
    CountAll,
    Facet,
    FacetAll,
    FacetCounts,
    FacetValue,
    FileInfo,
    Files,
    SelectingJob,
    Stats,
    UserStats,
)
from memory_worker.contract.fields import MAX_FACET_LIMIT
from memory_worker.contract.kinds import ALL_NAMESPACES, MODEL_FIELD
from memory_worker.store.filters import any_of, is_absent, is_value
from memory_worker.store.operations import CollectionRef
from memory_worker.store.reader import Read, Reader
from memory_worker.store.selections import Selection, selection_of

_FILE = "file_id"
_GROUP = "group_key"
_GROUPS_AT_ONCE = 16

_Counts: TypeAlias = "Counter[str | int | bool]"


class Facets:
    """Counts points. All counts are exact.

    A point that is also stored under an older integer id counts twice. Raises `StoreRefused`, `StoreUnavailable`.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def count(self, job: Count | CountAll, read: Read) -> int:
        """Return how many points a job selects."""
        selections = await self._selections(job)
        return sum(await read.together(partial(self._reader.count, selection) for selection in selections))

    async def facet(self, job: Facet | FacetAll, read: Read) -> FacetCounts:
        """Return how many points have each value of a field, the most frequent value first."""
        selections = await self._selections(job)
        # Over several collections, the most frequent values are only known once all values are.
        limit = job.limit if len(selections) == 1 else MAX_FACET_LIMIT
        found = await read.together(partial(self._values, job.by, each, limit) for each in selections)
        total: _Counts = Counter()
        for counts, _ in found:
            total += counts
        values = _sorted(total)
        return FacetCounts(values[: job.limit], any(more for _, more in found) or len(values) > job.limit)

    async def files(self, job: Files, read: Read) -> tuple[list[FileInfo], bool]:
        """Return the files of a user, those with the most chunks first, and whether there are more files."""
        selection = self._selection(job)
        chunks, truncated = await self._values(_FILE, selection, job.limit, read)
        if truncated:
            selection = selection.where(any_of(_FILE, list(chunks)))
        groups = await self._groups(selection, read) if chunks else {}
        files = [FileInfo(int(found.value), found.count, groups.get(int(found.value))) for found in _sorted(chunks)]
        return files, truncated

    async def stats(self, job: Stats, read: Read) -> UserStats:
        """Return how many points a job selects, and how many by the values of each field."""
        selection = self._selection(job)
        kind = self._reader.kind(selection.ref)
        fields = [field for field in (*kind.narrowing, MODEL_FIELD) if field in kind.indexes]
        counted = [selection, *(selection.where(is_absent(field)) for field in fields)]
        points, *absent = await read.together(partial(self._reader.count, each) for each in counted)
        found = await read.together(partial(self._values, field, selection, MAX_FACET_LIMIT) for field in fields)
        return UserStats(
            points=points,
            by={field: _sorted(counts) for field, (counts, _) in zip(fields, found, strict=True)},
            absent=dict(zip(fields, absent, strict=True)),
            truncated=any(more for _, more in found),
        )

    def _selection(self, job: SelectingJob) -> Selection:
        return selection_of(job, self._reader.collections.kinds[job.kind])

    async def _selections(self, job: Count | CountAll | Facet | FacetAll) -> list[Selection]:
        """Return what a job selects in each of its collections. The base collection must exist."""
        selection = self._selection(job)
        if job.namespace != ALL_NAMESPACES:
            return [selection]
        existing = await self._reader.collections.existing()
        refs = dict.fromkeys([CollectionRef(job.kind), *(ref for ref in existing if ref.kind == job.kind)])
        return [selection._replace(ref=ref) for ref in refs]

    async def _values(self, field: str, selection: Selection, limit: int, read: Read) -> tuple[_Counts, bool]:
        """Return the counts of up to ``limit`` values, and whether there are more."""
        found = await self._reader.facet(field, selection, limit + 1, read)
        return Counter(dict(found[:limit])), len(found) > limit

    async def _groups(self, selection: Selection, read: Read) -> dict[int, str]:
        """Return the group of each file that most of its chunks are in; of equal ones the first by name."""
        names, _ = await self._values(_GROUP, selection, MAX_FACET_LIMIT, read)
        groups = sorted(map(str, names))
        best: dict[int, tuple[int, str]] = {}
        for first in range(0, len(groups), _GROUPS_AT_ONCE):
            some = groups[first : first + _GROUPS_AT_ONCE]
            found = await read.together(
                partial(self._values, _FILE, selection.where(is_value(_GROUP, group)), MAX_FACET_LIMIT)
                for group in some
            )
            for group, (counts, _) in zip(some, found, strict=True):
                for file_id, count in counts.items():
                    if count > best.get(int(file_id), (0, ""))[0]:
                        best[int(file_id)] = (count, group)
        return {file_id: group for file_id, (_, group) in best.items()}


def _sorted(counts: _Counts) -> list[FacetValue]:
    """Return the values, the most frequent first, and equally frequent ones by their order."""
    return [FacetValue(value, count) for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
