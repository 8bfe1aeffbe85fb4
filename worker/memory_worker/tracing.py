"""Traces of OpenTelemetry: spans, and the trace context that travels with each job.

A trace context is text: the ``traceparent`` of W3C Trace Context, then a space and its ``tracestate`` if there is one.

Nothing here imports OpenTelemetry. Spans exist only in a process that has imported it itself: an app that is traced, or
a worker with an exporter (see `memory_worker.telemetry.span_export`). Everywhere else these functions do nothing. Names
and attributes follow OpenTelemetry's semantic conventions for messaging and for database clients.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

SYSTEM: Final = "memory_worker"
"""The messaging system in the attributes of spans."""

MESSAGE_ID: Final = "messaging.message.id"
"""The attribute of a span about a single message: its receipt."""

MAX_CONTEXT_CHARACTERS: Final = 568
"""A ``traceparent``, a space, and a ``tracestate`` of at most 512 characters, as the W3C allows."""

_MAX_LINKS = 128
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_LAST_OF_FLAGS = 54
_SAMPLED = frozenset("13579bdf")
"""The last digit of the flags of a sampled trace."""

_Kind: TypeAlias = Literal["CLIENT", "CONSUMER", "PRODUCER"]
_Attributes: TypeAlias = Mapping[str, str | int]

_NO_SPAN: Final = nullcontext()


def trace_context() -> str:
    """Return the trace context of the current span, or an empty string if there is no span."""
    api = _api()
    context = api.get_current_span().get_span_context() if api is not None else None
    if context is None or not context.is_valid:
        return ""
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    whole = f"{parent} {context.trace_state.to_header()}".rstrip()
    return whole if len(whole) <= MAX_CONTEXT_CHARACTERS else parent


def ids_of(context: str) -> dict[str, str]:
    """Return ``trace_id`` and ``span_id`` of a trace context, or nothing if it is empty or malformed."""
    found = _TRACEPARENT.fullmatch(context.partition(" ")[0])
    return {"trace_id": found[1], "span_id": found[2]} if found else {}


def sending(
    operation: str, destination: str, *, kind: _Kind = "PRODUCER", count: int = 1
) -> AbstractContextManager[Any]:
    """Record a span in which ``count`` messages are sent. Take the trace context for them inside it."""
    attributes = _messaging(operation, "send", destination, count)
    return _NO_SPAN if _api() is None else _span(f"{operation} {destination}", kind, attributes)


def processing(
    destination: str,
    contexts: Iterable[str],
    *,
    operation: str = "process",
    partitions: Iterable[int] = (),
    receipts: Iterable[str] = (),
) -> AbstractContextManager[Any]:
    """Record the processing of messages, one span for each trace that is among their ``contexts``.

    The first span is the parent of what happens inside. It has links to the senders, and the other spans have a link to
    it. A context that is empty or malformed is ignored. ``receipts`` are those of the messages.
    """
    if _api() is None:
        return _NO_SPAN
    contexts = list(contexts)
    attributes = _messaging(operation, "process", destination, len(contexts))
    if numbers := ",".join(map(str, partitions)):
        attributes["messaging.destination.partition.id"] = numbers
    if len(contexts) == 1 and (receipt := next(iter(receipts), "")):
        attributes[MESSAGE_ID] = receipt
    return _processing(f"{operation} {destination}", attributes, contexts)


def settling(operation: str, destination: str, *, count: int) -> AbstractContextManager[Any]:
    """Record that ``count`` messages are settled: they leave the queue. Only inside another span."""
    if not _is_recording():
        return _NO_SPAN
    attributes = _messaging(operation, "settle", destination, count)
    return _span(f"{operation} {destination}", "CLIENT", attributes)


def requesting(system: str, operation: str, collection: str = "") -> AbstractContextManager[Any]:
    """Record a request to a database. Only inside another span, so that no heartbeat makes a trace of its own."""
    if not _is_recording():
        return _NO_SPAN
    attributes = {"db.system.name": system, "db.operation.name": operation}
    if collection:
        attributes["db.collection.name"] = collection
    return _span(f"{operation} {collection}".rstrip(), "CLIENT", attributes)


def _api() -> Any | None:
    """Return OpenTelemetry's module for traces if this process has imported it."""
    return sys.modules.get("opentelemetry.trace")


@lru_cache(maxsize=1)
def _tracer(provider: Any) -> Any:
    return provider.get_tracer("memory_worker")


def _is_recording() -> bool:
    api = _api()
    return api is not None and bool(api.get_current_span().is_recording())


def _messaging(operation: str, kind: str, destination: str, count: int) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
    }
    if count > 1:
        attributes["messaging.batch.message_count"] = count
    return attributes


@contextmanager
def _span(
    name: str, kind: _Kind, attributes: _Attributes, *, parent: Any = None, links: Sequence[Any] = ()
) -> Iterator[Any]:
    """Record a span under ``parent``, or under the current span. An error gives it a status, but no text."""
    api: Any = _api()
    with _tracer(api.get_tracer_provider()).start_as_current_span(
        name,
        context=None if parent is None else api.set_span_in_context(api.NonRecordingSpan(parent)),
        kind=api.SpanKind[kind],
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(api.StatusCode.ERROR)
            raise


@contextmanager
def _processing(name: str, attributes: _Attributes, contexts: Sequence[str]) -> Iterator[Any]:
    api: Any = _api()
    senders = _senders(contexts)
    of_traces: dict[int, Any] = {}
    for sender in senders:
        of_traces.setdefault(sender.trace_id, sender)
    first, *others = of_traces.values() or [None]
    links = [api.Link(sender) for sender in senders[:_MAX_LINKS]]
    with ExitStack() as spans:
        main = spans.enter_context(_span(name, "CONSUMER", attributes, parent=first, links=links))
        back = [api.Link(main.get_span_context())]
        beside = [_start(name, attributes, sender, back) for sender in others]
        try:
            yield main
        finally:
            for span in beside:
                span.end()


def _start(name: str, attributes: _Attributes, parent: Any, links: Sequence[Any]) -> Any:
    api: Any = _api()
    context = api.set_span_in_context(api.NonRecordingSpan(parent))
    tracer = _tracer(api.get_tracer_provider())
    return tracer.start_span(name, context=context, kind=api.SpanKind.CONSUMER, attributes=attributes, links=links)


def _senders(contexts: Iterable[str]) -> list[Any]:
    """Return the span contexts of those senders whose traces are sampled. If none is, return the first one."""
    found = [context for context in dict.fromkeys(contexts) if context]
    sampled = [context for context in found if context[_LAST_OF_FLAGS : _LAST_OF_FLAGS + 1] in _SAMPLED]
    return [sender for context in sampled or found[:1] if (sender := _parsed(context)) is not None]


def _parsed(context: str) -> Any | None:
    parent, _, state = context.partition(" ")
    found = _TRACEPARENT.fullmatch(parent)
    if found is None:
        return None
    api: Any = _api()
    return api.SpanContext(
        trace_id=int(found[1], 16),
        span_id=int(found[2], 16),
        is_remote=True,
        trace_flags=api.TraceFlags(int(found[3], 16)),
        trace_state=api.TraceState.from_header([state]),
    )
