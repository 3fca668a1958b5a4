"""The relay on real Postgres and real Kafka: order, headers, limits, mirror, standing by, waking."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import SchemaMismatch
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.accept import AcceptRow, accept
from slotwire.ingest.relay.lease import CHANNEL, HANDOVER_CHANNEL
from slotwire.ingest.relay.log_reader import BATCH_BYTES, FRAMING_BYTES, HEADER_BYTES
from slotwire.schemas.codec import decode
from slotwire.schemas.events import InviteeCreated
from tests.support.public_endpoint import invitee_body
from tests.support.relay_setup import (
    DEADLINE_SECONDS,
    TRACE,
    LoggedEvent,
    RelaySetup,
    committed_records,
    drain,
    header,
    ids,
    in_order,
    leading_relay,
    relay_settings,
    relay_setup,
    routing_form,
    running_relay,
    until,
)


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def _mirror(setup: RelaySetup) -> asyncpg.Record | None:
    return await setup.writer.fetchrow("SELECT log_id, position, event_id FROM slotwire.relay_mirror WHERE shard = 0")


async def test_events_arrive_in_order_each_with_its_context(setup: RelaySetup) -> None:
    """What is in the log comes out in its order, under its key, as CloudEvents with nothing lost or added."""
    events = [LoggedEvent(key=f"chain-{number % 3}", tenant="acme") for number in range(7)]
    events += [routing_form(), LoggedEvent(inferred=True, traceparent=None)]
    await setup.append(*events)
    async with leading_relay(setup.settings) as (relay, _):
        assert await drain(relay) == 9
    records = await committed_records(setup.settings, 9)
    assert ids(records) == [str(event.id) for event in events]
    assert in_order(records)
    first, last = records[0], records[-1]
    assert (first.key, first.value) == (b"chain-0", events[0].data)
    assert first.topic == f"{setup.settings.kafka.topic_prefix}calendly.invitee"
    headers = dict(first.headers)
    recorded = datetime.fromisoformat(headers.pop("ce_recordedtime").decode())
    assert datetime.now(UTC) - timedelta(seconds=DEADLINE_SECONDS) < recorded <= datetime.now(UTC)
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": str(events[0].id).encode(),
        "ce_source": b"/organizations/ORGANIZATION",
        "ce_type": InviteeCreated.type.encode(),
        "ce_subject": events[0].subject.encode(),
        "ce_time": b"2026-11-23T09:30:00Z",
        "ce_dataschema": f"urn:slotwire:schema:{InviteeCreated.type}".encode(),
        "ce_partitionkey": b"chain-0",
        "ce_sequence": b"1",
        "ce_tenant": b"acme",
        "content-type": b"application/json",
        "slotwire-origin": b"webhook",
        "traceparent": TRACE.encode(),
    }
    assert header(last, "slotwire-inferred") == "true"
    assert header(last, "traceparent") is None
    assert records[7].topic == f"{setup.settings.kafka.topic_prefix}calendly.routing-form"


async def test_one_transaction_carries_at_most_the_set_number(setup: RelaySetup) -> None:
    """A step passes `batch_events` events and not one more."""
    small = setup.relay(batch_events=3)
    await setup.append(*[LoggedEvent() for _ in range(7)])
    async with leading_relay(small) as (relay, _):
        assert [await relay.step() for _ in range(4)] == [3, 3, 1, 0]
    assert len(await committed_records(setup.settings, 7)) == 7


async def test_one_transaction_carries_at_most_so_many_bytes(setup: RelaySetup) -> None:
    """A step stops reading once `BATCH_BYTES` are reached: large events travel in smaller groups."""
    size = BATCH_BYTES // 5
    await setup.append(*[LoggedEvent(data=b"x" * size) for _ in range(8)])
    async with leading_relay(setup.settings) as (relay, _):
        assert [await relay.step() for _ in range(3)] == [6, 2, 0]


def _room(event: LoggedEvent, position: int, limit: int) -> int:
    """How long an event's data may be to travel with its record."""
    named = {
        "ce_specversion": "1.0", "ce_id": str(event.id), "ce_source": f"/organizations/{event.org}",
        "ce_type": event.type, "ce_subject": event.subject, "ce_time": "2026-11-23T09:30:00Z",
        "ce_dataschema": f"urn:slotwire:schema:{event.type}", "ce_partitionkey": event.key,
        "ce_sequence": str(position), "content-type": "application/json", "traceparent": TRACE,
        "slotwire-origin": "webhook", "ce_recordedtime": "2026-11-23T09:30:00.123456Z",
    }  # fmt: skip
    return limit - FRAMING_BYTES - len(event.key) - sum(HEADER_BYTES + len(k) + len(v) for k, v in named.items())


