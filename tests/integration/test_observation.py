"""What `control` reads in Postgres for its metrics: counted once, shown by one process, and gone when it is too old."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.control import activity, observation
from slotwire.ingest.control.observation import OTHERS, Observer
from slotwire.ingest.control.ranges import run_once as make_ranges
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.support.public_endpoint import invitee_body, make_hook, settings_for
from tests.support.writing import write_all

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
"""A Monday."""
HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)


@dataclass(frozen=True)
class Setup:
    """A log made five weeks ago, and what two `control` have."""

    pool: Pool
    owner: asyncpg.Connection[asyncpg.Record]
    clock: ManualClock

    def observer(self, organizations: int = 200) -> Observer:
        """Make what one process runs."""
        return Observer(self.pool, self.clock, MetricsSettings(organizations=organizations))

    async def organization(self, org: str, *, at: datetime) -> None:
        """Make an organization with a subscription that has been active since then."""
        uri = f"https://api.calendly.com/organizations/{org}"
        await self.owner.execute(
            "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ($1, $2, 0, $3)", org, uri, at
        )
        await self.owner.execute(
            "INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, events, state, created_at)"
            " VALUES (gen_random_uuid(), $1, $1, 'organization', '{invitee.created}', 'active', $2)",
            *(org, at),
        )

    async def deliver(self, org: str, times: Sequence[datetime], *, origin: str = "webhook") -> None:
        """Let deliveries in that came at these times."""
        rows = [AcceptRow(uuid4(), org, None, origin, at, at, False, "", None, None, b"{}") for at in times]
        await accept(self.owner, 0, rows, now=self.clock.now(), seconds=20)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """An empty log."""
    settings = settings_for(database)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("UPDATE slotwire.log SET created_at = $1", NOW - 5 * WEEK)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        yield Setup(pool, owner, ManualClock(NOW))
    await owner.close()


@pytest.fixture(autouse=True)
def _nothing_shown() -> Iterator[None]:
    yield
    for readings in observation._SHOWN:
        readings.clear()


def shown(name: str, **labels: str) -> float | None:
    """Read what is shown."""
    return REGISTRY.get_sample_value(f"slotwire_{name}", labels)


def office_hours(weeks: int) -> list[datetime]:
    """Return a time in each office hour of so many weeks before now."""
    monday = NOW.replace(hour=0)
    days = [monday - week * WEEK + timedelta(days=day) for week in range(1, weeks + 1) for day in range(5)]
    return [day + timedelta(hours=hour, minutes=59) for day in days for hour in range(9, 17)]


async def test_a_silence_is_compared_with_the_organizations_own_weeks(setup: Setup) -> None:
    """On Monday by three an organization with office hours is unusually silent; one that is young, or idle, is not."""
    for org, weeks in (("office", 4), ("young", 1), ("idle", 0)):
        await setup.organization(org, at=NOW - 5 * WEEK)
        if weeks:
            await setup.deliver(org, office_hours(weeks))
    await setup.deliver("idle", [NOW - WEEK], origin="backfill")
    observing = setup.observer()
    assert await observing.run_once()
    assert shown("silence_probability", organization="office") == pytest.approx(1, abs=0.05)
    setup.clock.advance(timedelta(hours=6))
    assert await observing.run_once()
    assert 0 < (shown("silence_probability", organization="office") or 0) < observation.UNUSUAL
    assert shown("organizations_silent") == 1
    assert shown("silence_probability", organization="young") is None
    assert shown("silence_probability", organization="idle") is None
    friday = NOW.replace(hour=16, minute=59) - timedelta(days=3)
    assert shown("last_delivery_timestamp_seconds", organization="office") == friday.timestamp()
    assert shown("last_delivery_timestamp_seconds", organization="idle") == (NOW - 5 * WEEK).timestamp()
    await setup.deliver("office", [setup.clock.now()])
    assert await observing.run_once()
    assert shown("silence_probability", organization="office") == 1
    assert shown("organizations_silent") == 0


async def test_a_silence_does_not_become_usual_by_lasting(setup: Setup) -> None:
    """After three weeks it is as unusual as ever; after four the organization counts as idle, and no alarm stays."""
    await setup.organization("office", at=NOW - 5 * WEEK)
    await setup.deliver("office", office_hours(4))
    setup.clock.advance(3 * WEEK)
    assert await setup.observer().run_once()
    assert (shown("silence_probability", organization="office") or 0) < 1e-50
    setup.clock.advance(WEEK)
    assert await setup.observer().run_once()
    assert shown("silence_probability", organization="office") is None
    assert shown("last_delivery_timestamp_seconds", organization="office") is not None


async def test_each_delivery_is_counted_once(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages and processes count, each webhook counts once, in its hour, and nothing fetched counts."""
    await setup.organization("one", at=NOW - WEEK)
    times = [NOW - minutes * timedelta(minutes=1) for minutes in range(150)]
    await setup.deliver("one", times)
    await setup.deliver("one", [NOW], origin="reconcile")
    monkeypatch.setattr(activity, "PAGE_DELIVERIES", 50)
    first, second = setup.observer(), setup.observer()
    for _ in range(2):
        await first.run_once()
    setup.clock.advance(timedelta(minutes=1))
    await second.run_once()
    await setup.deliver("one", [NOW])
    await second.run_once()
    rows = await setup.owner.fetch("SELECT hour, deliveries, last_at FROM slotwire.activity ORDER BY hour")
    assert [(row["hour"], row["deliveries"]) for row in rows] == [
        (NOW - 3 * HOUR, 29),
        (NOW - 2 * HOUR, 60),
        (NOW - HOUR, 60),
        (NOW, 2),
    ]
    assert rows[-1]["last_at"] == NOW


