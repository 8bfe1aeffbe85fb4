"""The configuration of Prometheus: promtool accepts it, every alert is tested, and it uses only metrics that exist.

Tests that need promtool are skipped on a machine without it.
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

from memory_worker.inspection.queue_stats import StatsExporter
from memory_worker.settings import Settings
from memory_worker.telemetry import metrics
from tests.tools import tool
from tests.unit.queue_stats import Collected

Document: TypeAlias = dict[str, Any]

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"

OF_TARGETS = frozenset({"job", "instance", "service"})
"""Labels that scraping adds to every series."""
OF_OTHERS = {"up": frozenset[str]()}
"""Series that Prometheus itself makes of every scrape."""

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
_NAME = re.compile(r"(?<![\w:])(?:memory_worker|process|python)_\w+(?![\w:])|\bup\b")
_SELECTOR = re.compile(rf"({_NAME.pattern})\s*{{([^}}]*)}}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_RECORDED = re.compile(r"[a-z_]+:memory_worker_\w+:\w+")
_BY = re.compile(r"\b(?:by|on|without|group_left|group_right) \(([\w, ]*)\)")


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
    return found | _queue_labels()


def stats_names() -> frozenset[str]:
    """Return the names of the series that one replica exports for the whole queue."""
    return frozenset(_queue_labels())


def _queue_labels() -> dict[str, frozenset[str]]:
    return {metric.name: frozenset(metric.samples[0].labels) for metric in StatsExporter(Collected()).collect()}


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
    """Return the recorded series in a PromQL expression."""
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


def test_prometheus_accepts_the_configuration(promtool: str) -> None:
    _passes(promtool, "check", "config", "prometheus.yml")


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    _passes(promtool, "check", "rules", *(str(path) for path in (PROMETHEUS / "rules").glob("*.yml")))


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(promtool: str, path: Path) -> None:
    _passes(promtool, "test", "rules", str(path))


def test_no_alert_is_defined_twice() -> None:
    assert len(ALERTS) + len(RECORDS) == len(RULES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    cases = [case for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == alert]
    assert [case for case in cases if case["exp_alerts"]], "no test sees it fire"
    assert [case for case in cases if not case["exp_alerts"]], "no test sees it silent"


def test_every_tested_alert_exists() -> None:
    assert {case["alertname"] for test in TESTS for case in test.get("alert_rule_test", ())} == set(ALERTS)


@pytest.mark.parametrize("name", sorted({rule["record"] for rule in RECORDS}))
def test_every_recording_is_tested_and_used(name: str) -> None:
    cases = [case for test in TESTS for case in test.get("promql_expr_test", ()) if case["expr"] == name]
    assert [case for case in cases if case["exp_samples"]]
    assert [alert for alert, rule in ALERTS.items() if name in recorded_in(rule["expr"])]


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_rule_uses_metrics_that_exist(rule: Document) -> None:
    assert not misnamed(rule["expr"])
    assert recorded_in(rule["expr"]) <= {one["record"] for one in RECORDS}


def test_the_tests_use_series_that_workers_export() -> None:
    fed = {series["series"] for test in TESTS for series in test["input_series"]}
    assert not {wrong for series in fed if 'job="prometheus"' not in series for wrong in misnamed(series)}


def test_a_metric_that_does_not_exist_is_noticed() -> None:
    assert misnamed("rate(memory_worker_job_total[5m])") == {"memory_worker_job_total"}
    assert misnamed('memory_worker_jobs_total{result="applied"}') == {"memory_worker_jobs_total{result}"}
    assert misnamed("sum by (job, colour) (memory_worker_jobs_total)") == {"colour"}
    assert misnamed("memory_worker_push_to_applied_seconds") == {"memory_worker_push_to_applied_seconds"}
    assert not misnamed('sum by (job, le) (rate(memory_worker_read_queue_seconds_bucket{op="get",job="a"}[5m]))')


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_severity_and_a_description(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    # An absent metric has no value.
    assert "$value" in rule["annotations"]["description"] or rule["expr"].startswith("absent(")


def test_the_readme_lists_all_alerts() -> None:
    readme = (PROMETHEUS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| \[.+\]\((.+)\) \|$", readme, re.MULTILINE)
    assert set(rows) >= {
        (name, alert["labels"]["severity"], f"../{alert['annotations']['runbook'].removeprefix('deploy/')}")
        for name, alert in ALERTS.items()
    }
    assert set(re.findall(r"\bMemoryWorker[A-Z]\w+", readme)) == set(ALERTS)


def test_prometheus_scrapes_the_workers_of_the_compose_file() -> None:
    services = _load(DEPLOY.parent / "docker-compose.yml")["services"]
    workers = {name for name, service in services.items() if service.get("image") == "memory-worker"}
    (worker,) = (job for job in CONFIG["scrape_configs"] if job["job_name"] == "memory-worker")
    (found,) = worker["dns_sd_configs"]
    assert set(found["names"]) == workers
    assert found["port"] == Settings.model_fields["port"].default
