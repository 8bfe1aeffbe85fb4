"""Spans and trace contexts, apart from what sends them. The integration tests show whole traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from memory_worker.tracing import (
    MAX_CONTEXT_CHARACTERS,
    ids_of,
    processing,
    requesting,
    sending,
    settling,
    trace_context,
)
from tests.tracing import Spans, id_of, links_of, parent_of, recording, trace_of

A = f"00-{'a' * 32}-{'1' * 16}-01"
B = f"00-{'b' * 32}-{'2' * 16}-03"
NOT_SAMPLED = f"00-{'c' * 32}-{'3' * 16}-00"
MALFORMED = ["", "x", A[:-1], A.upper(), f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", f"{A}-more"]


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recording() as spans:
        yield spans


def at(span_id: int, state: str = "") -> object:
    context = SpanContext(
        1, span_id, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState.from_header([state])
    )
    return trace.set_span_in_context(NonRecordingSpan(context))


class TestContexts:
    def test_there_is_none_without_a_span(self, spans: Spans) -> None:
        assert trace_context() == ""

    def test_it_names_the_current_span(self, spans: Spans) -> None:
        with spans.app.start_as_current_span("app"):
            context = trace_context()
        span = spans.one("app")
        assert ids_of(context) == {"trace_id": f"{trace_of(span):032x}", "span_id": f"{id_of(span):016x}"}

    def test_the_state_goes_with_it_unless_it_is_too_long(self, spans: Spans) -> None:
        for state, rest in (("a=1,b=2", " a=1,b=2"), (f"a={'x' * 200},b={'y' * 200},c={'z' * 200}", "")):
            with spans.app.start_as_current_span("app", context=at(1, state)):  # type: ignore[arg-type]
                context = trace_context()
            assert context[55:] == rest
            assert len(context) <= MAX_CONTEXT_CHARACTERS

    @pytest.mark.parametrize("context", MALFORMED)
    def test_a_malformed_one_is_ignored(self, spans: Spans, context: str) -> None:
        assert ids_of(context) == {}
        with processing("mw", [context]):
            pass
        assert spans.one("process mw").parent is None
        assert links_of(spans.one("process mw")) == []


class TestSpans:
    def test_a_message_is_processed_in_the_trace_of_its_sender(self, spans: Spans) -> None:
        with spans.app.start_as_current_span("app"), sending("send", "mw"):
            context = trace_context()
        with processing("mw", [context], partitions=[7]), requesting("qdrant", "update_batch", "user_memories"):
            pass
        app, sent, processed = spans.one("app"), spans.one("send mw"), spans.one("process mw")
        request = spans.one("update_batch user_memories")
        assert {trace_of(span) for span in spans.all()} == {trace_of(app)}
        assert [parent_of(sent), parent_of(processed), parent_of(request)] == [
            id_of(app),
            id_of(sent),
            id_of(processed),
        ]
        assert [sent.kind, processed.kind, request.kind] == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT]
        assert links_of(processed) == [id_of(sent)]
        assert dict(processed.attributes or {}) == {
            "messaging.system": "memory_worker",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "mw",
            "messaging.destination.partition.id": "7",
        }
        assert dict(request.attributes or {}) == {
            "db.system.name": "qdrant",
            "db.operation.name": "update_batch",
            "db.collection.name": "user_memories",
        }

    def test_each_trace_of_a_batch_has_a_span_that_leads_to_the_request(self, spans: Spans) -> None:
        with processing("mw", [A, B, A, NOT_SAMPLED, ""]), settling("commit", "mw", count=5):
            pass
        first, other = sorted(spans.named("process mw"), key=trace_of)
        assert [f"{trace_of(span):x}" for span in (first, other)] == ["a" * 32, "b" * 32]
        assert [f"{parent_of(span):x}" for span in (first, other)] == ["1" * 16, "2" * 16]
        assert [f"{link:x}" for link in links_of(first)] == ["1" * 16, "2" * 16]
        assert links_of(other) == [id_of(first)]
        assert parent_of(spans.one("commit mw")) == id_of(first)
        assert (first.attributes or {})["messaging.batch.message_count"] == 5

    def test_the_decision_not_to_sample_holds_for_the_worker(self, spans: Spans) -> None:
        with processing("mw", [NOT_SAMPLED, ""]), requesting("qdrant", "update_batch"):
            assert ids_of(trace_context())["trace_id"] == "c" * 32  # for its log
        assert spans.all() == []

    def test_no_request_begins_a_trace(self, spans: Spans) -> None:
        with requesting("redis", "beat"), settling("commit", "mw", count=1):
            pass
        assert spans.all() == []

    def test_an_error_is_named_but_not_quoted(self, spans: Spans) -> None:
        with pytest.raises(ValueError, match="secret"), processing("mw", [A]), requesting("redis", "commit"):
            raise ValueError("secret")
        for span in spans.all():
            assert span.status.status_code is StatusCode.ERROR
            assert (span.attributes or {})["error.type"] == "ValueError"
            assert "secret" not in span.to_json()
        assert len(spans.all()) == 2


def test_without_opentelemetry_nothing_is_imported_and_nothing_is_recorded() -> None:
    program = """
import sys
from memory_worker import MemoryQueue
from memory_worker.tracing import processing, requesting, sending, trace_context
with sending("send", "mw"), processing("mw", ["x"]), requesting("redis", "push"):
    assert trace_context() == ""
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