async def test_old_hours_are_forgotten_but_the_last(setup: Setup) -> None:
    """What is older than is looked at goes; the hour of an organization's last webhook stays."""
    await setup.organization("old", at=NOW - 5 * WEEK)
    await setup.deliver("old", [NOW - 11 * WEEK, NOW - 10 * WEEK])
    await setup.observer().run_once()
    assert await setup.owner.fetchval("SELECT array_agg(hour) FROM slotwire.activity") == [NOW - 10 * WEEK]
    last = (NOW - 10 * WEEK).timestamp()
    assert shown("last_delivery_timestamp_seconds", organization="old") == last


async def test_organizations_beyond_the_setting_are_shown_as_one(setup: Setup) -> None:
    """At the setting each has its own series; past it the others share one, with the least usual of their silences."""
    for number, org in enumerate(("first", "second", "third")):
        await setup.organization(org, at=NOW - 5 * WEEK + number * HOUR)
    await setup.deliver("second", office_hours(4))
    await setup.deliver("third", [*office_hours(4), NOW + 5 * HOUR])
    setup.clock.advance(timedelta(hours=6))
    assert await setup.observer(organizations=3).run_once()
    each = {org: shown("last_delivery_timestamp_seconds", organization=org) for org in ("first", "second", "third")}
    assert None not in each.values()
    assert shown("last_delivery_timestamp_seconds", organization=OTHERS) is None
    setup.clock.advance(timedelta(minutes=1))
    other = setup.observer(organizations=1)
    assert await other.run_once()
    assert shown("last_delivery_timestamp_seconds", organization="first") == each["first"]
    assert shown("last_delivery_timestamp_seconds", organization="second") is None
    assert shown("last_delivery_timestamp_seconds", organization=OTHERS) == each["third"]
    assert (shown("silence_probability", organization=OTHERS) or 1) < observation.UNUSUAL
    assert shown("organizations_silent") == 1


