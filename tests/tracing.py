"""Spans of this test process, collected by OpenTelemetry's in-memory exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer


class Exporter(InMemorySpanExporter):
    """Collects spans, and calls ``on_span`` for each."""

    def __init__(self) -> None:
        super().__init__()
        self.on_span: Callable[[], object] = lambda: None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self.on_span()
        return result


class Spans:
    """The spans that `recording` has collected. In names, QUEUE stands for the prefix of the queue."""

    def __init__(self, prefix: str) -> None:
        self.exporter = Exporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._prefix = prefix

    @property
    def app(self) -> Tracer:
        """The tracer of an app."""
        return self.provider.get_tracer("app")

    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        wanted = name.replace("QUEUE", self._prefix)
        return [span for span in self.all() if span.name == wanted]

    async def until(self, condition: Callable[[], object], *, timeout_s: float = 10) -> None:
        """Wait until spans have ended that meet the condition."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self.exporter.on_span = lambda: loop.call_soon_threadsafe(arrived.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await arrived.wait()
                    arrived.clear()
        finally:
            self.exporter.on_span = lambda: None

    def one(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, [span.name for span in self.all()]
        return found[0]


@contextmanager
def recording(prefix: str = "mw") -> Iterator[Spans]:
    """Record spans for the duration of the block only, because a process can set its own provider only once."""
    spans = Spans(prefix)
    with patch.object(trace, "get_tracer_provider", lambda: spans.provider):
        yield spans
    spans.provider.shutdown()


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def links_of(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]
