"""The steps of a write: what follows what, and which writes are left out."""

from __future__ import annotations

import pytest

from memory_worker.bench.timeline import steps

MS = 0.001


def trace(*requests: tuple[str, float, float]) -> str:
    return "".join(f"traced {name} {began * MS!r} {ended * MS!r}\n" for name, began, ended in requests)


def a_write(at: float, update_ms: float = 2.0) -> str:
    """Return what a worker notes of a write that began at this time (ms)."""
    sent = at + 1.3
    return "2026-01-01T00:00:00 info   started role=ingest\n" + trace(
        ("Redis:claim", at + 0.6, at + 0.6),
        ("Redis:open", at + 0.7, at + 0.8),
        ("Qdrant:update_batch", sent, sent + update_ms),
        ("Redis:commit", sent + update_ms + 0.1, sent + update_ms + 0.4),
        ("Redis:finish", sent + update_ms + 0.5, sent + update_ms + 0.6),
    )


def times(at: float, update_ms: float = 2.0) -> list[float]:
    return [at * MS, (at + 0.3) * MS, (at + 2.2 + update_ms) * MS]


def test_steps_follow_each_other_until_the_caller_knows() -> None:
    found = steps([times(100)], trace(("Redis:renew", 90, 91)) + a_write(100))
    names = [name.removeprefix("step of a write: ") for name in found]
    assert names[:4] == ["push, wake and claim", "worker, before open", "Redis: open", "worker, before update_batch"]
    assert names[4:6] == ["Qdrant: update_batch", "worker, before commit"]
    assert names[6:] == ["Redis: commit", "reply to the caller", "all", "the caller had its receipt after"]
    took = [figure.ms["p50"] for figure in found.values()]
    assert took == pytest.approx([0.6, 0.1, 0.1, 0.5, 2, 0.1, 0.3, 0.5, 4.2, 0.3])
    assert sum(took[:8]) == pytest.approx(took[8])


def test_writes_with_requests_for_another_purpose_are_left_out() -> None:
    log = a_write(100) + a_write(200, 4.0) + trace(("Redis:stats", 202, 203)) + a_write(300, 3.0)
    found = steps([times(100), times(200, 4.0), times(300, 3.0), times(400)], log)
    figure = found["step of a write: Qdrant: update_batch"]
    assert figure.calls == 2
    assert figure.ms["max"] == pytest.approx(3)


def test_without_a_trace_there_are_no_steps() -> None:
    assert steps([times(100)], "") == {}
