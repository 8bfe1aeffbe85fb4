"""When a worker exports spans, and what happens if it cannot."""

from __future__ import annotations

import builtins
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from memory_worker.contract.errors import ConfigurationError
from memory_worker.telemetry import span_export
from memory_worker.telemetry.span_export import _ReportedExporter, exporting_spans

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: " "},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://127.0.0.1:4317"},
        {"OTEL_SDK_DISABLED": "True", ENDPOINT: "http://127.0.0.1:4317"},
    ],
)
def test_nothing_is_exported_unless_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setattr(span_export, "import_module", _fail)
    with exporting_spans(environment):
        pass


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("OTEL_TRACES_EXPORTER", {}),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", {ENDPOINT: "http://127.0.0.1:4317"}),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", {"OTEL_TRACES_EXPORTER": "otlp"}),
    ],
)
def test_an_unknown_value_is_refused_with_the_name_of_its_variable(name: str, others: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: expected one of .*got 'carrier pigeon'"):  # noqa: SIM117
        with exporting_spans({name: "carrier pigeon", **others}):
            pass


def test_a_worker_without_the_extra_works_without_spans(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = builtins.__import__("importlib").import_module

    def import_module(name: str) -> Any:
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(name)

    monkeypatch.setattr(span_export, "import_module", import_module)
    with exporting_spans({ENDPOINT: "http://127.0.0.1:4317"}):
        assert [record.getMessage() for record in caplog.records] == ["tracing_off"]


class TestLostSpans:
    @pytest.mark.parametrize("failure", [ValueError("boom"), None])
    def test_they_are_reported_at_most_once_a_minute(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception | None
    ) -> None:
        now = 100.0
        monkeypatch.setattr(span_export.time, "monotonic", lambda: now)
        exporter = _ReportedExporter(Exporter(failure), SpanExportResult)
        for now in (100.0, 101.0, 159.9, 160.0):  # noqa: B007
            assert exporter.export(["a", "b"]) is SpanExportResult.FAILURE
        lost = [record.fields["spans"] for record in caplog.records]  # type: ignore[attr-defined]
        assert lost == [2, 6]
        assert {record.levelno for record in caplog.records} == {logging.WARNING}


class Exporter:
    def __init__(self, failure: Exception | None) -> None:
        self._failure = failure

    def export(self, spans: Any) -> SpanExportResult:
        if self._failure is not None:
            raise self._failure
        return SpanExportResult.FAILURE


def _fail(name: str) -> Any:
    raise AssertionError(name)
