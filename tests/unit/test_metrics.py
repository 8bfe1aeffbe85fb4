"""The metrics: their exposition, which of them start at zero, and how requests are timed."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from memory_worker.contract import Delete, Purge, Upsert
from memory_worker.contract.errors import QueueFull
from memory_worker.ingest.breaker import BreakerState
from memory_worker.inspection.queue_stats import StatsExporter
from memory_worker.queue.log import DeadReason
from memory_worker.reads.answers import READ_JOBS
from memory_worker.settings import Role
from memory_worker.telemetry import metrics
from memory_worker.telemetry.metrics import PREFIX, REGISTRY, expose_process, start_at_zero, timed
from tests.tools import tool
from tests.unit.queue_stats import Collected

OWN = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"{PREFIX}_{name}", labels)


@pytest.fixture
def everything() -> Iterator[CollectorRegistry]:
    """Return the registry of a worker that collects the queue stats, with a value of every metric."""
    expose_process()
    start_at_zero()
    for metric in OWN:
        if metric._labelnames:
            metric.labels(*("test" for _ in metric._labelnames))
    collector = StatsExporter(Collected())
    REGISTRY.register(collector)
    yield REGISTRY
    REGISTRY.unregister(collector)


class TestExposition:
    def test_promtool_accepts_the_metrics(self, everything: CollectorRegistry) -> None:
        promtool = tool("promtool")
        done = subprocess.run(
            [promtool, "check", "metrics"], input=generate_latest(everything), capture_output=True, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)

    def test_every_metric_has_its_help_text(self, everything: CollectorRegistry) -> None:
        families = {family.name: family for family in parse_text(generate_latest(everything).decode())}
        own = {family.name for metric in OWN for family in metric.describe()}
        of_the_queue = {family.name for family in StatsExporter(Collected()).collect()}
        assert len(own) == len(OWN)
        assert len(of_the_queue) == 16
        assert own | of_the_queue == {name for name in families if name.startswith(f"{PREFIX}_")}
        for name in own | of_the_queue:
            assert families[name].documentation.endswith("."), name
            assert families[name].samples, name
        assert "process_resident_memory_bytes" in families
        assert not [name for name in families if name.endswith("_created")]

    def test_openmetrics_has_the_same_metrics(self, everything: CollectorRegistry) -> None:
        as_text = parse_text(generate_latest(everything).decode())
        as_openmetrics = parse_openmetrics(generate_openmetrics(everything).decode())
        names = [{f.name for f in families if f.name.startswith(PREFIX)} for families in (as_text, as_openmetrics)]
        assert names[0] == names[1]

    def test_a_name_contains_its_unit(self) -> None:
        for metric in OWN:
            [family] = metric.describe()
            if family.type == "histogram":
                assert re.search(r"_(seconds|bytes|jobs)$", family.name), family.name
            if "Seconds" in family.documentation:
                assert "seconds" in family.name

    def test_no_label_identifies_a_user(self) -> None:
        labels = {label for metric in OWN for label in metric._labelnames}
        assert labels == {
            *("code", "command", "component", "contract", "ending", "kind", "method"),
            *("op", "outcome", "reason", "role", "state", "version"),
        }


class TestAtZero:
    def test_a_counter_that_an_alert_watches_starts_at_zero(self) -> None:
        start_at_zero()
        for reason in get_args(DeadReason):
            for job in (Upsert, Delete, Purge):
                assert value("dead_letters_total", reason=reason, op=str(job.__struct_config__.tag)) is not None
            assert value("dead_letters_total", reason=reason, op="unknown") is not None
        for read in READ_JOBS:
            for outcome in ("ok", "invalid", "timeout", "unavailable", "internal"):
                assert value("reads_total", op=str(read.__struct_config__.tag), outcome=outcome) is not None
        for outcome in ("acquired", "busy", "taken_over", "lost"):
            assert value("leases_total", outcome=outcome) is not None
        for role in get_args(Role):
            assert role == "all" or value("role_restarts_total", role=role) is not None

    def test_starting_again_resets_no_counter(self) -> None:
        metrics.LEASES.labels("lost").inc(3)
        before = value("leases_total", outcome="lost")
        start_at_zero()
        expose_process()
        expose_process()
        assert value("leases_total", outcome="lost") == before
        exposed = generate_latest(REGISTRY).decode()
        assert exposed.count("# TYPE process_resident_memory_bytes ") == 1

    def test_the_breaker_has_one_state(self) -> None:
        for state in get_args(BreakerState):
            metrics.breaker_is(state)
            assert {known: value("breaker_state", state=known) for known in get_args(BreakerState)} == {
                known: float(known == state) for known in get_args(BreakerState)
            }
        start_at_zero()
        assert value("breaker_state", state="closed") == 1


class TestTimed:
    @pytest.fixture
    def requests(self) -> Histogram:
        return Histogram("requests", "Of a test.", ("name", "code"), registry=CollectorRegistry())

    def counted(self, requests: Histogram) -> dict[tuple[str, str], float]:
        [family] = requests.collect()
        return {
            (sample.labels["name"], sample.labels["code"]): sample.value
            for sample in family.samples
            if sample.name.endswith("_count")
        }

    def test_a_request_without_an_error_counts_as_ok(self, requests: Histogram) -> None:
        for _ in range(2):
            with timed(requests, "push"):
                pass
        assert self.counted(requests) == {("push", "OK"): 2}

    def test_an_error_counts_by_its_class_and_is_raised(self, requests: Histogram) -> None:
        with pytest.raises(QueueFull), timed(requests, "push"):
            raise QueueFull("jobs", 3)
        assert self.counted(requests) == {("push", "QueueFull"): 1}

    def test_a_given_code_is_counted(self, requests: Histogram) -> None:
        with pytest.raises(RuntimeError), timed(requests, "query") as timing:
            timing.code = "UNAVAILABLE"
            raise RuntimeError
        with timed(requests, "query") as timing:
            timing.code = "NOT_FOUND"
        assert self.counted(requests) == {("query", "UNAVAILABLE"): 1, ("query", "NOT_FOUND"): 1}

    async def test_a_cancelled_request_is_counted(self, requests: Histogram) -> None:
        begun = asyncio.Event()

        async def never() -> None:
            with timed(requests, "query"):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(never())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert self.counted(requests) == {("query", "CancelledError"): 1}
