"""A collector of spans as OpenTelemetry's exporters see one: OTLP over HTTP, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class CollectedSpan:
    """A span, with identifiers in hexadecimal."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, str]


@dataclass
class Collector:
    """What has come in.

    Attributes:
        url: its address.
        spans: every span.
        text: every request as it was decoded, to look for what must not be in it.
    """

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    text: str = ""

    def of_trace(self, trace: str) -> list[CollectedSpan]:
        """Return the spans of a trace, by name."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.name)

    async def until(self, names: list[str], trace: str, *, seconds: float = 60) -> list[CollectedSpan]:
        """Wait until a trace has these spans, by name; return them."""
        async with asyncio.timeout(seconds):
            while [span.name for span in self.of_trace(trace)] != names:  # noqa: ASYNC110  # other processes send them
                await asyncio.sleep(0.05)
        return self.of_trace(trace)

    def take(self, body: bytes) -> None:
        """Note what a request holds."""
        request = ExportTraceServiceRequest.FromString(body)
        self.text += str(request)
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                attributes = {each.key: each.value.string_value for each in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self.spans.append(CollectedSpan(named["service.name"], span.name, *ids, attributes))


@asynccontextmanager
async def collecting(*, keep: bool = True) -> AsyncIterator[Collector]:
    """Listen while the block runs, and keep what comes."""
    collector = Collector()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if keep:
            collector.take(body)
        return web.Response(body=ExportTraceServiceResponse().SerializeToString())

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
