"""What became of pushed jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memory_worker.client.opened import Opened
from memory_worker.contract import (
    JobState,
    Outcome,
    Receipt,
    check_receipt,
)
from memory_worker.contract.arguments import excerpt, to_list, to_scalar, to_seconds
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.results import is_entry_id
from memory_worker.wire.outcomes import FIRST

MAX_WAIT_S = 3600.0
"""The longest that `Receipts.wait_applied` and `Receipts.outcomes` wait."""
MAX_RECEIPTS = 1000
MAX_OUTCOMES = 1000


class Receipts(Opened):
    """The methods that report what became of jobs. None of them needs a running worker."""

    async def wait_applied(self, receipt: Receipt, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # one blocking call
        """Wait until the job of ``receipt`` has been applied. From then on, searches see its effect.

        Raises `NotApplied` after ``timeout`` seconds (at most an hour), or `DeadLettered` if the job can never be
        applied. For a dead letter that was replayed, it waits for the replay. Raises `UnknownReceipt` (a subclass of
        `NotApplied`) if Redis has lost data since the push. In that case push again.
        """
        check_receipt(receipt)
        await self._producer.wait_applied(receipt, timeout_s=to_seconds("timeout", timeout, maximum=MAX_WAIT_S))

    async def states(self, receipts: Iterable[Receipt]) -> list[JobState]:
        """Return the state of each job of up to 1,000 receipts, in their order."""
        found = to_list("receipts", receipts, of="receipts", max_items=MAX_RECEIPTS)
        if len(found) > MAX_RECEIPTS:
            raise InvalidJob("receipts", f"at most {MAX_RECEIPTS:,} are allowed")
        for position, receipt in enumerate(found):
            check_receipt(receipt, f"receipts[{position}]")
        return await self._producer.states(found)

    async def outcomes(
        self,
        *,
        after: str | None = None,
        count: int = 100,
        timeout: float = 0,  # noqa: ASYNC109  # one blocking call
    ) -> list[Outcome]:
        """Return up to ``count`` outcomes (at most 1,000) behind the one with the id ``after``, oldest first.

        Keep the ``id`` of the last one, and give it as ``after`` in the next call. ``None`` begins with the oldest that
        is kept. If there are none, wait for one for ``timeout`` seconds (at most an hour), then return an empty list.

        Redis keeps about the last ``OUTCOMES_MAX`` outcomes. If the outcome ``after`` is no longer kept, later ones may
        be lost, too. Then the first outcome has ``gap``. Ask `states` for the receipts that you still wait for.
        """
        behind = FIRST if after is None else _outcome_id(after)
        timeout_s = 0.0 if _is_zero(timeout) else to_seconds("timeout", timeout, maximum=MAX_WAIT_S)
        return await self._producer.outcomes(after=behind, count=_count(count), timeout_s=timeout_s)


def _is_zero(value: Any) -> bool:
    return type(value) in (int, float) and value == 0


def _outcome_id(value: Any) -> str:
    if not isinstance(value, str) or not is_entry_id(value):
        raise InvalidJob("after", f"expected the id of an outcome, got {excerpt(value)}")
    return value


def _count(value: Any) -> int:
    count = to_scalar(value, "count")
    if type(count) is not int or not 1 <= count <= MAX_OUTCOMES:
        raise InvalidJob("count", f"expected an integer from 1 to {MAX_OUTCOMES:,}, got {excerpt(value)}")
    return count
