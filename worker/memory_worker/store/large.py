"""Who was given large answers of late, so that the next is not asked for twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_MOST_KEYS = 1024
_TRUSTED_TIMES = 32


class LargeAnswers:
    """Remembers reads by what they ask for; each is trusted a number of times, for answers may become small again."""

    def __init__(self) -> None:
        self._times_left: OrderedDict[Hashable, int] = OrderedDict()

    def note(self, key: Hashable) -> None:
        """Remember that the answer was large."""
        self._times_left[key] = _TRUSTED_TIMES
        self._times_left.move_to_end(key)
        if len(self._times_left) > _MOST_KEYS:
            self._times_left.popitem(last=False)

    def expects(self, key: Hashable) -> bool:
        """Say whether the next answer is probably large."""
        left = self._times_left.pop(key, 0)
        if left > 1:
            self._times_left[key] = left - 1
        return left > 0
