"""Retention: what is old and no longer needed goes, kind by kind, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from slotwire.ingest.control import ranges, retention
from slotwire.ingest.errors import ConfigurationError, DatabaseUnavailable
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings import load_settings
from slotwire.ingest.local.databases import Database
from tests.support.public_endpoint import invitee_body, new_invitee
from tests.support.ranges_setup import RANGE, RangesSetup, ranges_setup
from tests.support.writing import write_all

IN_ORDER = (
    "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')"
    " || replace(substr(gen_random_uuid()::text, 14), '-', ''))::uuid"
)
"""An id as the audit has them: it begins with the milliseconds since 1970."""
DAYS = 30
ALL = RetentionSettings(bodies_days=DAYS, results_days=DAYS, events_days=DAYS)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[RangesSetup]:
    """A log of today."""
    async with ranges_setup(database) as made:
        yield made


async def held(
    setup: RangesSetup, clock: ManualClock, only: RetentionSettings | None = None
) -> list[tuple[str, str | None]]:
    """Return the days that are kept longer, with their reasons."""
    found = await retention.held_ranges(setup.owner, only or ALL, clock.now())
    return [(each.kind, each.needed_for) for each in found if each.needed_for]


async def test_a_range_goes_once_it_is_old_settled_and_published(setup: RangesSetup) -> None:
    """Neither a day too early, nor unsettled, nor unpublished; then deliveries, results and events go."""
    now = datetime.now(UTC)
    clock = ManualClock(now + timedelta(days=DAYS))
    await setup.accept(invitee_body(), now)
    await ranges.run_once(setup.pool, clock)
    nothing, of_deliveries = {"bodies": 0, "results": 0, "events": 0}, ALL.model_copy(update={"events_days": None})
    assert (await retention.run_once(setup.pool, clock, of_deliveries)) == {"bodies": 0, "results": 0}
    assert await held(setup, clock, of_deliveries) == [("bodies", "writing"), ("results", "bodies")]
    assert await write_all(setup.settings, clock=ManualClock(now)) == 1
    assert (await retention.run_once(setup.pool, clock, ALL)) == {"bodies": 1, "results": 1, "events": 0}
    assert await held(setup, clock) == [("events", "publishing")]
    await setup.publish()
    early = ManualClock(now + timedelta(days=DAYS - 1))
    assert (await retention.run_once(setup.pool, early, ALL)) == nothing
    assert (await retention.run_once(setup.pool, clock, ALL)) == nothing | {"events": 1}
    for table in ("deliveries", "results", "events"):
        assert 0 not in await setup.partitions(table)
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.bookings") == 1


async def test_each_kind_has_its_own_time(setup: RangesSetup) -> None:
    """Bodies go before what became of them, and both before the log; what is unset stays."""
    now, later = datetime.now(UTC), ManualClock(datetime.now(UTC) + timedelta(days=20))
    await setup.accept(invitee_body(), now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    await ranges.run_once(setup.pool, later)
    only = RetentionSettings(bodies_days=7, results_days=30)
    assert (await retention.run_once(setup.pool, later, only)) == {"bodies": 8, "results": 0}
    assert min(await setup.partitions("deliveries")) == 19
    assert min(await setup.partitions("results")) == min(await setup.partitions("events")) == 0
    async with setup.owner.transaction():
        assert (await retention.retained(setup.owner, later.now())) == {"bodies": 1, "results": 20, "events": 20}


async def test_a_late_copy_of_what_was_dropped_is_a_copy(setup: RangesSetup) -> None:
    """Identities outlive the log: the same fact after its event was dropped makes no second event."""
    now, body = datetime.now(UTC), invitee_body(invitee=new_invitee())
    await setup.accept(body, now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    later = ManualClock(now + timedelta(days=DAYS))
    await ranges.run_once(setup.pool, later)
    await retention.run_once(setup.pool, later, ALL)
    assert 0 not in await setup.partitions("events")
    position = await setup.accept(body, later.now())
    assert position == DAYS * RANGE + 1
    assert await write_all(setup.settings, clock=later) == 0
    [result] = await setup.owner.fetch("SELECT outcome, position FROM slotwire.results")
    assert (result["outcome"], result["position"]) == ("duplicate", position)


async def test_a_clear_that_waits_keeps_its_delivery(setup: RangesSetup) -> None:
    """The body is needed when it has waited long enough; other days go past it."""
    now = datetime.now(UTC)
    await setup.accept(invitee_body(event="invitee_no_show.deleted", invitee=new_invitee()), now)
    await write_all(setup.settings, clock=ManualClock(now))
    later = ManualClock(now + timedelta(days=DAYS + 2))
    await ranges.run_once(setup.pool, later)
    assert (await retention.run_once(setup.pool, later, RetentionSettings(bodies_days=DAYS))) == {"bodies": 2}
    assert await held(setup, later, RetentionSettings(bodies_days=DAYS)) == [("bodies", "waiting")]
    await setup.owner.execute("UPDATE slotwire.bookings SET waits_since = NULL")
    assert (await retention.run_once(setup.pool, later, RetentionSettings(bodies_days=DAYS))) == {"bodies": 1}


async def test_what_is_parked_keeps_its_event(setup: RangesSetup) -> None:
    """The log is the only place that has it."""
    now, later = datetime.now(UTC), ManualClock(datetime.now(UTC) + timedelta(days=DAYS))
    await setup.accept(invitee_body(), now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    await setup.owner.execute(
        "INSERT INTO slotwire.parked_events SELECT event_id, shard, position, 'refused', now() FROM slotwire.events"
    )
    only = RetentionSettings(events_days=DAYS)
    assert (await retention.run_once(setup.pool, later, only)) == {"events": 0}
    assert await held(setup, later, only) == [("events", "parked")]
    await setup.owner.execute("DELETE FROM slotwire.parked_events")
    assert (await retention.run_once(setup.pool, later, only)) == {"events": 1}


async def test_rows_go_by_when_they_were_settled(setup: RangesSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the inbox, the quarantine and the audit: those past the limit, however many, and no other."""
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 3)
    now = datetime.now(UTC)
    await setup.owner.execute(
        "INSERT INTO slotwire.inbox SELECT 'agent', gen_random_uuid(), $1::timestamptz - make_interval(days => n)"
        " FROM generate_series(1, 40) AS n",
        now,
    )
    await setup.owner.execute(
        "INSERT INTO slotwire.quarantine (delivery_id, shard, position, org, origin, received_at, signed_at,"
        " content_encoding, body, reason, detail, created_at, state, settled_at)"
        " SELECT gen_random_uuid(), 0, n, 'ORG', 'webhook', at, at, '', '', 'not_json', '', at,"
        " CASE WHEN n % 2 = 0 THEN 'waiting' ELSE 'retried' END, CASE WHEN n % 2 = 1 THEN at END"
        " FROM generate_series(1, 40) AS n, LATERAL (SELECT $1::timestamptz - make_interval(days => n) AS at) AS t",
        now,
    )
    await setup.owner.execute(
        "WITH begun AS (INSERT INTO slotwire.audit (id, at, actor, role, action, result)"
        f" SELECT {IN_ORDER}, at, 'control', 'admin', 'a.b', 'started' FROM generate_series(1, 40) AS n,"
        " LATERAL (SELECT $1::timestamptz - make_interval(days => n) AS at) AS t RETURNING id, at)"
        " INSERT INTO slotwire.audit (id, begun, at, actor, role, action, result)"
        f" SELECT {IN_ORDER}, id, at, 'control', 'admin', 'a.b', 'done' FROM begun",
        now,
    )
    await setup.owner.execute(
        "INSERT INTO slotwire.moves SELECT gen_random_uuid(), 'ORG', 'old', NULL, 'type', $1, '',"
        " $1::timestamptz - make_interval(days => n) FROM generate_series(1, 40) AS n",
        now,
    )
    only = RetentionSettings(inbox_days=30, quarantine_days=30, audit_days=30, actions_days=30)
    assert (await retention.run_once(setup.pool, ManualClock(now), only)) == {
        "inbox": 10,
        "quarantine": 5,
        "audit": 20,
        "actions": 10,
    }
    assert await setup.owner.fetchval("SELECT min(done_at) FROM slotwire.inbox") == now - timedelta(days=30)
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.quarantine WHERE state = 'waiting'") == 20
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.audit") == 60


