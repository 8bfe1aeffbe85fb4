"""The pages that a worker serves over HTTP, and the rates on them, without the server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from memory_worker import __version__
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.http.pages import Rates, pages
from memory_worker.http.server import Page
from memory_worker.inspection.status import Status
from memory_worker.telemetry.health import MAX_STALL_S, Health
from memory_worker.telemetry.metrics import JOBS, READS
from tests.unit.conftest import Clock
from tests.unit.queue_stats import STATUS


class TestRates:
    @pytest.fixture
    def rates(self, clock: Clock) -> Rates:
        return Rates(now=clock)

    def test_a_rate_is_the_growth_between_two_samples(self, rates: Rates, clock: Clock) -> None:
        JOBS.labels("upsert", "memory", "applied").inc(70)
        JOBS.labels("purge", "all", "applied").inc(10)
        JOBS.labels("unknown", "unknown", "dead").inc(4)
        READS.labels("search", "ok").inc(10)
        READS.labels("get", "timeout").inc(6)
        assert rates.per_second() == {"applied": 0, "dead": 0, "reads": 0}  # until the next sample
        clock.now_s += 8
        rates.sample()
        assert rates.per_second() == {"applied": 10, "dead": 0.5, "reads": 2}

    def test_only_the_last_minute_counts(self, rates: Rates, clock: Clock) -> None:
        JOBS.labels("upsert", "memory", "applied").inc(1000)
        for _ in range(61):
            clock.now_s += 1
            rates.sample()
        assert rates.per_second()["applied"] == 0
        JOBS.labels("upsert", "memory", "applied").inc(120)
        clock.now_s += 1
        rates.sample()
        assert rates.per_second()["applied"] == 2

    def test_there_is_at_most_one_sample_per_second(self, rates: Rates, clock: Clock) -> None:
        for _ in range(10_000):
            clock.now_s += 0.01
            rates.sample()
        assert len(rates._samples) <= 62

    def test_after_a_long_pause_the_rate_is_zero(self, rates: Rates, clock: Clock) -> None:
        clock.now_s += 10
        rates.sample()
        JOBS.labels("upsert", "memory", "applied").inc(50)
        clock.now_s += 1000
        rates.sample()
        assert rates.per_second()["applied"] == 0


class TestPages:
    @pytest.fixture
    def health(self, clock: Clock) -> Health:
        health = Health({"redis": 15.0, "qdrant": 15.0}, now=clock)
        health.up("redis")
        health.up("qdrant")
        return health

    def page(self, health: Health, path: str, stats: Status | None = None, accept: str = "") -> Page:
        source = pages(health, "ingest", lambda: stats, Rates())[path]
        return source.make(source.accepted(accept))

    def document(self, health: Health, path: str, stats: Status | None = None) -> tuple[int, Any]:
        page = self.page(health, path, stats)
        assert page.content_type == "application/json"
        return page.status, msgspec.json.decode(page.body)

    def test_only_probes_have_no_rate_limit(self, health: Health) -> None:
        sources = pages(health, "all", lambda: None, Rates())
        assert {path for path, source in sources.items() if source.is_probe} == {"/livez", "/readyz"}
        assert set(sources) == {"/livez", "/readyz", "/health", "/metrics"}

    def test_a_worker_is_alive_while_its_event_loop_runs(self, health: Health, clock: Clock) -> None:
        assert self.document(health, "/livez") == (200, {"alive": True, "event_loop_stalled_s": 0})
        clock.now_s += MAX_STALL_S - 0.5
        assert self.document(health, "/livez")[0] == 200
        clock.now_s += 0.5
        assert self.document(health, "/livez") == (503, {"alive": False, "event_loop_stalled_s": MAX_STALL_S})
        health.loop_ran()
        assert self.document(health, "/livez")[0] == 200

    def test_a_worker_is_alive_while_its_servers_are_down(self, health: Health) -> None:
        health.down("redis", "x")
        health.down("qdrant", "y")
        assert self.document(health, "/livez")[0] == 200

    def test_a_worker_is_ready_if_all_components_are(self, health: Health, clock: Clock) -> None:
        assert self.document(health, "/readyz") == (
            200,
            {"ready": True, "components": {"redis": {"up": True}, "qdrant": {"up": True}}},
        )
        health.down("qdrant", "refused")
        assert self.document(health, "/readyz") == (
            503,
            {"ready": False, "components": {"redis": {"up": True}, "qdrant": {"up": False, "reason": "refused"}}},
        )
        health.up("qdrant")
        clock.now_s += 16
        assert self.document(health, "/readyz")[1]["components"]["redis"] == {
            "up": False,
            "reason": "not checked for 16 s",
        }

    def test_health_shows_queue_rates_and_collections(self, health: Health, clock: Clock) -> None:
        clock.now_s += 2.5
        status, shown = self.document(health, "/health", STATUS)
        assert status == 200
        assert shown["status"] == "ok"
        assert (shown["version"], shown["contract"], shown["role"]) == (
            __version__,
            CONTRACT_VERSION,
            "ingest",
        )
        assert shown["uptime_s"] == 2.5
        assert shown["rates"]["per_second"] == {"applied": 0, "dead": 0, "reads": 0}
        assert shown["queue"] == {
            "at": STATUS.at,
            "partitions": 2,
            "waiting": 4,
            "waiting_bytes": 400,
            "oldest_age_s": 1.5,
            "draining": 1,
            "paused": None,
            "held": 1,
            "held_needs": ["contract version 9"],
            "dead": 2,
            "arq_writes_waiting": 6,
            "reads_waiting": 3,
        }
        assert [collection["name"] for collection in shown["collections"]] == ["user_memories"]

    def test_health_answers_while_a_component_is_down(self, health: Health) -> None:
        health.down("redis", "it hangs")
        status, shown = self.document(health, "/health")
        assert (status, shown["status"]) == (200, "degraded")
        assert shown["components"]["redis"] == {"up": False, "reason": "it hangs"}
        assert (shown["queue"], shown["collections"], shown["store_error"]) == (None, None, None)

    def test_health_shows_why_the_collections_are_unknown(self, health: Health) -> None:
        broken = msgspec.structs.replace(STATUS, collections=[], store_error="UNAVAILABLE")
        _, shown = self.document(health, "/health", broken)
        assert (shown["collections"], shown["store_error"]) == ([], "UNAVAILABLE")

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("", "text/plain"),
            ("*/*", "text/plain"),
            ("text/html, image/png", "text/plain"),
            ("application/openmetrics-text", "application/openmetrics-text"),
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                "application/openmetrics-text",
            ),
        ],
    )
    def test_metrics_have_the_format_that_is_asked_for(self, health: Health, accept: str, content_type: str) -> None:
        page = self.page(health, "/metrics", accept=accept)
        assert page.status == 200
        assert page.content_type.startswith(f"{content_type};")
        assert b"\nmemory_worker_leases_held " in page.body
        assert page.body.endswith(b"# EOF\n") == (content_type != "text/plain")

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text;version=latest",
            "application/openmetrics-text;version=1.x.0",
            "text/plain;version=;escaping=",
            "text/plain;version=0.0.4;escaping=nonsense",
            ";;;,,,===",
            "\xff" * 10_000,
        ],
        ids=lambda accept: accept[:50],
    )
    def test_metrics_are_served_for_any_accept_header(self, health: Health, accept: str) -> None:
        page = self.page(health, "/metrics", accept=accept)
        assert page.status == 200
        assert b"\nmemory_worker_leases_held " in page.body
