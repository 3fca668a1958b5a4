"""What the relay does when it cannot go on: refused records, missing topics, a cursor that does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from slotwire.handlers.records import Partition, Record
from slotwire.ingest.errors import BrokerUnavailable, ConfigurationError, CursorMismatch, TopicUnavailable
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.relay.cursor import FIRST_WINDOW, WINDOW_GROWTH, read_cursor
from slotwire.ingest.relay.log_reader import CursorFrom
from slotwire.ingest.relay.shard import PARKED_RUN_LIMIT
from slotwire.schemas.topics import EVENT_TOPICS, INVITEE, RELAY_CURSOR
from tests.support.odd_records import RawName, send_raw
from tests.support.relay_setup import (
    LoggedEvent,
    RelaySetup,
    committed_records,
    drain,
    ids,
    in_order,
    leading_relay,
    make_topic,
    relay_setup,
    routing_form,
    running_relay,
    until,
)

PLACE = Partition("", 0)
SMALL_TOPIC_BYTES = 4_000
TOO_LARGE = b"x" * SMALL_TOPIC_BYTES


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


@pytest.fixture
async def bare(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """The same without topics."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix, topics=False) as made:
        yield made


@pytest.fixture
async def narrow(bare: RelaySetup) -> RelaySetup:
    """The same with an invitee topic that refuses large batches."""
    await make_topic(bare.settings, INVITEE, **{"max.message.bytes": str(SMALL_TOPIC_BYTES)})
    await ensure_topics(bare.settings.kafka)
    return bare


async def _parked(setup: RelaySetup) -> list[tuple[object, int, str]]:
    rows = await setup.writer.fetch("SELECT event_id, position, reason FROM slotwire.parked_events ORDER BY position")
    return [(row["event_id"], row["position"], row["reason"]) for row in rows]


async def test_a_refused_record_between_two_good_ones_is_parked(narrow: RelaySetup) -> None:
    """The good ones arrive although the broker rejected their batch; the cursor has passed all three."""
    good, bad, fine = LoggedEvent(), LoggedEvent(data=TOO_LARGE), LoggedEvent()
    await narrow.append(good, bad, fine)
    async with leading_relay(narrow.settings) as (relay, _):
        assert await drain(relay) == 3
        cursor = relay.cursor
    assert ids(await committed_records(narrow.settings, 2)) == [str(good.id), str(fine.id)]
    assert await _parked(narrow) == [(bad.id, 2, "message_size_too_large")]
    assert cursor is not None
    assert (cursor.position, cursor.event_id) == (3, fine.id)
    assert await read_cursor(narrow.settings, 0) == cursor


async def test_halving_finds_every_refused_record(narrow: RelaySetup) -> None:
    """Refused records at the edges, next to each other and alone are parked; all others arrive in order."""
    bad = {0, 7, 8, 30, 39}
    events = [LoggedEvent(key=f"chain-{n % 5}", data=TOO_LARGE if n in bad else b"{}") for n in range(40)]
    await narrow.append(*events)
    async with leading_relay(narrow.settings) as (relay, _):
        assert await drain(relay) == 40
    records = await committed_records(narrow.settings, 35)
    assert ids(records) == [str(event.id) for n, event in enumerate(events) if n not in bad]
    assert in_order(records)
    assert [position for _, position, _ in await _parked(narrow)] == [n + 1 for n in sorted(bad)]


async def test_a_topic_that_refuses_everything_parks_so_many_and_then_holds(narrow: RelaySetup) -> None:
    """`PARKED_RUN_LIMIT` refused in a row are parked; one more holds instead, and flows on once it is accepted."""
    await narrow.append(*[LoggedEvent(data=TOO_LARGE) for _ in range(PARKED_RUN_LIMIT + 1)])
    async with leading_relay(narrow.settings) as (relay, _):
        with pytest.raises(BrokerUnavailable, match="in a row") as held:
            await drain(relay)
        assert held.value.reason == "refused"
        assert "calendly.invitee" in held.value.remedy
        with pytest.raises(BrokerUnavailable, match="in a row"):
            await drain(relay)
    assert len(await _parked(narrow)) == PARKED_RUN_LIMIT
    cursor = await read_cursor(narrow.settings, 0)
    assert cursor is not None
    assert cursor.position == PARKED_RUN_LIMIT


async def test_a_published_record_ends_the_run_of_refusals(narrow: RelaySetup) -> None:
    """At the limit and not in a row, nothing holds."""
    bad = [LoggedEvent(data=TOO_LARGE) for _ in range(PARKED_RUN_LIMIT)]
    await narrow.append(*bad, LoggedEvent(), LoggedEvent(data=TOO_LARGE))
    async with leading_relay(narrow.settings) as (relay, _):
        assert await drain(relay) == PARKED_RUN_LIMIT + 2
    assert len(await _parked(narrow)) == PARKED_RUN_LIMIT + 1