async def test_whoever_calls_it_cannot_remove_fresh_traces(setup: RangesSetup) -> None:
    """The audit goes by the server's clock too: a clock that is put forward removes nothing of the last 30 days."""
    now = datetime.now(UTC)
    await setup.owner.execute(
        "INSERT INTO slotwire.audit (id, at, actor, role, action, result)"
        " VALUES (gen_random_uuid(), $1, 'control', 'admin', 'a.b', 'started')",
        now,
    )
    future = ManualClock(now + timedelta(days=400))
    assert (await retention.run_once(setup.pool, future, RetentionSettings(audit_days=30))) == {"audit": 0}
    for statement in (
        "SELECT slotwire.prune_audit(now(), 29, 10)",
        "SELECT slotwire.prune(now(), 'inbox', 6, 10)",
        "SELECT slotwire.prune(now(), 'audit', 7, 10)",
        "SELECT slotwire.drop_range(now(), 'deliveries', 6)",
        "SELECT slotwire.drop_range(now(), 'identities', 7)",
    ):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await setup.pool.fetchval(statement)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RETENTION__BODIES_DAYS": "6"}, "SLOTWIRE_RETENTION__BODIES_DAYS"),
        ({"RETENTION__AUDIT_DAYS": "29"}, "SLOTWIRE_RETENTION__AUDIT_DAYS"),
        ({"RETENTION__RESULTS_DAYS": "30"}, "SLOTWIRE_RETENTION__RESULTS_DAYS must be at least"),
        (
            {"RETENTION__RESULTS_DAYS": "7", "RETENTION__BODIES_DAYS": "8"},
            "must be at least SLOTWIRE_RETENTION__BODIES_DAYS",
        ),
        (
            {"RETENTION__INBOX_DAYS": "29"},
            "SLOTWIRE_RETENTION__INBOX_DAYS is 29, and the topics keep records for 30 days",
        ),
        ({"RETENTION__EVENTS_DAYS": "29"}, "give it at least 30, or shorten SLOTWIRE_KAFKA__RETENTION_HOURS"),
        ({"RETENTION__INBOX_DAYS": "7", "KAFKA__RETENTION_HOURS": "169"}, "the topics keep records for 8 days"),
    ],
)
def test_a_time_that_is_too_short_is_refused(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At start, naming the setting and what it must be."""
    for name, value in environment.items():
        monkeypatch.setenv(f"SLOTWIRE_{name}", value)
    with pytest.raises(ConfigurationError, match=told):
        load_settings()


def test_the_shortest_times_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each limit."""
    monkeypatch.setenv("SLOTWIRE_KAFKA__RETENTION_HOURS", "168")
    for kind in ("BODIES", "RESULTS", "EVENTS", "INBOX", "QUARANTINE"):
        monkeypatch.setenv(f"SLOTWIRE_RETENTION__{kind}_DAYS", "7")
    monkeypatch.setenv("SLOTWIRE_RETENTION__AUDIT_DAYS", "30")
    assert dict(load_settings().retention.kept()) == {
        "bodies": 7,
        "results": 7,
        "events": 7,
        "inbox": 7,
        "quarantine": 7,
        "audit": 30,
    }


async def test_a_reader_of_the_table_is_not_queued_behind(setup: RangesSetup) -> None:
    """While a long transaction reads the log, dropping gives up at once and holds up nobody; it succeeds afterwards."""
    now = datetime.now(UTC)
    await setup.accept(invitee_body(), now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    clock = ManualClock(now + timedelta(days=DAYS))
    async with setup.owner.transaction():
        await setup.owner.fetch("SELECT count(*) FROM slotwire.events")
        with pytest.raises(DatabaseUnavailable, match="55P03"):
            await retention.run_once(setup.pool, clock, RetentionSettings(events_days=DAYS))
    assert (await retention.run_once(setup.pool, clock, RetentionSettings(events_days=DAYS))) == {"events": 1}
