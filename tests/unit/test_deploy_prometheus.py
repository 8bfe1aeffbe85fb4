"""What Prometheus is told: promtool takes it, every alert is proved both ways, and it asks only for what is there.

A machine without promtool skips what needs it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from memory_worker.inspection.queue_stats import StatsCollector, StatsExporter
from memory_worker.inspection.status import Status
from memory_worker.settings import Settings
from memory_worker.telemetry import metrics
from tests.tools import tool
from tests.unit.queue_stats import STATUS

Document: TypeAlias = dict[str, Any]

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"

OF_TARGETS = frozenset({"job", "instance", "service"})
"""Labels that scraping adds to every series."""
OF_OTHERS = {"up": frozenset[str]()}
"""What Prometheus itself makes of every scrape."""

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
_NAME = re.compile(r"(?<![\w:])(?:memory_worker|process|python)_\w+(?![\w:])|\bup\b")
_SELECTOR = re.compile(rf"({_NAME.pattern})\s*{{([^}}]*)}}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_RECORDED = re.compile(r"[a-z_]+:memory_worker_\w+:\w+")
_BY = re.compile(r"\b(?:by|on|without|group_left|group_right) \(([\w, ]*)\)")


def metric_names() -> frozenset[str]:
    """Return the names of all series that a worker exports, as Prometheus knows them."""
    return frozenset(metric_labels())


@cache
def metric_labels() -> dict[str, frozenset[str]]:
    """Return the labels of all series that a worker exports, by the series' names."""
    metrics.expose_process()
    found = dict(OF_OTHERS)
    for metric in metrics.REGISTRY.collect():
        for suffix in _SUFFIXES.get(metric.type, ()):
            found[metric.name + suffix] = frozenset[str]().union(*(sample.labels for sample in metric.samples))
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            for suffix in _SUFFIXES[family.type]:
                found[family.name + suffix] = frozenset(metric._labelnames) | (
                    {"le"} if suffix == "_bucket" else frozenset()
                )
    return found | _stats_labels()


def stats_names() -> frozenset[str]:
    """Return the names of the series that one replica exports for the whole queue."""
    return frozenset(_stats_labels())


def _stats_labels() -> dict[str, frozenset[str]]:
    return {metric.name: frozenset(metric.samples[0].labels) for metric in StatsExporter(_FixedStats()).collect()}


class _FixedStats(StatsCollector):
    """Has fixed stats with a value of everything."""

    def __init__(self) -> None:
        pass

    def latest_as_leader(self) -> Status:
        return STATUS


def misnamed(expression: str) -> set[str]:
    """Return the metrics and labels in a PromQL expression that no worker exports."""
    known = metric_labels()
    wrong = set(_NAME.findall(expression)) - known.keys()
    for name, matchers in _SELECTOR.findall(expression):
        labels = known.get(name, frozenset()) | OF_TARGETS
        wrong |= {f"{name}{{{label}}}" for label in _MATCHER.findall(matchers) if label not in labels}
    all_labels = OF_TARGETS.union(*known.values()) | {"limit"}  # of a recording rule
    for listed in _BY.findall(expression):
        wrong |= {label for label in re.findall(r"\w+", listed) if label not in all_labels}
    return wrong


def recorded_in(expression: str) -> set[str]:
    """Return the recorded series that a PromQL expression asks for."""
    return set(_RECORDED.findall(expression))


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rules() -> Iterator[Document]:
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in _load(path)["groups"]:
            yield from group["rules"]


RULES = list(_rules())
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = [rule for rule in RULES if "record" in rule]
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
TESTS = [test for path in TEST_FILES for test in _load(path)["tests"]]
CONFIG = _load(PROMETHEUS / "prometheus.yml")


def name_of(rule: Document) -> str:
    return str(rule.get("alert") or rule.get("record"))


@pytest.fixture
def promtool() -> str:
    return tool("promtool")


