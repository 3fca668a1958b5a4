"""Traces: the context that each delivery carries, and spans of its way, where somebody collects them.

A delivery belongs to a trace from its first byte: to the caller's, if the request brought a `traceparent`, else to one
of its own. That context is stored with the delivery's row and copied into its records; it never changes on the way, so
the spans of every process have one trace, and `accept` as their parent.

    accept (serve) ─▶ write (relay) · publish (relay) · handle (agents, one per run)          calendly (control)

Spans are made only where `SLOTWIRE_TRACES__ENDPOINT` names a collector; OpenTelemetry is imported only then. No span
holds a payload, a hook, a secret, an address of a resource or an exception's message: identifiers, counts and words of
ours only.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.settings import TracesSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXPORT_SECONDS = 5.0
"""How long a collector may take; also the longest that a stop waits for it."""

Kind = Literal["SERVER", "INTERNAL", "PRODUCER", "CONSUMER", "CLIENT"]
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NOTHING: AbstractContextManager[None] = nullcontext()


class AcceptSpan(Protocol):
    """A delivery that is being accepted.

    Attributes:
        traceparent: its context, as its row stores it.
    """

    traceparent: str

    def end(self, outcome: str, reason: str) -> None:
        """Say what became of it."""


class _Unseen:
    """A delivery of which no span is made."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def end(self, outcome: str, reason: str) -> None:
        """Do nothing."""


class _Seen:
    """A delivery with its span."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags.sampled):02x}"

    def end(self, outcome: str, reason: str) -> None:
        """End the span. One of a sender who is not Calendly never ends: strangers cannot fill the collector."""
        if outcome in {"refused", "rejected"}:
            return
        self._span.set_attribute("slotwire.outcome", outcome)
        if reason:
            self._span.set_attribute("slotwire.reason", reason)
        self._span.end()


class Tracing:
    """What a process does about traces. Made once at its start; without it, contexts are passed on and no span is made.

    Attributes:
        settings: which share is sampled, and whether the caller's context counts.
    """

    def __init__(self, settings: TracesSettings, tracer: Tracer | None = None) -> None:
        self.settings = settings
        self._tracer = tracer

    def accept(self, incoming: str | None, delivery: UUID) -> AcceptSpan:
        """Begin a delivery: in the caller's trace if it brought one and the settings trust it, else in one of its own.

        Args:
            incoming: the request's `traceparent`, unchecked.
            delivery: its identifier.
        """
        if incoming is not None and not (self.settings.trust_incoming and _TRACEPARENT.fullmatch(incoming)):
            incoming = None
        if self._tracer is not None:
            attributes = {"slotwire.delivery": str(delivery)}
            return _Seen(self._tracer.start_span("accept", _parent(incoming), _kind("SERVER"), attributes))
        if incoming is None:
            trace, ratio = delivery.hex, self.settings.sample_ratio
            sampled = ratio == 1.0 or random.random() < ratio  # noqa: S311 - which are seen is no secret
            incoming = f"00-{trace}-{trace[16:]}-{'01' if sampled else '00'}"
        return _Unseen(incoming)

    def span(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None = None,
        usual: type[Exception] | tuple[()] = (),
        **attributes: str,
    ) -> AbstractContextManager[Span | None]:
        """Make a span of what the block does, and the current one in it; a failure in it is named by its class.

        Args:
            name: of the span.
            kind: OpenTelemetry's.
            parent: the `traceparent` of the delivery; None for the current span.
            usual: an exception that is no failure.
            attributes: names without their prefix `slotwire.`, and values that say nothing of a person.
        """
        if self._tracer is None:
            return _NOTHING
        return _current(
            self._tracer.start_span(
                name, None if parent is None else _parent(parent), _kind(kind), _prefixed(attributes)
            ),
            usual,
        )

    def told(self, name: str, kind: Kind, parents: Iterable[tuple[str | None, dict[str, str]]], *, began: int) -> None:
        """Make a span for each of several deliveries of something that was done for all of them together.

        Args:
            name: of the spans.
            kind: OpenTelemetry's.
            parents: the `traceparent` of each delivery with attributes of its span; one without a context has no span.
            began: when it began, from `moment`.
        """
        if self._tracer is None:
            return
        for parent, attributes in parents:
            if parent is not None and int(parent[-2:], 16) & 1:  # else not sampled
                self._tracer.start_span(
                    name, _parent(parent), _kind(kind), _prefixed(attributes), start_time=began
                ).end()

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None


def moment() -> int:
    """Return the time for `Tracing.told`, in nanoseconds."""
    return time.time_ns()


_tracing = Tracing(TracesSettings())


def tracing() -> Tracing:
    """Return what this process does about traces."""
    return _tracing


def configure_tracing(settings: TracesSettings, *, process: str) -> None:
    """Set up tracing once, at the start of a process.

    Raises:
        ConfigurationError: a collector is named, and OpenTelemetry is not installed.
    """
    provider = None
    if settings.endpoint:
        try:
            provider = _exporting(settings, process)
        except ImportError as error:
            raise ConfigurationError(
                "SLOTWIRE_TRACES__ENDPOINT is set, and OpenTelemetry is not installed",
                remedy="Install Slotwire with its extra: pip install 'slotwire[traces]'. Or unset the variable.",
            ) from error
    use(settings, provider)


def use(settings: TracesSettings, provider: TracerProvider | None) -> None:
    """Make spans with a provider from now on, or none."""
    global _tracing  # noqa: PLW0603 - a process has one, as it has one log
    tracer = None if provider is None else provider.get_tracer("slotwire", version("slotwire"))
    _tracing = Tracing(settings, tracer)


def sampler(settings: TracesSettings) -> Any:
    """Return OpenTelemetry's sampler: the caller's choice where there is one, else a share of the deliveries."""
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    return ParentBased(TraceIdRatioBased(settings.sample_ratio))


def _exporting(settings: TracesSettings, process: str) -> TracerProvider:
    """Make the provider, also OpenTelemetry's global one, so that an agent's own spans go the same way."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": f"slotwire-{process}", "service.version": version("slotwire")})
    provider = TracerProvider(sampler=sampler(settings), resource=resource)
    exporter = OTLPSpanExporter(f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    # A full queue drops spans: it never holds up a delivery.
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def _current(span: Span, usual: type[Exception] | tuple[()]) -> Iterator[Span]:
    from opentelemetry.trace import StatusCode, use_span

    try:
        # Never the exception itself: its message may hold what the handler was handling.
        with use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except usual:
        raise
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


def _parent(traceparent: str | None) -> Any:
    """Return OpenTelemetry's context of a delivery; an empty one begins a trace."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return Context()
    _, trace, span, flags = traceparent.split("-")
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context), Context())


def _kind(kind: Kind) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind]


def _prefixed(attributes: dict[str, str]) -> dict[str, str]:
    return {f"slotwire.{name}": value for name, value in attributes.items()}
