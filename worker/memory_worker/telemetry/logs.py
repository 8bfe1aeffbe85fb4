"""Logs: one line per event, with a stable name, as text or as JSON. Payloads and vectors are never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from memory_worker.tracing import ids_of, trace_context

_FIELDS = "fields"
_LOWEST_LEVELS = {
    "arq": logging.ERROR,  # its other messages (its start, its health checks) say nothing new
    "uvicorn": logging.WARNING,
    "opentelemetry.exporter": logging.CRITICAL,  # lost spans are the event `spans_lost`
    "opentelemetry.sdk._shared_internal": logging.CRITICAL,
}
"""The lowest level that is logged of each library."""


def log_event(
    logger: logging.Logger,
    level: int,
    event: str,
    /,
    *,
    failure: BaseException | None = None,
    trace: str = "",
    **fields: Any,
) -> None:
    """Log ``event`` with its fields. ``failure`` is an unexpected error, which is logged with its traceback.

    The event gets the ids of the trace context ``trace``, or of the current span if it is empty.
    """
    if logger.isEnabledFor(level):
        ids = ids_of(trace or trace_context())
        logger.log(level, event, extra={_FIELDS: fields | ids}, exc_info=failure)


def configure_logs(level: str, *, as_json: bool) -> None:
    """Write the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, lowest in _LOWEST_LEVELS.items():
        logging.getLogger(name).setLevel(lowest)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_shown(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, _FIELDS, {})
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text.isprintable() and not {" ", '"'} & set(text) else json.dumps(text)
