"""Traces across the processes, as a collector gets them: one per delivery, its parents right, identifiers only."""

from __future__ import annotations

import asyncio
import secrets

import httpx

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import process
from tests.support.collector import collecting
from tests.support.end_to_end import EndToEnd, committed_records, end_to_end
from tests.support.public_endpoint import Hook, invitee_body, make_hook, sign

SIGNATURE = "Calendly-Webhook-Signature"
WAY = ["accept", "handle", "publish", "write"]
SERVICES = ["slotwire-serve", "slotwire-agents", "slotwire-relay", "slotwire-relay"]


async def post(flow: EndToEnd, hook: Hook, body: bytes, traceparent: str, *, key: str | None = None) -> int:
    """Send a signed delivery with a context, as a proxy before `serve` would pass it on."""
    headers = {SIGNATURE: sign(body, key or hook.key), "traceparent": traceparent}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{flow.settings.public_url}{hook.path}", content=body, headers=headers)
    return answer.status_code


def context(flags: str) -> tuple[str, str, str]:
    """Make a caller's context; return it with its trace and its span."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return f"00-{trace}-{span}-{flags}", trace, span


async def test_a_delivery_is_one_trace_from_the_post_to_the_handler(
    stack: Stack, database: Database, topic_prefix: str
) -> None:
    """Three processes say one trace; its parents are the caller, then `accept`, by the row and the record's header.

    A delivery whose caller did not sample it has no span anywhere, and one that is not authentic has none either. No
    span holds a secret, an address or anybody's data.
    """
    async with collecting() as collector:
        traced = {"SLOTWIRE_TRACES__ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with end_to_end(stack, database, topic_prefix, **traced) as flow:
            hook = await make_hook(flow.settings, database)
            (sampled, trace, caller), (unsampled, other, _) = context("01"), context("00")
            body = invitee_body()
            assert await post(flow, hook, body, unsampled, key="another") == 401
            assert await post(flow, hook, invitee_body(), sampled.replace(trace, secrets.token_hex(16)), key="x") == 401
            assert await post(flow, hook, invitee_body(), unsampled) == 200
            assert await post(flow, hook, body, sampled) == 200
            spans = await collector.until(WAY, trace)
            rows = await flow.rows(
                "SELECT traceparent FROM slotwire.deliveries WHERE origin = 'webhook' ORDER BY position"
            )
            topic = f"{topic_prefix}calendly.invitee"
            records = await asyncio.to_thread(committed_records, stack.kafka_bootstrap_servers, topic, 2)
            env = {**flow.env, "SLOTWIRE_ADMIN__PORT": "0"}
            async with process("control", env=env) as control:
                await control.until_ready()
                async with asyncio.timeout(60):
                    while not any(span.name == "calendly" for span in collector.spans):  # noqa: ASYNC110  # another process
                        await asyncio.sleep(0.05)
    accept = spans[0]
    assert [span.service for span in spans] == SERVICES
    assert accept.parent == caller
    assert {span.parent for span in spans[1:]} == {accept.span}
    assert rows[1]["traceparent"] == f"00-{trace}-{accept.span}-01"
    assert {record.headers["traceparent"] for record in records} == {row["traceparent"] for row in rows}
    assert rows[0]["traceparent"].startswith(f"00-{other}-")
    assert rows[0]["traceparent"].endswith("-00")
    assert {span.trace for span in collector.spans if span.name != "calendly"} == {trace}
    assert accept.attributes["slotwire.outcome"] == "accepted"
    assert spans[1].attributes["slotwire.type"] == "com.calendly.invitee.created.v1"
    calls = [span for span in collector.spans if span.name == "calendly"]
    assert {span.service for span in calls} == {"slotwire-control"}
    hidden = [hook.path.rpartition("/")[2], hook.key, flow.simulator.owner_token, "ada@example.com", "Ada Example"]
    hidden += ["api.calendly.com/scheduled_events", "/hooks/", "Bearer"]
    assert [text for text in hidden if text in collector.text] == []
