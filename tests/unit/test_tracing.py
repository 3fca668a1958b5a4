"""The context of a delivery, and spans of its way: in memory, and where nobody collects them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from slotwire.ingest.foundation.settings import TracesSettings
from slotwire.ingest.foundation.tracing import moment, sampler, tracing, use

DELIVERY = UUID("01a20830-6963-7f66-834f-d1fb07931997")
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED.removesuffix("01") + "00"
DAMAGED = (
    "",
    "00",
    SAMPLED.upper(),
    SAMPLED + "-more",
    SAMPLED.replace("00-", "ff-", 1),
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    SAMPLED.replace("b7", "\r\n"),
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    use(TracesSettings(), None)


def collected(**settings: float | bool) -> InMemorySpanExporter:
    """Make spans from now on, kept in memory."""
    made, exporter = TracesSettings.model_validate(settings), InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler(made))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use(made, provider)
    return exporter


def test_without_a_collector_the_callers_context_is_passed_on() -> None:
    """Trace, parent and sampling of a `traceparent` reach the row as they came; and nothing else is made of it."""
    assert tracing().accept(SAMPLED, DELIVERY).traceparent == SAMPLED
    assert tracing().accept(UNSAMPLED, DELIVERY).traceparent == UNSAMPLED
    with tracing().span("handle", "CONSUMER", parent=SAMPLED) as span:
        assert span is None


@pytest.mark.parametrize("damaged", [None, *DAMAGED], ids=range(len(DAMAGED) + 1))
def test_without_a_readable_context_a_trace_begins(damaged: str | None) -> None:
    """A missing or damaged `traceparent` begins a trace that is the delivery's, and sampled as the setting says."""
    begun = tracing().accept(damaged, DELIVERY).traceparent
    assert begun == f"00-{DELIVERY.hex}-{DELIVERY.hex[16:]}-01"
    use(TracesSettings(sample_ratio=0), None)
    assert tracing().accept(damaged, DELIVERY).traceparent.endswith("-00")
    collected()
    begun = tracing().accept(damaged, DELIVERY).traceparent
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", begun)
    assert SAMPLED[3:35] not in begun


def test_a_caller_that_is_not_trusted_decides_nothing() -> None:
    """With the setting off each delivery begins a trace of its own, and the caller's sampling does not count."""
    use(TracesSettings(trust_incoming=False, sample_ratio=0), None)
    assert tracing().accept(SAMPLED, DELIVERY).traceparent == f"00-{DELIVERY.hex}-{DELIVERY.hex[16:]}-00"
    exporter = collected(trust_incoming=False)
    span = tracing().accept(UNSAMPLED, DELIVERY)
    span.end("accepted", "")
    assert span.traceparent.endswith("-01")
    [made] = exporter.get_finished_spans()
    assert made.parent is None


def test_a_context_that_is_not_sampled_makes_no_span() -> None:
    """Whoever said 00 gets 00 in the row, and no span of any stage; a ratio of 0 does the same without a caller."""
    exporter = collected()
    spans = [tracing().accept(UNSAMPLED, DELIVERY)]
    collected_nothing = collected(sample_ratio=0)
    spans.append(tracing().accept(None, DELIVERY))
    for span in spans:
        span.end("accepted", "")
        assert span.traceparent.endswith("-00")
        tracing().told("write", "INTERNAL", [(span.traceparent, {})], began=moment())
        with tracing().span("handle", "CONSUMER", parent=span.traceparent):
            pass
    assert exporter.get_finished_spans() == collected_nothing.get_finished_spans() == ()


def test_a_stranger_leaves_no_span() -> None:
    """A delivery that was refused is not exported, whatever its `traceparent` says."""
    exporter = collected()
    for outcome, reason in (("refused", "mismatch"), ("rejected", "413")):
        tracing().accept(SAMPLED, DELIVERY).end(outcome, reason)
    assert exporter.get_finished_spans() == ()


def test_a_span_names_a_failure_by_its_class_only() -> None:
    """The message of an exception can hold anybody's data, so no event, no status text and no attribute has it."""
    exporter = collected()
    with pytest.raises(ValueError, match="quill"), tracing().span("handle", "CONSUMER", parent=SAMPLED, agent="crm"):
        raise ValueError("quill@example.com")
    [span] = exporter.get_finished_spans()
    assert "quill" not in span.to_json()
    assert dict(span.attributes or {}) == {"slotwire.agent": "crm", "error.type": "ValueError"}
    assert not span.status.is_ok
    assert not span.events


def test_an_exception_that_is_usual_is_no_failure() -> None:
    """What a stage raises to say that all is well does not mark its span."""
    exporter = collected()
    with pytest.raises(KeyError), tracing().span("handle", "CONSUMER", parent=SAMPLED, usual=KeyError):
        raise KeyError
    [span] = exporter.get_finished_spans()
    assert "error.type" not in (span.attributes or {})


def test_what_a_handler_does_is_part_of_its_span() -> None:
    """In the block the span is OpenTelemetry's current one, so an agent's own spans get it as their parent."""
    collected()
    with tracing().span("handle", "CONSUMER", parent=SAMPLED) as span:
        assert get_current_span() is span
    assert get_current_span() is not span
