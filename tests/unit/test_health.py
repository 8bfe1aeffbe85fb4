"""The state of each component of a process, and when it is outdated."""

from __future__ import annotations

import asyncio
import time

import pytest

from memory_worker.telemetry import health as health_module
from memory_worker.telemetry.health import Component, Health, beat
from memory_worker.telemetry.metrics import EVENT_LOOP_LAG, REGISTRY


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health({"redis": 5.0, "qdrant": 20.0}, now=clock)


def up(name: str) -> float | None:
    """Return the metric of a component."""
    return REGISTRY.get_sample_value("memory_worker_component_up", {"component": name})


def test_a_component_is_down_before_its_first_check(health: Health) -> None:
    assert health.components() == {
        "redis": Component(up=False, reason="not checked yet"),
        "qdrant": Component(up=False, reason="not checked yet"),
    }


def test_the_last_state_counts(health: Health) -> None:
    health.up("redis")
    health.down("qdrant", "connection refused")
    assert health.components() == {
        "redis": Component(up=True),
        "qdrant": Component(up=False, reason="connection refused"),
    }
    health.down("redis", "it hangs")
    health.up("qdrant")
    assert health.components() == {"redis": Component(up=False, reason="it hangs"), "qdrant": Component(up=True)}


def test_each_state_is_outdated_after_its_own_time(health: Health, clock: Clock) -> None:
    health.up("redis")
    health.up("qdrant")
    clock.now_s += 5.0
    assert all(component.up for component in health.components().values())
    clock.now_s += 1.0
    assert health.components() == {
        "redis": Component(up=False, reason="not checked for 6 s"),
        "qdrant": Component(up=True),
    }
    health.up("redis")
    assert health.components()["redis"] == Component(up=True)


def test_the_metrics_agree_with_readyz(health: Health, clock: Clock) -> None:
    health.report()
    assert (up("redis"), up("qdrant")) == (0, 0)
    health.up("redis")
    health.up("qdrant")
    health.report()
    assert (up("redis"), up("qdrant")) == (1, 1)
    clock.now_s += 6.0
    health.report()
    assert (up("redis"), up("qdrant")) == (0, 1)
    health.down("qdrant", "refused")
    health.report()
    assert (up("redis"), up("qdrant")) == (0, 0)


def test_a_component_that_is_down_stays_down_with_its_reason(health: Health, clock: Clock) -> None:
    health.down("redis", "it hangs")
    clock.now_s += 1000.0
    assert health.components()["redis"] == Component(up=False, reason="it hangs")


def test_the_event_loop_stalls_until_it_runs_again(health: Health, clock: Clock) -> None:
    clock.now_s += 3.0
    assert health.stalled_s() == 3.0
    health.loop_ran()
    assert health.stalled_s() == 0.0
    clock.now_s += 1.5
    assert (health.stalled_s(), health.uptime_s) == (1.5, 4.5)


async def test_the_beat_records_that_the_loop_runs(
    health: Health, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "_BEAT_S", 0.001)
    EVENT_LOOP_LAG.set(-1)
    clock.now_s += 100.0
    beats, enough = 0, asyncio.Event()

    def also() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            enough.set()

    beating = asyncio.create_task(beat(health, also))
    async with asyncio.timeout(10):
        await enough.wait()
    beating.cancel()
    assert health.stalled_s() == 0.0
    lag_s = REGISTRY.get_sample_value("memory_worker_event_loop_lag_seconds")
    assert lag_s is not None
    assert lag_s >= 0


async def test_a_stall_is_reported_for_a_minute(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no scrape misses it."""
    monkeypatch.setattr(health_module, "_BEAT_S", 0.001)
    lags: list[float | None] = []
    enough = asyncio.Event()

    def also() -> None:
        lags.append(REGISTRY.get_sample_value("memory_worker_event_loop_lag_seconds"))
        if len(lags) == 2:
            asyncio.get_running_loop().call_soon(time.sleep, 0.05)  # the stall
        if len(lags) == 10:
            enough.set()

    beating = asyncio.create_task(beat(health, also))
    async with asyncio.timeout(10):
        await enough.wait()
    beating.cancel()
    seen = [lag_s for lag_s in lags[3:] if lag_s is not None and lag_s >= 0.04]
    assert len(seen) == len(lags[3:])
