"""What the doctor says of organizations whose subscriptions are not as wanted."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import examine
from slotwire.ingest.operate.findings import MAX_NAMED, Finding
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import make_hook, settings_for


async def findings(settings: Settings) -> dict[str, Finding]:
    """Examine, and return the findings by what was looked at."""
    return {found.check: found async for found in examine(settings, SystemClock())}


async def test_wanted_subscriptions_that_nothing_serves_are_reported(database: Database) -> None:
    """What is wanted and not there is counted and its organization named, until a subscription does just that."""
    settings = settings_for(database)
    orgs = [last_segment((await make_hook(settings, database)).organization) for _ in range(MAX_NAMED + 1)]
    owner = await asyncpg.connect(database.owner_url)
    insert_wanted = "INSERT INTO slotwire.wanted_subscriptions VALUES ($1, $2, $3, $4, $5, '2026-01-01')"
    try:
        await owner.execute(
            insert_wanted, orgs[0], "organization", "", ["invitee.created"], None
        )  # as make_hook made it
        served = (await findings(settings))["organizations"]
        await owner.execute("UPDATE slotwire.organizations SET backfill_from = '2026-01-01' WHERE org = $1", orgs[0])
        for org in orgs[1:3]:
            await owner.execute(insert_wanted, org, "organization", "", ["invitee.created", "invitee.canceled"], None)
        await owner.execute(
            insert_wanted, orgs[0], "user", "https://api.calendly.com/users/U", ["meeting_recap.created"], None
        )
        some = (await findings(settings))["organizations"]
        for org in orgs[3:]:
            await owner.execute(insert_wanted, org, "organization", "", ["invitee.created"], 60)
        many = (await findings(settings))["organizations"]
    finally:
        await owner.close()
    assert (served.state, served.message) == ("ok", "6 active, 1 wanted subscriptions")
    assert some.state == "warning"
    assert some.message.startswith("6 active, 4 wanted subscriptions; 1 still to be backfilled; 3 wanted are missing")
    assert set(some.message.rpartition(": ")[2].split(", ")) == set(orgs[:3])
    assert "`slotwire control` tries every 60 s" in some.remedy
    assert many.message.endswith(", …")
    assert len(many.message.rpartition(": ")[2].split(", ")) == MAX_NAMED + 1


async def test_a_wanted_subscription_without_a_connection_is_reported(database: Database) -> None:
    """An organization of which something is wanted, without a connection that can act, is named with what to do."""
    settings = settings_for(database)
    org = last_segment((await make_hook(settings, database)).organization)
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("UPDATE slotwire.subscriptions SET state = 'ended', ended_at = '2026-01-01'")
        before = (await findings(settings))["connections"]
        await owner.execute(
            "INSERT INTO slotwire.wanted_subscriptions VALUES ($1, 'organization', '', '{invitee.created}', NULL, $2)",
            org,
            datetime.now(UTC),
        )
        after = (await findings(settings))["connections"]
    finally:
        await owner.close()
    assert before.state == "ok"
    assert (after.state, after.message) == ("warning", f"none yet; nothing can be done at Calendly for: {org}")
    assert "slotwire connections add --token-file FILE" in after.remedy