async def test_a_record_too_large_goes_out_with_a_reference(setup: RelaySetup) -> None:
    """At the limit the data travels; one byte more, or past the limit itself, a reference goes in its place."""
    limit = setup.settings.relay.max_record_bytes
    probe = LoggedEvent()
    room = _room(probe, 1, limit)
    events = [LoggedEvent(data=b"x" * size) for size in (room, room + 1, limit + 1)]
    await setup.append(*events)
    async with leading_relay(setup.settings) as (relay, _):
        assert await drain(relay) == 3
    fits, *rest = await committed_records(setup.settings, 3)
    assert fits.value == events[0].data
    assert header(fits, "ce_dataref") is None
    for record, event in zip(rest, events[1:], strict=True):
        assert (record.key, record.value) == (event.key.encode(), b"")
        assert header(record, "ce_id") == str(event.id)
        assert header(record, "ce_dataref") == f"/v1/events/{event.id}"


async def test_a_reference_is_decoded_with_the_data_it_stands_for(setup: RelaySetup) -> None:
    """A consumer that fetched the data decodes such a record like any other."""
    small = setup.relay(max_record_bytes=1_000)
    data = b'{"uri": "https://api.calendly.com/x", "booking": {"state": "active", "revision": 1, "chain_root": "x"}'
    data += b', "padding": "' + b"x" * 2_000 + b'"}'
    await setup.append(LoggedEvent(data=data))
    async with leading_relay(small) as (relay, _):
        await drain(relay)
    (record,) = await committed_records(setup.settings, 1)
    event = decode(record.headers, record.value, elsewhere=data)
    assert isinstance(event.data, InviteeCreated)
    assert event.dataref == f"/v1/events/{event.id}"


async def test_the_mirror_follows_and_is_never_resumed_from(setup: RelaySetup) -> None:
    """After each commit Postgres knows the cursor too, but a wrong mirror moves nothing."""
    events = [LoggedEvent() for _ in range(4)]
    await setup.append(*events[:2])
    async with leading_relay(setup.settings) as (relay, log):
        await drain(relay)
    mirror = await _mirror(setup)
    assert mirror is not None
    assert tuple(mirror) == (log.log_id, 2, events[1].id)
    await setup.writer.execute("UPDATE slotwire.relay_mirror SET position = 1, event_id = $1", events[0].id)
    await setup.append(*events[2:])
    async with leading_relay(setup.settings) as (relay, _):
        assert await drain(relay) == 2
    assert ids(await committed_records(setup.settings, 4)) == [str(event.id) for event in events]


