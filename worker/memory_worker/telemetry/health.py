"""The health of one process: what is known of each part it depends on, and whether the event loop turns.

Those who see something note it; the HTTP thread reads it. What nobody has looked at for a while counts as down.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from memory_worker.telemetry.metrics import COMPONENT_UP, EVENT_LOOP_LAG

LONGEST_STALL_S = 10.0
"""An event loop that has not turned for so long is stuck."""
_BEAT_S = 0.5
_LAG_OVER_S = 60.0
"""Longer than between two scrapes, so that none misses a stall."""


class Component(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part: whether it is usable, and why not."""

    up: bool
    reason: str = ""


class Health:
    """The parts of one process; written in the event loop, read in any thread.

    ``components`` are their names, each with the seconds after which nobody knows any more that it is well; ``now`` is
    a monotonic clock.
    """

    def __init__(self, components: Mapping[str, float], *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stale_s = dict(components)
        self.started_at = now()
        self._turned_at = now()
        self._seen = dict.fromkeys(components, (Component(up=False, reason="not looked at yet"), now()))

    def up(self, name: str) -> None:
        """Note that a part is usable."""
        self._note(name, Component(up=True))

    def down(self, name: str, reason: str) -> None:
        """Note that a part is not usable, and why."""
        self._note(name, Component(up=False, reason=reason))

    def components(self) -> dict[str, Component]:
        """Return every part as it was last seen; what was seen too long ago is down."""
        return {name: self._judged(name, component, at) for name, (component, at) in self._seen.items()}

    def report(self) -> None:
        """Tell Prometheus what `components` returns; in any thread."""
        for name, component in self.components().items():
            COMPONENT_UP.labels(name).set(component.up)

    def turned(self) -> None:
        """Note that the event loop turns."""
        self._turned_at = self._now()

    def stalled_s(self) -> float:
        """Return for how many seconds the event loop has not been seen to turn."""
        return self._now() - self._turned_at

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return self._now() - self.started_at

    def _note(self, name: str, component: Component) -> None:
        self._seen[name] = (component, self._now())

    def _judged(self, name: str, component: Component, at: float) -> Component:
        age_s = self._now() - at
        if component.up and age_s > self._stale_s[name]:
            return Component(up=False, reason=f"not looked at for {age_s:.0f} s")
        return component


async def beat(health: Health, also: Callable[[], None] = lambda: None) -> None:
    """Show that the event loop turns, and how late it is, until cancelled; do something else each time."""
    loop = asyncio.get_running_loop()
    late: deque[float] = deque(maxlen=round(_LAG_OVER_S / _BEAT_S))
    while True:
        due = loop.time() + _BEAT_S
        await asyncio.sleep(_BEAT_S)
        late.append(max(0.0, loop.time() - due))
        EVENT_LOOP_LAG.set(max(late))
        health.turned()
        also()
