"""A delivery made with other people's tools at both ends: openssl and curl in, librdkafka and the SDK out."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.schemas.events import InviteeCreated
from tests.support.end_to_end import committed_records, end_to_end

PAYLOAD = Path(__file__).parents[1] / "payloads" / "invitee.created" / "zoom_integer_id.json"


async def run(*command: str, stdin: bytes) -> str:
    """Run a tool to its end and return what it printed."""
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate(stdin)
    assert child.returncode == 0, err.decode()
    return out.decode()


async def test_signed_with_openssl_sent_with_curl_read_by_the_sdk(
    stack: Stack, database: Database, topic_prefix: str
) -> None:
    """The delivery reaches the agent, and Kafka holds a CloudEvent that the SDK and our own model accept."""
    body, now = PAYLOAD.read_bytes(), int(time.time())
    async with end_to_end(stack, database, topic_prefix) as world:
        [subscription] = world.simulator.engine.ledger.subscriptions()
        key = subscription.signing_key
        assert key is not None
        signed = f"{now}.".encode() + body
        digest = (await run("openssl", "dgst", "-sha256", "-hmac", key, "-r", stdin=signed)).split()[0]
        answer = await run(
            "curl", "--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}",
            "--header", f"Calendly-Webhook-Signature: t={now},v1={digest}",
            "--header", "Content-Type: application/json",
            "--data-binary", "@-", subscription.url,
            stdin=body,
        )  # fmt: skip
        assert answer == "200"
        topic = f"{topic_prefix}calendly.invitee"
        [record] = await asyncio.to_thread(committed_records, stack.kafka_bootstrap_servers, topic, 1)
        async with asyncio.timeout(90):
            while not (ledger := await world.rows("SELECT event_id, key FROM public.ledger")):  # noqa: ASYNC110  # not our process
                await asyncio.sleep(0.05)
    message = KafkaMessage({name: item.encode() for name, item in record.headers.items()}, record.key, record.value)
    event = from_binary_event(message)
    invitee = json.loads(body)["payload"]["uri"]
    assert (event.get_type(), event.get_subject()) == (InviteeCreated.type, invitee)
    assert event.get_source() == f"/organizations/{world.simulator.organization.rpartition('/')[2]}"
    assert event.get_specversion() == "1.0"
    assert str(ledger[0]["event_id"]) == event.get_id()
    assert ledger[0]["key"] == record.key == event.get_extension("partitionkey")
    data = InviteeCreated.model_validate_json(record.value)
    assert data.scheduled_event is not None
    assert data.scheduled_event.location is not None
    assert data.scheduled_event.location.type == "zoom"