async def test_an_unknown_type_holds_and_what_is_before_it_goes_out(setup: RelaySetup) -> None:
    """An event of a newer version is waited for, not skipped: the order of the log stays."""
    await setup.append(LoggedEvent(), LoggedEvent(type="com.example.newer.v1"), LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        assert await relay.step() == 1
        with pytest.raises(SchemaMismatch, match=r"com\.example\.newer\.v1"):
            await relay.step()
    assert len(await committed_records(setup.settings, 1)) == 1


async def test_a_notification_wakes_it(setup: RelaySetup) -> None:
    """With a poll every hour, a writer's notification brings the event out at once."""
    slow = setup.relay(poll_interval_seconds=3600.0)
    async with running_relay(slow) as health:
        await setup.append(LoggedEvent())
        await until(lambda: _ready(health.problems))
        await setup.writer.execute("SELECT pg_notify('slotwire_log', '0')")
        assert len(await committed_records(setup.settings, 1)) == 1


async def _ready(problems: Any) -> bool:
    return not await problems()


async def test_a_lost_notification_costs_one_poll(setup: RelaySetup) -> None:
    """Nobody notifies, and what was accepted is written and comes out by the poll."""
    quick = setup.relay(poll_interval_seconds=0.05)
    await setup.owner.execute(
        "INSERT INTO slotwire.organizations (org, uri, shard, created_at)"
        " VALUES ('A', 'https://api.calendly.com/organizations/A', 0, now())"
    )
    now = datetime.now(UTC)
    row = AcceptRow(uuid4(), "A", None, "webhook", now, now, False, "", None, None, invitee_body())
    async with running_relay(quick) as health:
        await until(lambda: _ready(health.problems))
        await accept(setup.owner, 0, [row], now=now, seconds=DEADLINE_SECONDS)
        assert len(await committed_records(setup.settings, 1)) == 1


async def test_forged_notifications_do_no_harm(setup: RelaySetup, database: Database) -> None:
    """Any login can notify: with any word on our channels the leader stays, and each event comes out once, in order."""
    forger = await asyncpg.connect(database.url_of["agents"])
    words = ("0", "", "1", "-1", "99999999999999999999", "x" * 7_999, "0; DROP TABLE slotwire.events")

    async def forge() -> None:
        for channel in (CHANNEL, HANDOVER_CHANNEL):
            for word in words:
                await forger.execute("SELECT pg_notify($1, $2)", channel, word)

    async with running_relay(setup.settings) as leader:
        await until(lambda: _ready(leader.problems))
        await setup.accept(1)
        await committed_records(setup.settings, 1)
        async with running_relay(setup.settings) as standby:
            await until(lambda: _ready(standby.problems))
            epoch = await setup.owner.fetchval("SELECT max(epoch) FROM slotwire.heads")
            for _ in range(5):
                await forge()
                await setup.accept(10)
                await forge()
            records = await committed_records(setup.settings, 51)
            assert await setup.owner.fetchval("SELECT max(epoch) FROM slotwire.heads") == epoch
    await forger.close()
    assert ids(records) == await setup.log_ids()
    assert in_order(records)


async def test_the_second_relay_stands_by_and_takes_over(setup: RelaySetup) -> None:
    """Two relays publish each event once; when the leader leaves, the other one goes on."""
    events = [LoggedEvent() for _ in range(4)]
    async with AsyncExitStack() as first:
        relay, _ = await first.enter_async_context(leading_relay(setup.settings))
        async with running_relay(setup.settings) as second:
            await setup.append(*events[:2])
            await drain(relay)
            await until(lambda: _ready(second.problems))  # standing by is no problem
            await first.aclose()
            await setup.append(*events[2:])
            records = await committed_records(setup.settings, 4)
    assert ids(records) == [str(event.id) for event in events]


async def test_a_leader_that_leaves_says_so(setup: RelaySetup) -> None:
    """The standby is notified with the shard, so that it need not wait for its next look."""
    told: asyncio.Queue[object] = asyncio.Queue()
    await setup.owner.add_listener(HANDOVER_CHANNEL, lambda *notice: told.put_nowait(notice[-1]))
    async with leading_relay(setup.settings):
        assert told.empty()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await told.get() == "0"


async def test_every_shard_is_led(setup: RelaySetup) -> None:
    """A log of three shards has three cursors, and the process publishes all of them."""
    await setup.owner.execute(
        "DROP SEQUENCE slotwire.accepted_0, slotwire.accepted_bytes_0; DELETE FROM slotwire.heads;"
        " DELETE FROM slotwire.log; SELECT slotwire.make_log(gen_random_uuid(), 3::smallint, now())"
    )
    for shard in range(3):
        await setup.append(*[LoggedEvent() for _ in range(5)], shard=shard)
    async with running_relay(setup.settings):
        records = await committed_records(setup.settings, 15)
        leaders = [REGISTRY.get_sample_value("slotwire_relay_leader", {"shard": str(shard)}) for shard in range(3)]
    assert len(records) == len(set(ids(records))) == 15
    assert leaders == [1.0, 1.0, 1.0]


async def test_many_events_of_many_keys_keep_their_order(setup: RelaySetup) -> None:
    """A thousand events over fifty keys arrive once each, in the order of the log within each partition."""
    draw = random.Random(20261123)  # noqa: S311 - a test's draw
    events = [LoggedEvent(key=f"chain-{draw.randrange(50)}") for _ in range(1_000)]
    for start in range(0, 1_000, 250):
        await setup.append(*events[start : start + 250])
    async with leading_relay(setup.settings) as (relay, _):
        assert await drain(relay) == 1_000
    records = await committed_records(setup.settings, 1_000)
    assert ids(records) == [str(event.id) for event in events]
    assert in_order(records)


async def test_a_stop_finishes_the_running_transaction(setup: RelaySetup) -> None:
    """A stop in the middle of the work leaves no half batch and no gap between records and cursor."""
    await setup.append(*[LoggedEvent() for _ in range(2_000)])
    async with running_relay(setup.settings):
        await committed_records(setup.settings, 1)
    seen = await committed_records(setup.settings, 1)
    async with leading_relay(setup.settings) as (relay, _):
        rest = await drain(relay)
    assert len(seen) + rest == 2_000
    assert len(set(ids(await committed_records(setup.settings, 2_000)))) == 2_000


async def test_lag_is_reported_while_the_broker_is_away(setup: RelaySetup) -> None:
    """Without a broker the relay is not ready, says so, and counts what waits."""
    away = setup.settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    await setup.append(*[LoggedEvent() for _ in range(3)])

    async def counted() -> bool:
        return REGISTRY.get_sample_value("slotwire_relay_lag_events", {"shard": "0"}) == 3

    async with running_relay(setup.settings.model_copy(update={"kafka": away})) as health:
        await until(counted)
        await until(lambda: _says(health, "Kafka at 127.0.0.1:1 is out of reach"))
        assert REGISTRY.get_sample_value("slotwire_relay_holding", {"reason": "broker"}) == 1


async def _says(health: Health, text: str) -> bool:
    return text in (await health.problems()).get("relay", "")


async def test_without_postgres_it_waits(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Postgres away at the start is waited out, not ready, and a stop still ends it at once."""
    settings = relay_settings("postgresql://nobody:x@127.0.0.1:1/none", kafka_bootstrap, topic_prefix)

    async def told() -> bool:
        return "Postgres is out of reach" in (await health.problems()).get("relay", "")

    async with asyncio.timeout(DEADLINE_SECONDS), running_relay(settings) as health:
        await until(told)
