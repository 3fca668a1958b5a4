"""What the doctor says of deliveries that nothing writes, and of partitions that nobody makes."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import RETENTION_WARNING, examine
from slotwire.ingest.operate.findings import Finding
from tests.support.management_api import EPOCH, write_deliveries, write_organization
from tests.support.public_endpoint import settings_for
from tests.support.writing import write_all


async def test_what_nothing_writes_is_a_warning(database: Database) -> None:
    """A minute without a writer, or half the limit in bytes: where the shard is, how much waits, and the runbook."""
    settings = settings_for(database)
    await write_organization(database, "ORG")
    await write_deliveries(database, "ORG", 1, outcome="accepted")  # received at EPOCH

    async def after(seconds: float, limit: int) -> Finding:
        changed = settings.model_copy(update={"http": settings.http.model_copy(update={"max_unwritten_bytes": limit})})
        clock = ManualClock(EPOCH + timedelta(seconds=seconds))
        return next(item for item in [each async for each in examine(changed, clock)] if item.check == "unwritten")

    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("UPDATE slotwire.deliveries SET total = 1000")
    finally:
        await owner.close()
    fresh, late = await after(59, 2_001), await after(60, 2_001)
    full = await after(1, 2_000)
    assert (fresh.state, late.state, full.state) == ("ok", "warning", "warning")
    assert fresh.message == "shard 0: written up to 0, 1000 bytes beyond it, the oldest accepted 59 s ago"
    assert "unwritten-growing.md" in late.remedy
    await write_all(settings)
    assert (await after(600, 2_000)).message == "shard 0: written up to 1"


async def test_days_that_cannot_go_are_a_warning(database: Database) -> None:
    """How far back each kind goes, of how many days; a day that is held is named with its reason."""
    settings = settings_for(database)
    await write_organization(database, "ORG")
    await write_deliveries(database, "ORG", 1, outcome="accepted")
    owner = await asyncpg.connect(database.owner_url)
    try:
        made = await owner.fetchval("SELECT created_at FROM slotwire.log")
    finally:
        await owner.close()
    for wanted, state, told in (
        (RetentionSettings(), "ok", "kept: bodies 9 days, results 9 days, events 9 days"),
        (RetentionSettings(bodies_days=10), "ok", "kept: bodies 9 days of 10, results 9 days, events 9 days"),
        (RetentionSettings(bodies_days=9), "warning", "days that cannot go: 1 of bodies (writing)"),
    ):
        changed = settings.model_copy(update={"retention": wanted})
        clock = ManualClock(made + timedelta(days=9))
        found = {item.check: item async for item in examine(changed, clock)}["retention"]
        assert (found.state, told in found.message) == (state, True), found
        assert ("retention-held.md" in found.remedy) == (state == "warning")


async def test_days_that_nobody_removes_are_a_warning(database: Database) -> None:
    """More of them than come up in an hour."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        made = await owner.fetchval("SELECT created_at FROM slotwire.log")
    finally:
        await owner.close()
    settings = settings_for(database).model_copy(update={"retention": RetentionSettings(bodies_days=7)})
    for days, state in ((6 + RETENTION_WARNING, "ok"), (7 + RETENTION_WARNING, "warning")):
        clock = ManualClock(made + timedelta(days=days))
        found = {item.check: item async for item in examine(settings, clock)}["retention"]
        assert (found.state, "control" in found.remedy) == (state, state == "warning")


async def test_partitions_that_nobody_makes_are_a_warning(database: Database) -> None:
    """With two days ahead all is well; with one, nothing has made them for days."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        made, last = await owner.fetchrow("SELECT created_at, last_range FROM slotwire.log") or (EPOCH, 0)
    finally:
        await owner.close()
    for ahead, state in ((2, "ok"), (1, "warning"), (-3, "warning")):
        clock = ManualClock(made + timedelta(days=last - ahead))
        found = {item.check: item async for item in examine(settings_for(database), clock)}["ranges"]
        assert found.state == state
        assert found.message == f"partitions are made for {max(ahead, 0)} days ahead"
