"""`slotwire doctor` says where Calendly sends and nothing comes through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import examine
from slotwire.ingest.operate.findings import Finding
from slotwire.schemas.ids import last_segment
from tests.support.owner import owner_rows
from tests.support.public_endpoint import make_hook, settings_for


async def asked(settings: Settings) -> Finding:
    """Examine what `control` needs, and return this finding."""
    found = {each.check: each async for each in examine(settings, SystemClock(), process="control")}
    return found["deliveries"]


async def test_subscriptions_with_nothing_but_failures_are_named(database: Database) -> None:
    """Where Calendly retries and nothing came since, its organization is named; not where others come through."""
    settings = settings_for(database)
    hooks = [await make_hook(settings, database) for _ in range(2)]
    failing = last_segment(hooks[0].organization)
    since = datetime.now(UTC) - timedelta(hours=1)
    await owner_rows(
        database, "UPDATE slotwire.subscriptions SET retrying_since = $1 WHERE org = $2 RETURNING id", since, failing
    )
    found = await asked(settings)
    assert (found.state, found.remedy.rpartition("docs/")[2][:30]) == ("warning", "runbooks/deliveries-refused.md")
    assert found.message.startswith("every delivery fails to 1 of 2 active subscriptions, since ")
    assert found.message.endswith(f"Z: {failing}")
    await owner_rows(
        database,
        "INSERT INTO slotwire.hook_activity (subscription_id, org, first_at, last_at)"
        " SELECT id, org, $1, $2 FROM slotwire.subscriptions RETURNING org",
        since - timedelta(days=1),
        since + timedelta(minutes=1),
    )
    assert (await asked(settings)).state == "ok"
