"""What became of pushed jobs."""

from __future__ import annotations

from memory_worker.client.opened import Opened
from memory_worker.contract import (
    Receipt,
    check_receipt,
)
from memory_worker.contract.arguments import to_seconds

MAX_WAIT_S = 3600.0
"""The longest that `Receipts.wait_applied` waits."""


class Receipts(Opened):
    """The methods that take receipts."""

    async def wait_applied(self, receipt: Receipt, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # one blocking call
        """Wait until the job of ``receipt`` has been applied. From then on, searches see its effect.

        Raises `NotApplied` after ``timeout`` seconds (at most an hour), or `DeadLettered` if the job can never be
        applied. Raises `UnknownReceipt` (a subclass of `NotApplied`) if Redis has lost data since the push. In that
        case push again.
        """
        check_receipt(receipt)
        await self._producer.wait_applied(receipt, timeout_s=to_seconds("timeout", timeout, maximum=MAX_WAIT_S))