async def test_a_cursor_topic_that_refuses_parks_nothing(bare: RelaySetup) -> None:
    """When it is the cursor the broker refuses, no event is blamed for it."""
    await make_topic(bare.settings, RELAY_CURSOR, **{"max.message.bytes": "150"})  # enough for a marker
    await ensure_topics(bare.settings.kafka)
    await bare.append(LoggedEvent())
    async with leading_relay(bare.settings) as (relay, _):
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="cursor"):
                await relay.step()
    assert await _parked(bare) == []


async def test_a_missing_topic_holds_names_the_command_and_flows_on(bare: RelaySetup) -> None:
    """Nothing is parked, readiness says what to run, and when the topic is there all flows in order."""
    await make_topic(bare.settings, INVITEE)
    events = [LoggedEvent(), routing_form(), LoggedEvent()]
    await bare.append(*events)
    async with running_relay(bare.settings) as health:
        await until(lambda: _says(health, "calendly.routing-form is missing"))
        problem = (await health.problems())["relay"]
        assert "slotwire migrate" in problem
        assert "slotwire.relay-cursor is missing" in problem
        assert REGISTRY.get_sample_value("slotwire_relay_holding", {"reason": "topic"}) == 1
        assert await _parked(bare) == []
        await ensure_topics(bare.settings.kafka)
        records = await committed_records(bare.settings, 3)
        await until(lambda: _says(health, ""))
        assert REGISTRY.get_sample_value("slotwire_relay_holding", {"reason": "topic"}) == 0
    assert ids(records) == [str(event.id) for event in events]


async def _says(health: Health, text: str) -> bool:
    problem = (await health.problems()).get("relay", "")
    return text in problem if text else not problem


async def test_a_standby_does_not_lead_on_a_schema_that_has_left_it_behind(setup: RelaySetup) -> None:
    """A relay that stood by while the database was migrated past it holds and says so; it takes no epoch."""
    epoch = "SELECT max(epoch) FROM slotwire.heads"
    remember = "INSERT INTO slotwire.migrations VALUES ('9999_post_x', 'as written then', $1)"
    async with AsyncExitStack() as leading:
        async with leading_relay(setup.settings):
            health = await leading.enter_async_context(running_relay(setup.settings))
            await until(lambda: _says(health, ""))
            await setup.owner.execute(remember, datetime.now(UTC))
            led = await setup.owner.fetchval(epoch)
        await until(lambda: _says(health, "the database was migrated past this version: 9999_post_x"))
        assert await setup.owner.fetchval(epoch) == led
    async with running_relay(setup.settings) as health:
        await until(lambda: _says(health, "at least as new as the one that migrated it"))


async def test_a_missing_topic_is_reported_at_once(bare: RelaySetup) -> None:
    """The client would wait 40 s for a topic that is not there; the relay knows before it sends."""
    await make_topic(bare.settings, INVITEE)
    await bare.append(LoggedEvent())
    async with leading_relay(bare.settings) as (relay, _):
        with pytest.raises(TopicUnavailable) as held:
            await relay.step()
    missing = {RELAY_CURSOR, *EVENT_TOPICS} - {INVITEE}
    assert set(held.value.topics) == {full_name(bare.settings.kafka, topic) for topic in missing}


async def test_a_lost_cursor_stops_it(setup: RelaySetup) -> None:
    """The mirror remembers a cursor that Kafka does not have: it stops rather than publish all again."""
    await setup.append(LoggedEvent())
    await setup.writer.execute(
        "INSERT INTO slotwire.relay_mirror SELECT 0, log_id, 1, $1, created_at FROM slotwire.log", uuid4()
    )
    async with leading_relay(setup.settings) as (relay, _):
        with pytest.raises(CursorMismatch, match="gone from Kafka") as stopped:
            await relay.step()
    for choice in ("mirror", "POSITION", "beginning"):
        assert "slotwire relay --cursor-from" in stopped.value.remedy
        assert choice in stopped.value.remedy
    assert await committed_records(setup.settings, 0) == []


