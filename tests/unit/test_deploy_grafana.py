"""The dashboard uses metrics that exist, in queries that Prometheus accepts, and explains every panel."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.unit.test_deploy_prometheus import PROMETHEUS, metric_labels, misnamed, promtool, recorded_in, stats_names

__all__ = ["promtool"]  # a fixture

Document: TypeAlias = dict[str, Any]

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD: Document = json.loads((GRAFANA / "dashboards" / "memory-worker.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "text"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
WIDTH = 24

BUILT_IN = {"__rate_interval": "1m", "__interval_ms": "15000"}
_SELECTOR = re.compile(r"(\w+){([^}]*)}")


def title_of(panel: Document) -> str:
    return str(panel["title"])


def queries() -> Iterator[tuple[Document, Document]]:
    for panel in GRAPHS:
        for target in panel["targets"]:
            yield panel, target


def expressions() -> list[str]:
    return [target["expr"] for _, target in queries()]


def test_the_dashboard_answers_four_questions_in_order() -> None:
    assert [row.partition(",")[0].rstrip("?") for row in ROWS[:4]] == [
        "Is it keeping up",
        "How fresh is the index",
        "What fails",
        "Which part is the bottleneck",
    ]


@pytest.mark.parametrize("panel", PANELS, ids=title_of)
def test_every_panel_has_a_description(panel: Document) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")


@pytest.mark.parametrize("panel", [one for one in GRAPHS if one["type"] != "table"], ids=title_of)
def test_every_figure_has_a_unit(panel: Document) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("panel", [one for one in GRAPHS if one["type"] == "timeseries"], ids=title_of)
def test_every_line_has_a_name(panel: Document) -> None:
    assert panel["options"]["legend"]["showLegend"]
    assert all(target["legendFormat"] not in ("", "__auto") for target in panel["targets"])
    names = {target["legendFormat"] for target in panel["targets"]}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == "byName" and not any("{{" in name for name in names):
            assert override["matcher"]["options"] in names


def test_no_two_panels_have_the_same_id_or_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len({*ids}) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= WIDTH
        taken |= cells


@pytest.mark.parametrize("expression", expressions())
def test_a_query_uses_metrics_that_exist(expression: str) -> None:
    assert not misnamed(expression)


@pytest.mark.parametrize("expression", expressions())
def test_a_query_uses_no_recorded_series(expression: str) -> None:
    assert not recorded_in(expression)


@pytest.mark.parametrize("expression", expressions())
def test_a_query_of_process_metrics_can_be_narrowed_to_an_instance(expression: str) -> None:
    # Panels that compare the rate of jobs and the running versions with the backlog show all processes.
    whole = stats_names() | {"memory_worker_jobs_total", "memory_worker_info"}
    for name, matchers in _SELECTOR.findall(expression):
        assert 'job="$job"' in matchers
        assert name in metric_labels()
        if name not in whole:
            assert 'instance=~"$instance"' in matchers
        if name in stats_names():
            assert "instance" not in matchers


@pytest.mark.parametrize("target", [target for _, target in queries()], ids=lambda target: target["expr"])
def test_the_name_of_a_line_uses_labels_that_the_query_keeps(target: Document) -> None:
    left = {label for labels in re.findall(r"\bby \(([\w, ]*)\)", target["expr"]) for label in labels.split(", ")}
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left


def test_every_variable_exists_and_is_used() -> None:
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$(?:{(\w+)}|(\w+))", text))
    assert {a or b for a, b in used} - BUILT_IN.keys() - {"__all"} == VARIABLES.keys()


def test_every_query_uses_the_chosen_data_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(panel["datasource"] == chosen for panel in GRAPHS)
    assert all(target["datasource"] == chosen for _, target in queries())
    assert all(one["datasource"] == chosen for one in VARIABLES.values() if one["type"] == "query")


def test_prometheus_accepts_every_query(promtool: str, tmp_path: Path) -> None:
    values = BUILT_IN | {"job": "memory-worker", "instance": ".*"}
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_the_dashboard_is_provisioned_with_its_data_source() -> None:
    (source,) = _load("provisioning/datasources/prometheus.yml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = _load("provisioning/dashboards/memory-worker.yml")["providers"]
    services = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    assert source["url"].split(":")[1].strip("/") in services


def _load(path: str) -> Document:
    loaded: Document = yaml.safe_load((GRAFANA / path).read_text(encoding="utf-8"))
    return loaded
