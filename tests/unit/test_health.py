"""The health of each component of a process, and for how long it stays valid."""

from __future__ import annotations

import asyncio
import time

import pytest

from memory_worker.telemetry import health as health_module
from memory_worker.telemetry.health import Component, Health, beat
from memory_worker.telemetry.metrics import EVENT_LOOP_LAG, REGISTRY
from tests.unit.conftest import Clock


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health({"redis": 5.0, "qdrant": 20.0}, now=clock)


def up(name: str) -> float | None:
    """Return the metric of a component."""
    return REGISTRY.get_sample_value("memory_worker_component_up", {"component": name})


def test_a_component_that_was_never_checked_is_down(health: Health) -> None:
    assert health.components() == {
        "redis": Component(up=False, reason="not checked yet"),
        "qdrant": Component(up=False, reason="not checked yet"),
    }


def test_the_last_report_of_a_component_counts(health: Health) -> None:
    health.up("redis")
    health.down("qdrant", "connection refused")
    assert health.components() == {
        "redis": Component(up=True),
        "qdrant": Component(up=False, reason="connection refused"),
    }
    health.down("redis", "it hangs")
    health.up("qdrant")
    assert health.components() == {"redis": Component(up=False, reason="it hangs"), "qdrant": Component(up=True)}


def test_a_report_is_valid_for_the_time_of_its_component(health: Health, clock: Clock) -> None:
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


def test_the_metrics_show_the_same_as_the_components(health: Health, clock: Clock) -> None:
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


def test_the_event_loop_counts_as_stalled_without_a_beat(health: Health, clock: Clock) -> None:
    clock.now_s += 3.0
    assert health.stalled_s() == 3.0
    health.loop_ran()
    assert health.stalled_s() == 0.0
    clock.now_s += 1.5
    assert (health.stalled_s(), health.uptime_s) == (1.5, 4.5)


async def test_each_beat_records_the_lag_and_runs_a_callback(
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


async def test_a_stall_stays_in_the_metrics_for_a_minute(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a scrape could miss it."""
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