async def test_another_log_stops_it(setup: RelaySetup) -> None:
    """A database that was made anew beside an old Kafka is noticed."""
    await setup.append(LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await setup.owner.execute("UPDATE slotwire.log SET log_id = $1", uuid4())
    async with leading_relay(setup.settings) as (relay, _):
        with pytest.raises(CursorMismatch, match="another log"):
            await relay.step()


async def _restore(setup: RelaySetup, position: int) -> None:
    """Bring the log back to a position, as a restored backup would."""
    await setup.owner.execute("DELETE FROM slotwire.events WHERE position > $1", position)
    await setup.owner.execute("SELECT setval('slotwire.positions', $1)", position)


async def test_postgres_restored_behind_the_cursor_stops_it(setup: RelaySetup) -> None:
    """No event at the cursor's position, or later another one there: both stop it, and nothing is published."""
    await setup.append(*[LoggedEvent() for _ in range(5)])
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await _restore(setup, 3)
    async with leading_relay(setup.settings) as (relay, _):
        with pytest.raises(CursorMismatch, match="no event at its position 5"):
            await relay.step()
    await setup.append(*[LoggedEvent() for _ in range(4)])
    async with leading_relay(setup.settings) as (relay, _):
        with pytest.raises(CursorMismatch, match="another event stands at its position 5"):
            await relay.step()
    assert len(await committed_records(setup.settings, 5)) == 5


UNREADABLE = [
    (b"{", "cannot be read"),
    (b'{"log_id":1,"position":1e999,"event_id":7}', "cannot be read"),
    (None, "was deleted"),
]


@pytest.mark.parametrize(("value", "why"), UNREADABLE, ids=["not-json", "numbers", "tombstone"])
async def test_a_cursor_that_cannot_be_read_holds_and_an_operator_sets_it(
    setup: RelaySetup, value: bytes | None, why: str
) -> None:
    """Somebody else wrote to the cursor's topic: the relay is up, alarmed, names the command, and the command works."""
    await setup.append(*[LoggedEvent() for _ in range(3)])
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await _write_cursor(setup, [Record(PLACE, 0, b"0", value, (), datetime.now(UTC))])
    async with running_relay(setup.settings) as health:
        await until(lambda: _says(health, why))
        assert "slotwire relay --cursor-from" in (await health.problems())["relay"]
        assert REGISTRY.get_sample_value("slotwire_relay_holding", {"reason": "cursor"}) == 1
        async with leading_relay(setup.settings, cursor_from="mirror") as (relay, _):
            assert await drain(relay) == 0
        await until(lambda: _says(health, ""))
    assert await read_cursor(setup.settings, 0) is not None


async def test_records_of_others_in_the_cursor_s_topic_change_nothing(setup: RelaySetup) -> None:
    """Other keys, null ones, and names of headers that are no text are passed over; the cursor is found behind them."""
    await setup.append(LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
        cursor = relay.cursor
    odd = [(RawName.of(b"\xff\xfe"), b"v")]
    now = datetime.now(UTC)
    await _write_cursor(setup, [Record(PLACE, 0, key, b"{", tuple(odd), now) for key in (b"", b"00", b"0 ", b"\xff")])
    assert await read_cursor(setup.settings, 0) == cursor


async def _write_cursor(setup: RelaySetup, records: list[Record]) -> None:
    """Write to the cursor's topic as anybody could."""
    producer = AIOKafkaProducer(bootstrap_servers=setup.settings.kafka.bootstrap_servers)
    await producer.start()
    try:
        await send_raw(producer, full_name(setup.settings.kafka, RELAY_CURSOR), records)
    finally:
        await producer.stop()


async def test_the_process_stays_up_and_says_so(setup: RelaySetup) -> None:
    """With a cursor that does not fit, it is alive, not ready, alarmed, tells its lag, and lets the lease go."""
    await setup.append(*[LoggedEvent() for _ in range(3)])
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await _restore(setup, 1)
    await setup.writer.execute("UPDATE slotwire.relay_mirror SET position = 0")  # it was restored too
    async with running_relay(setup.settings) as health:
        await until(lambda: _says(health, "does not fit this log"))
        assert REGISTRY.get_sample_value("slotwire_relay_holding", {"reason": "cursor"}) == 1
        await until(_lets_go)
        assert REGISTRY.get_sample_value("slotwire_relay_lag_events", {"shard": "0"}) == 1
        async with leading_relay(setup.settings, cursor_from="beginning") as (relay, _):
            assert await drain(relay) == 1


async def _lets_go() -> bool:
    return REGISTRY.get_sample_value("slotwire_relay_leader", {"shard": "0"}) == 0


@pytest.mark.parametrize(
    ("choice", "expected"), [("beginning", [1, 2, 3, 4]), ("3", [4]), ("2", [3, 4]), ("0", [1, 2, 3, 4])]
)
async def test_an_operator_sets_the_cursor(setup: RelaySetup, choice: str, expected: list[int]) -> None:
    """`--cursor-from` goes on after the chosen place, once, and the next start needs it no more."""
    await setup.append(*[LoggedEvent() for _ in range(4)])
    async with leading_relay(setup.settings) as (relay, log):
        await drain(relay)
    await setup.owner.execute("UPDATE slotwire.log SET log_id = $1", uuid4())
    chosen = CursorFrom(choice, skip=4 - len(expected))
    async with leading_relay(setup.settings, cursor_from=chosen) as (relay, _):
        assert await drain(relay) == len(expected)
        assert relay.cursor_from is None
    async with leading_relay(setup.settings) as (relay, log):
        assert await drain(relay) == 0
        assert relay.cursor is not None
        assert relay.cursor.log_id == log.log_id
    assert len(await committed_records(setup.settings, 4 + len(expected))) == 4 + len(expected)


@pytest.mark.parametrize(("skip", "refused"), [(0, True), (1, True), (2, False), (3, False)])
async def test_events_are_left_out_only_if_their_number_is_confirmed(
    setup: RelaySetup, skip: int, refused: bool
) -> None:
    """Two of four were never published, as far as is known: refused with that number, or done where it is confirmed."""
    events = [LoggedEvent() for _ in range(4)]
    await setup.append(*events)
    await setup.writer.execute(
        "INSERT INTO slotwire.relay_mirror SELECT 0, log_id, 2, $1, created_at FROM slotwire.log", events[1].id
    )
    async with leading_relay(setup.settings, cursor_from=CursorFrom("4", skip=skip)) as (relay, _):
        if refused:
            with pytest.raises(ConfigurationError, match=r"2 events of shard 0 .* never published") as told:
                await relay.step()
            assert "--cursor-from 2" in told.value.remedy
            assert "--skip 2" in told.value.remedy
        else:
            assert await drain(relay) == 0
            assert relay.cursor is not None
            assert relay.cursor.position == 4


async def test_an_operator_sets_the_cursor_from_the_mirror(setup: RelaySetup) -> None:
    """After Kafka was replaced, the mirror tells where the old one was, and only the rest is published."""
    events = [LoggedEvent() for _ in range(4)]
    await setup.append(*events)
    await setup.writer.execute(
        "INSERT INTO slotwire.relay_mirror SELECT 0, log_id, 3, $1, created_at FROM slotwire.log", events[2].id
    )
    async with leading_relay(setup.settings, cursor_from="mirror") as (relay, _):
        assert await drain(relay) == 1
    assert ids(await committed_records(setup.settings, 1)) == [str(events[3].id)]


@pytest.mark.parametrize(
    ("choice", "message"), [("5", "the log ends at position 4"), ("mirror", "remembers no cursor")]
)
async def test_a_position_outside_the_log_is_refused(setup: RelaySetup, choice: str, message: str) -> None:
    """One past the end of the log, or a mirror of another log: said plainly, and nothing is published."""
    await setup.append(*[LoggedEvent() for _ in range(4)])
    await setup.writer.execute(
        "INSERT INTO slotwire.relay_mirror SELECT 0, $1, 4, NULL, created_at FROM slotwire.log", uuid4()
    )
    async with leading_relay(setup.settings, cursor_from=choice) as (relay, _):
        with pytest.raises(ConfigurationError, match=message):
            await relay.step()
    assert await committed_records(setup.settings, 0) == []


async def test_a_valid_cursor_is_not_changed(setup: RelaySetup) -> None:
    """`--cursor-from beginning` left in a manifest does not publish the log again at each start."""
    await setup.append(LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    async with leading_relay(setup.settings, cursor_from="beginning") as (relay, _):
        assert await drain(relay) == 0
    assert len(await committed_records(setup.settings, 1)) == 1


@pytest.mark.parametrize("others", [FIRST_WINDOW - 1, FIRST_WINDOW, FIRST_WINDOW * WINDOW_GROWTH + 1])
async def test_an_old_cursor_is_found_behind_many_others(setup: RelaySetup, others: int) -> None:
    """A quiet shard's cursor is found however many records of other shards came after it."""
    await setup.append(LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
        cursor = relay.cursor
    producer = AIOKafkaProducer(bootstrap_servers=setup.settings.kafka.bootstrap_servers)
    await producer.start()
    topic = full_name(setup.settings.kafka, RELAY_CURSOR)
    for _ in range(others):
        await producer.send(topic, b"{}", b"1")
    await producer.stop()
    assert await read_cursor(setup.settings, 0) == cursor
    assert await read_cursor(setup.settings, 2) is None
    with pytest.raises(CursorMismatch, match="cannot be read"):
        await read_cursor(setup.settings, 1)
