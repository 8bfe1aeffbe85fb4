"""Export the spans of this process with OpenTelemetry's SDK, if the variables of OpenTelemetry ask for it.

They are the standard ones: ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_TRACES_EXPORTER`` switches tracing on, and
``OTEL_SDK_DISABLED=true`` switches it off. The SDK reads the others itself: the sampler, the limits, the resource, and
those of the exporter. A failing exporter loses spans. It never delays work, nor the end of the process by more than
`_SHUTDOWN_S` seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from memory_worker.contract.errors import ConfigurationError
from memory_worker.telemetry.logs import log_event

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "memory-worker"
"""The name of the service unless ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` has one."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = ("otlp", "console", "none")
_PROTOCOLS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
_SHUTDOWN_S = 2.0
_REPORT_EVERY_S = 60.0


@contextmanager
def exporting_spans(environment: Mapping[str, str]) -> Iterator[None]:
    """Export spans for the duration of the block, if ``environment`` asks for it.

    Raises `ConfigurationError` that names the variable for an exporter or a protocol that is not supported. If the
    extra ``otel`` is not installed, there are no spans, and an event in the log says so.
    """
    exporter = _exporter_in(environment)
    if exporter == "none":
        yield
        return
    try:
        provider = _provider(_open(exporter, environment))
    except ModuleNotFoundError as error:
        log_event(logger, logging.WARNING, "tracing_off", missing=error.name, install="memory-worker[otel]")
        yield
        return
    import_module("opentelemetry.trace").set_tracer_provider(provider)
    log_event(logger, logging.INFO, "tracing", exporter=exporter)
    try:
        yield
    finally:
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(_SHUTDOWN_S)


def _exporter_in(environment: Mapping[str, str]) -> str:
    """Return the exporter that the variables ask for."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "none"
    default = "otlp" if any(environment.get(name, "").strip() for name in _ENDPOINTS) else "none"
    return _choice(environment, ("OTEL_TRACES_EXPORTER",), _EXPORTERS, default)


def _choice(environment: Mapping[str, str], names: Sequence[str], allowed: Sequence[str], default: str) -> str:
    for name in names:
        if found := environment.get(name, "").strip():
            if found not in allowed:
                raise ConfigurationError(f"{name}: expected one of {', '.join(allowed)}, got {found!r}")
            return found
    return default


def _open(exporter: str, environment: Mapping[str, str]) -> Any:
    if exporter == "console":
        return import_module("opentelemetry.sdk.trace.export").ConsoleSpanExporter()
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = _choice(environment, names, [*_PROTOCOLS], "grpc")
    return import_module(_PROTOCOLS[protocol]).OTLPSpanExporter()


def _provider(exporter: Any) -> Any:
    resources, sdk = import_module("opentelemetry.sdk.resources"), import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    resource = resources.Resource({"service.name": SERVICE_NAME}).merge(resources.OTELResourceDetector().detect())
    provider = sdk.TracerProvider(resource=resources.Resource.create().merge(resource), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(_ReportedExporter(exporter, export.SpanExportResult)))
    return provider


class _ReportedExporter:
    """An exporter that reports lost spans in the log, at most once a minute. It is used by one thread."""

    def __init__(self, exporter: Any, results: Any) -> None:
        self._exporter = exporter
        self._results = results
        self._lost = 0
        self._reported_at = float("-inf")

    def export(self, spans: Sequence[Any]) -> Any:
        """Export spans. Never raises."""
        error = ""
        try:
            result = self._exporter.export(spans)
        except Exception as failure:  # noqa: BLE001  # the thread of the SDK must go on
            result, error = self._results.FAILURE, type(failure).__name__
        if result is not self._results.SUCCESS:
            self._lost += len(spans)
            self._report(error)
        return result

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the exporter has sent what it holds."""
        return bool(self._exporter.force_flush(timeout_millis))

    def _report(self, error: str) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY_S:
            log_event(logger, logging.WARNING, "spans_lost", spans=self._lost, error=error or "the exporter failed")
            self._lost, self._reported_at = 0, now