def _passes(*command: str) -> None:
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration(promtool: str) -> None:
    _passes(promtool, "check", "config", "prometheus.yml")


def test_prometheus_takes_the_rules(promtool: str) -> None:
    _passes(promtool, "check", "rules", *(str(path) for path in (PROMETHEUS / "rules").glob("*.yml")))


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(promtool: str, path: Path) -> None:
    _passes(promtool, "test", "rules", str(path))


def test_no_alert_is_there_twice() -> None:
    assert len(ALERTS) + len(RECORDS) == len(RULES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_to_fire_and_seen_not_to(alert: str) -> None:
    cases = [case for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == alert]
    assert [case for case in cases if case["exp_alerts"]], "no test sees it fire"
    assert [case for case in cases if not case["exp_alerts"]], "no test sees it silent"


def test_every_test_is_of_an_alert_that_exists() -> None:
    assert {case["alertname"] for test in TESTS for case in test.get("alert_rule_test", ())} == set(ALERTS)


@pytest.mark.parametrize("name", sorted({rule["record"] for rule in RECORDS}))
def test_every_recording_is_tested_and_of_use(name: str) -> None:
    cases = [case for test in TESTS for case in test.get("promql_expr_test", ()) if case["expr"] == name]
    assert [case for case in cases if case["exp_samples"]]
    assert [alert for alert, rule in ALERTS.items() if name in recorded_in(rule["expr"])]


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_rule_asks_for_what_exists(rule: Document) -> None:
    assert not misnamed(rule["expr"])
    assert recorded_in(rule["expr"]) <= {one["record"] for one in RECORDS}


def test_the_tests_feed_what_workers_export() -> None:
    fed = {series["series"] for test in TESTS for series in test["input_series"]}
    assert not {wrong for series in fed if 'job="prometheus"' not in series for wrong in misnamed(series)}


def test_what_does_not_exist_is_found() -> None:
    assert misnamed("rate(memory_worker_job_total[5m])") == {"memory_worker_job_total"}
    assert misnamed('memory_worker_jobs_total{result="applied"}') == {"memory_worker_jobs_total{result}"}
    assert misnamed("sum by (job, colour) (memory_worker_jobs_total)") == {"colour"}
    assert misnamed("memory_worker_push_to_applied_seconds") == {"memory_worker_push_to_applied_seconds"}
    assert not misnamed('sum by (job, le) (rate(memory_worker_read_queue_seconds_bucket{op="get",job="a"}[5m]))')


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_grave_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    # Of what is absent there is no value.
    assert "$value" in rule["annotations"]["description"] or rule["expr"].startswith("absent(")
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert path == "deploy/RUNBOOK.md"
    assert anchor in _anchors((DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8"))


def _anchors(markdown: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a (?:id|name)="([\w-]+)"', markdown))


@pytest.mark.parametrize("alert", ALERTS)
def test_the_readme_tells_of_every_alert(alert: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| \[.+\]\((.+)\) \|$", _readme(), re.MULTILINE)
    rule = ALERTS[alert]
    runbook = rule["annotations"]["runbook"].removeprefix("deploy/")
    assert (alert, rule["labels"]["severity"], f"../{runbook}") in rows


def test_the_readme_tells_of_no_others() -> None:
    assert set(re.findall(r"\bMemoryWorker[A-Z]\w+", _readme())) == set(ALERTS)


def _readme() -> str:
    return (PROMETHEUS / "README.md").read_text(encoding="utf-8")


def test_it_finds_the_replicas_of_the_compose_file() -> None:
    services = _load(DEPLOY.parent / "docker-compose.yml")["services"]
    workers = {name for name, service in services.items() if service.get("image") == "memory-worker"}
    (worker,) = (job for job in CONFIG["scrape_configs"] if job["job_name"] == "memory-worker")
    (found,) = worker["dns_sd_configs"]
    assert set(found["names"]) == workers
    assert found["port"] == Settings.model_fields["port"].default
