"""A defect that one organization's data brings out: it ends no chore for the others, and its text is in no log."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from structlog.testing import capture_logs

from slotwire.ingest.control import backfill_rounds, connection_checks, hole_rounds, oauth_refresh, rounds
from slotwire.ingest.control.actions import action_rounds
from slotwire.ingest.control.changes import sweep_rounds
from slotwire.ingest.control.changes.sweep_records import SweepClaim
from slotwire.ingest.control.claims import OrganizationClaim
from slotwire.ingest.control.hole_records import HoleClaim
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.changes_settings import ChangesSettings
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.ids import OrganizationUri
from tests.support.connections_setup import NOW

ADDRESS = "jane@example.org"
URI = OrganizationUri("https://api.calendly.com/organizations/A")


class Broken:
    """A part of ours that fails whatever it is asked, and quotes a person."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError(ADDRESS)


async def test_a_defect_ends_no_chore(database: Database) -> None:
    """Each organization's own part of a round fails for itself; the log says where, and not what of whom."""
    broken: Any = Broken()
    async with create_pool(database.url_of["control"], DatabaseSettings(pool_size=1), application="test") as pool:
        work = Organizations(pool, ManualClock(NOW), connections=broken, subscriptions=broken)
        hole = HoleClaim(uuid4(), "A", URI, 0, 1, 0, NOW, NOW)
        sweep = SweepClaim("A", URI, 0, 1, NOW, NOW + timedelta(days=1), 0)
        refresher = oauth_refresh.Refresher(pool, store=broken, client=broken, owner="test")
        due: Any = SimpleNamespace(to_backfill=lambda: _listed("A"), connections=broken)
        with capture_logs() as logs:
            outcomes = (
                await rounds.make_round(work, OrganizationClaim("A", 1, 0), URI),
                await hole_rounds.fill(work, hole, ReconcileSettings()),
                await sweep_rounds.sweep(work, sweep, ChangesSettings()),
                (await backfill_rounds.run_once(due))["A"],
                await refresher.refresh(uuid4()),
            )
            assert await connection_checks._check(broken, uuid4()) is False
            assert await action_rounds._one(broken) == []
    assert {str(each) for each in outcomes} == {"failed"}
    defects = [line for line in logs if line["log_level"] == "error"]
    assert [line["event"].removesuffix("_defect") for line in defects] == [
        *("round", "fetch", "sweep", "backfill", "refresh", "check", "action"),
    ]
    assert {line["error"] for line in defects} == {"ValueError"}
    assert all("test_defects.py:" in line["where"][-1] for line in defects)
    assert ADDRESS not in str(logs)


async def _listed(*orgs: str) -> tuple[str, ...]:
    return orgs
