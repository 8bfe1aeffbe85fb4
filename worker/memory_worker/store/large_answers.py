"""Large answers: they need room in the byte budget before they are received."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from memory_worker.contract.errors import AnswerTooLarge

_MAX_KEYS = 1024
_EXPECTED_TIMES = 32

_Answer = TypeVar("_Answer")


class LargeAnswers:
    """Receives small answers at once, and large answers once there is room for them.

    It remembers which reads had large answers, so that they are not asked for twice. After a number of reads a small
    answer is expected again. ``max_bytes`` is the size of the largest allowed answer; -1 is no limit.
    """

    def __init__(self, max_bytes: int = -1) -> None:
        self._max_bytes = max_bytes
        self._times_left: OrderedDict[Hashable, int] = OrderedDict()

    async def ask(
        self,
        key: Hashable,
        small: Callable[[], Awaitable[_Answer]],
        large: Callable[[], Awaitable[_Answer]],
        make_room: Callable[[int], Awaitable[None]] | None,
    ) -> _Answer:
        """Return the answer of ``small``; if it raises `AnswerTooLarge`, that of ``large`` once there is room.

        ``key`` identifies similar reads. ``make_room`` waits until there is room for so many bytes; without it, nothing
        waits. Raises `AnswerTooLarge` for an answer above the limit.
        """
        size = self._max_bytes
        if not self._expects(key):
            try:
                return await small()
            except AnswerTooLarge as error:
                size = error.answer_bytes
                if 0 <= self._max_bytes < size:
                    raise
                self._remember(key)
        if make_room is not None:
            await make_room(size)
        return await large()

    def _remember(self, key: Hashable) -> None:
        """Expect large answers to reads like this one."""
        self._times_left[key] = _EXPECTED_TIMES
        self._times_left.move_to_end(key)
        if len(self._times_left) > _MAX_KEYS:
            self._times_left.popitem(last=False)

    def _expects(self, key: Hashable) -> bool:
        """Say whether the next answer is probably large."""
        left = self._times_left.pop(key, 0)
        if left > 1:
            self._times_left[key] = left - 1
        return left > 0
