"""The health of one process: the state of each component, and whether the event loop runs.

The code that checks a component records its state, and the HTTP thread reads it. A component that was not checked for
a while counts as down.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from memory_worker.telemetry.metrics import COMPONENT_UP, EVENT_LOOP_LAG

MAX_STALL_S = 10.0
"""An event loop that has not run for longer counts as stuck."""
_BEAT_S = 0.5
_LAG_OVER_S = 60.0
"""Longer than the interval of scrapes, so that no stall is missed."""


class Component(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of a component: whether it is usable, and if not, why. ``address``: where one that moves is."""

    up: bool
    reason: str = ""
    address: str = ""


class Health:
    """The health of one process. It is written in the event loop, and read in any thread.

    ``components`` has the name of each component, and the seconds after which its state is outdated. ``now`` is a
    monotonic clock in seconds.
    """

    def __init__(self, components: Mapping[str, float], *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stale_s = dict(components)
        self._started_at = now()
        self._ran_at = now()
        self._recorded = dict.fromkeys(components, (Component(up=False, reason="not checked yet"), now()))

    def up(self, name: str, address: str = "") -> None:
        """Record that a component is usable, and where it was found if its address may change."""
        self._record(name, Component(up=True, address=address))

    def down(self, name: str, reason: str) -> None:
        """Record that a component is not usable, and why."""
        self._record(name, Component(up=False, reason=reason))

    def components(self) -> dict[str, Component]:
        """Return the last state of each component. One that was checked too long ago is down."""
        return {name: self._current(name, component, at) for name, (component, at) in self._recorded.items()}

    def report(self) -> None:
        """Set the metric of each component. May be called in any thread."""
        for name, component in self.components().items():
            COMPONENT_UP.labels(name).set(component.up)

    def loop_ran(self) -> None:
        """Record that the event loop runs."""
        self._ran_at = self._now()

    def stalled_s(self) -> float:
        """Return for how many seconds the event loop has not run."""
        return self._now() - self._ran_at

    @property
    def uptime_s(self) -> float:
        """The seconds since the start."""
        return self._now() - self._started_at

    def _record(self, name: str, component: Component) -> None:
        self._recorded[name] = (component, self._now())

    def _current(self, name: str, component: Component, at: float) -> Component:
        age_s = self._now() - at
        if component.up and age_s > self._stale_s[name]:
            return Component(up=False, reason=f"not checked for {age_s:.0f} s")
        return component


async def beat(health: Health, also: Callable[[], None] = lambda: None) -> None:
    """Record until cancelled that the event loop runs, and its delay. Call ``also`` each time."""
    loop = asyncio.get_running_loop()
    late: deque[float] = deque(maxlen=round(_LAG_OVER_S / _BEAT_S))
    while True:
        due = loop.time() + _BEAT_S
        await asyncio.sleep(_BEAT_S)
        late.append(max(0.0, loop.time() - due))
        EVENT_LOOP_LAG.set(max(late))
        health.loop_ran()
        also()