async def test_one_of_two_processes_shows(setup: Setup) -> None:
    """The second shows nothing while the first does, and takes over when that leaves or is not heard of for long."""
    first, second = setup.observer(), setup.observer()
    assert [await first.run_once(), await second.run_once()] == [True, False]
    assert shown("parked_events") is None  # both are in this process: who may not show clears what is shown
    setup.clock.advance(timedelta(seconds=45))
    assert [await second.run_once(), await first.run_once()] == [True, False]
    await second._leave()
    assert [await first.run_once(), await second.run_once()] == [True, False]


async def test_what_waits_is_shown_from_the_database(setup: Setup) -> None:
    """Parked events and the quarantine are counted where they wait, so that no restart clears the alarm."""
    settings_now = datetime.now(UTC)
    await setup.organization("one", at=NOW)
    await setup.deliver("one", [settings_now, settings_now])
    await setup.owner.execute(
        "INSERT INTO slotwire.parked_events (event_id, shard, position, reason, parked_at)"
        " VALUES (gen_random_uuid(), 0, 1, 'message_size_too_large', now())"
    )
    await setup.owner.execute(
        "INSERT INTO slotwire.quarantine (delivery_id, shard, position, org, origin, received_at, signed_at,"
        " content_encoding, body, reason, detail, created_at) SELECT id, shard, position, org, origin, received_at,"
        " signed_at, content_encoding, body, 'not_json', '', now() FROM slotwire.deliveries"
    )
    for _ in range(2):  # a second process, as after a restart
        assert await setup.observer().run_once()
        assert shown("parked_events") == 1
        assert shown("quarantine_waiting", reason="not_json") == 2
        setup.clock.advance(timedelta(minutes=1))
    await setup.owner.execute("UPDATE slotwire.quarantine SET state = 'discarded', note = 'x', settled_at = now()")
    assert await setup.observer().run_once()
    assert shown("quarantine_waiting", reason="not_json") is None


async def test_what_runs_out_is_shown(setup: Setup) -> None:
    """The first token's end, the ranges ahead as `control` has made them, and the server's connections and limit."""
    await setup.organization("one", at=NOW)
    for number, (state, days) in enumerate((("active", 30), ("expiring", 3), ("active", None))):
        await setup.owner.execute(
            "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, expires_at, state,"
            " reason, checked_at, created_at, changed_at)"
            " VALUES (gen_random_uuid(), 'one', 'personal_access_token', $1, gen_random_uuid(), '', $2, $3, $4,"
            " now(), now(), now())",
            str(number),
            None if days is None else NOW + timedelta(days=days),
            state,
            None if state == "active" else "expires",
        )
    ahead = await make_ranges(setup.pool, setup.clock)
    assert await setup.observer().run_once()
    assert shown("token_expiry_timestamp_seconds") == (NOW + timedelta(days=3)).timestamp()
    assert [shown("connections", state=state) for state in ("active", "expiring", "revoked")] == [2, 1, 0]
    assert shown("ranges_ahead") == ahead > 2
    limit = await setup.owner.fetchval("SELECT current_setting('max_connections')::int")
    assert limit > (shown("postgres_connections_limit") or 0) > limit - 20
    assert (shown("postgres_connections") or 0) >= 2


async def test_a_webhook_and_what_the_writer_makes_of_it(database: Database) -> None:
    """A delivery by the public way counts for its organization, whether the writer has seen it or not."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    org = hook.organization.rpartition("/")[2]
    owner = await asyncpg.connect(database.owner_url)
    now = datetime.now(UTC)
    row = AcceptRow(uuid4(), org, None, "webhook", now, now, False, "", None, None, invitee_body())
    await accept(owner, 0, [row], now=now, seconds=20)
    await owner.close()
    await write_all(settings)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        await Observer(pool, ManualClock(now), MetricsSettings()).run_once()
    assert shown("last_delivery_timestamp_seconds", organization=org) == pytest.approx(now.timestamp(), abs=1e-3)
