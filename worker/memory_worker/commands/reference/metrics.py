"""The metrics as tables."""

from __future__ import annotations

from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from memory_worker.commands.reference.markdown import table
from memory_worker.telemetry import metrics

_HEAD: Final = ("metric", "type", "labels", "meaning")


def of_process() -> str:
    """Return a table of the metrics that each process exports about itself."""
    return table(_HEAD, (_row(found) for found in vars(metrics).values() if isinstance(found, MetricWrapperBase)))


def of_queue() -> str:
    """Return a table of the metrics that one process exports about the whole queue."""
    rows = (
        (f"`{metrics.PREFIX}_{name}`", "gauge", f"`{label}`" if label else "", meaning)
        for name, (meaning, label) in metrics.QUEUE_GAUGES.items()
    )
    return table(_HEAD, rows)


def _row(metric: MetricWrapperBase) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"`{name}`", family.type, labels, family.documentation
