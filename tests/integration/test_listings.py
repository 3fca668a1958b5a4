"""Lists over a long and uneven history: whatever the filters, what is read is about what is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
import pytest

from slotwire.ingest.control import round_records
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp
from slotwire.ingest.control.changes import sweep_records
from slotwire.ingest.control.claims import claim_due
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import FOR_LISTS, Pool, create_pool, read_queries
from slotwire.ingest.foundation.settings import CalendlySettings, DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.booking_models import BookingQuery
from slotwire.ingest.operate.cursors import DEFAULT_PAGE
from slotwire.ingest.operate.key_lookup import KeyLookup
from slotwire.ingest.operate.models import DeliveryQuery, EventQuery
from slotwire.ingest.operate.quarantine_models import QuarantineQuery
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.connections_setup import NOW
from tests.support.history import BUSY, RARE, SILENT, SILENT_EVENTS, History, list_queries, write_history
from tests.support.past import LIVE, write_past
from tests.support.public_endpoint import settings_for
from tests.support.scripted_calendly import uncounted

HISTORY = History(events=50_000, organizations=200, days=6, changes=10_000, others=2_500)
MOST_READ = 20 * (DEFAULT_PAGE + 1)
CALLED_BY_NONE = CalendlyHttp(CalendlySettings(), uncounted(CalendlySettings()))
"""Rows that a page may read: a list over all types merges a page of each."""
READ = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables"
"""Rows of tables that the session has read and not told the statistics yet: those of functions too."""
MOST_OF_A_CHORE = 150
PAST_BEGAN = NOW - timedelta(days=400)
WANT = read_queries("slotwire.ingest.sql", "control.sql")["want"]
LATER, SOON = NOW + timedelta(days=1), NOW + timedelta(minutes=15)
CHORES: dict[str, tuple[tuple[object, ...], ...]] = {
    "subscriptions.sql": (
        ("claim_due", NOW, SOON),
        ("note_silence", [LIVE], NOW),
        ("count_findings",),
        ("rounds_state",),
        ("live_subscriptions", LIVE),
        ("losses", LIVE, NOW),
    ),
    "changes.sql": (("claim_sweep", NOW, SOON, LATER), ("sweeps_state",)),
    "connections.sql": (
        ("connections_due", NOW, PAST_BEGAN - timedelta(days=1), UUID(int=0), 100),
        ("connections_page", "gone-2", None, None, 51),
    ),
    "oauth.sql": (
        ("refreshes_due", NOW, PAST_BEGAN - timedelta(days=1), UUID(int=0), 100),
        ("forget_links", NOW, 1_000),
        ("name_taken", "gone-1", "gone 2"),
        ("subscriptions_through", UUID(int=2)),
    ),
    "holes.sql": (
        ("claim_hole", NOW, SOON, None),
        ("holes_page", None, None, None, False, 51),
        ("bookings_ahead", LIVE, NOW, 2_000, NOW),
        ("marks_known", LIVE, "https://api.calendly.com/scheduled_events/7"),
        ("marks_out_of_reach", LIVE, NOW, 20),
        ("neighbours", LIVE, NOW, 500, []),
    ),
    "observation.sql": (
        ("observe", NOW),
        ("count_holes",),
        ("last_deliveries", 10_000),
        ("forget_activity", PAST_BEGAN),
    ),
    "control.sql": (
        ("organizations_to_backfill",),
        ("organizations_page", None, None, False, 51),
        ("signing_keys_page", None, None, 51),
        ("signing_keys_of_org", None, None, 51, "gone-2"),
        ("prune", NOW, "inbox", 7, 10),
        ("prune_audit", NOW, 30, 10),
    ),
    "budget.sql": (("booking_plan", "user-7"),),
    "actions.sql": (("own_mark", LIVE, "caller", "invitee-7"), ("prune_actions", NOW, 30, 10)),
    "operate.sql": (("event_type_in_chain", LIVE, "user-7", "c81e728d9d4c2f636f067f89cc14862c", "type-7", 50),),
    "erasures.sql": (("late_erasures", NOW),),
}
"""What is run again and again or for one of many, by file and name, with what it is asked."""


@dataclass
class Explained:
    """A pool that explains each statement before it runs it."""

    pool: Pool
    read: list[tuple[int, str]] = field(default_factory=list)

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run a statement, and note how many rows it read."""
        self.read.append((await _read_by(self.pool, statement, *arguments), statement))
        return await self.pool.fetch(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)


async def _read_by(pool: Pool, statement: str, *arguments: object) -> int:
    """Count the rows that a statement reads, or the functions that it calls; what it changes is taken back."""
    async with pool.acquire() as connection:
        before, change = await connection.fetchval(READ), connection.transaction()
        await change.start()
        plan = await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, *arguments)
        within = int(await connection.fetchval(READ) - before)
        await change.rollback()
    scans = [node for node in _nodes(orjson.loads(plan)[0]["Plan"]) if node["Node Type"].endswith("Scan")]
    return max(within, sum(map(_rows_read, scans)))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _rows_read(scan: dict[str, Any]) -> int:
    removed = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    return int((scan["Actual Rows"] + removed) * scan["Actual Loops"])


async def test_no_list_reads_much_more_than_it_shows(database: Database) -> None:
    """Every list and filter, two pages deep, over 50,000 rows in six partitions."""
    await write_history(database.owner_url, HISTORY)
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test", planner=FOR_LISTS) as pool:
        explained = Explained(pool)
        asked = cast("Pool", explained)
        actions = Actions.on(
            asked, KeyLookup(asked, SystemClock()), settings_for(database), SystemClock(), CALLED_BY_NONE
        )
        slow = []
        for list_, query in list_queries():
            ask = getattr(actions, list_).list
            page = await ask(COMMAND_LINE, query)
            if page.next_cursor is not None:
                await ask(COMMAND_LINE, query.model_copy(update={"cursor": page.next_cursor}))
            slow += [(rows, query, statement) for rows, statement in explained.read if rows > MOST_READ]
            explained.read.clear()
    assert not slow, "\n".join(f"{rows} rows for {query!r}:\n{statement[:200]}" for rows, query, statement in slow)


async def test_no_chore_looks_through_what_is_over(database: Database) -> None:
    """3,000 removed organizations, ended subscriptions, revoked credentials and more: what is due is found beside them.

    What was put off, because there was nothing to do, is due again when there is.
    """
    await write_past(database.owner_url, PAST_BEGAN)
    slow = []
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test", planner=FOR_LISTS) as pool:
        await round_records.watch_organizations(pool, NOW)
        await sweep_records.gather(pool, NOW, timedelta(hours=1))
        for file, statements in CHORES.items():
            queries = read_queries("slotwire.ingest.sql", file)
            for name, *arguments in statements:
                read = await _read_by(pool, queries[str(name)], *arguments)
                slow += [f"{name} of {file}: {read} rows"] if read > MOST_OF_A_CHORE else []
        assert not slow, "\n".join(slow)

        # Added again: its round is due within a minute of what is wanted, its sweep at the next look.
        clock, again = ManualClock(NOW), NOW + timedelta(minutes=1)
        due, swept = await claim_due(pool, clock), await sweep_records.claim(pool, NOW, timedelta(days=1))
        assert due is not None
        assert swept is not None
        assert (due.claim.org, swept.org) == (LIVE, LIVE)
        assert await claim_due(pool, clock) is None
        await pool.execute("UPDATE slotwire.organizations SET ended_at = NULL WHERE org = 'gone-1'")
        await pool.execute(WANT, "gone-1", "organization", "", ["invitee.created"], None, NOW)
        due = await claim_due(pool, ManualClock(again))
        assert due is not None
        assert due.claim.org == "gone-1"
        await sweep_records.gather(pool, again, timedelta(hours=1))
        swept = await sweep_records.claim(pool, again, timedelta(days=1))
        assert swept is not None
        assert swept.org == "gone-1"
        assert swept.epoch > NOW.timestamp(), "beyond every epoch that its sweep had before"


async def test_the_writer_reads_no_move_that_does_not_concern_it(database: Database) -> None:
    """However many reschedules by actions an organization has had: those of the batch, and those still expected."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(
        "INSERT INTO slotwire.moves SELECT gen_random_uuid(), 'A', 'old-' || n, 'tag-' || n, 'type', $1, '', $1,"
        " nullif('new-' || n, 'new-1'), false FROM generate_series(1, 5000) AS n",
        NOW,
    )
    await owner.execute("VACUUM ANALYZE slotwire.moves")
    async with create_pool(database.url_of["relay"], DatabaseSettings(), application="test") as pool:
        explained = Explained(pool)
        read = read_queries("slotwire.ingest.sql", "log.sql")["read_moves"]
        found = await explained.fetch(read, ["A", "B"], ["old-2", "new-3"], ["tag-4"])
    await owner.close()
    assert sorted(row["tag"] for row in found) == [f"tag-{number}" for number in range(1, 5)]
    assert sum(rows for rows, _ in explained.read) < 100


async def test_lists_of_the_silent_are_whole(database: Database) -> None:
    """What is found by an index of its own is what is there: the silent organization's rows, in their order."""
    await write_history(database.owner_url, History(events=2_000, organizations=5, days=3, changes=500))
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test", planner=FOR_LISTS) as pool:
        actions = Actions.on(
            pool, KeyLookup(pool, SystemClock()), settings_for(database), SystemClock(), CALLED_BY_NONE
        )
        events = (await actions.events.list(COMMAND_LINE, EventQuery(organization=SILENT))).items
        assert [event.sequence for event in events] == list(range(1, SILENT_EVENTS + 1))
        assert (await actions.events.list(COMMAND_LINE, EventQuery(type=RARE))).items == events
        assert await actions.events.latest(COMMAND_LINE, EventQuery(organization=SILENT, type=RARE)) == events
        deliveries = (await actions.deliveries.list(COMMAND_LINE, DeliveryQuery(organization=SILENT))).items
        assert [item.id for item in deliveries] == [event.id for event in reversed(events)]
        for only in (DeliveryQuery(outcome="quarantined"), DeliveryQuery(organization=SILENT, outcome="quarantined")):
            assert (await actions.deliveries.list(COMMAND_LINE, only)).items == deliveries
        bookings = (await actions.bookings.list(COMMAND_LINE, BookingQuery(organization=SILENT))).items
        assert len(bookings) == SILENT_EVENTS // 2
        for some in (BookingQuery(state="canceled"), BookingQuery(state="canceled", waiting=True)):
            assert (await actions.bookings.list(COMMAND_LINE, some)).items == bookings
        kept = (await actions.quarantine.list(COMMAND_LINE, QuarantineQuery())).items
        assert [item.id for item in kept] == [item.id for item in deliveries]


async def test_deliveries_of_one_organization_begin_with_what_is_unwritten(database: Database) -> None:
    """The newest first: what is accepted and not yet written, then what is; page by page, each once."""
    await write_history(database.owner_url, History(events=200, organizations=5, days=1, changes=10))
    owner = await asyncpg.connect(database.owner_url)
    try:  # back to before the last fifty were written
        await owner.execute("DELETE FROM slotwire.results WHERE position > 150")
        await owner.execute("UPDATE slotwire.heads SET position = 150 WHERE position > 150")
    finally:
        await owner.close()
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test", planner=FOR_LISTS) as pool:
        actions, found, cursor = (
            Actions.on(pool, KeyLookup(pool, SystemClock()), settings_for(database), SystemClock(), CALLED_BY_NONE),
            list[Any](),
            None,
        )
        while True:
            query = DeliveryQuery(organization=BUSY, limit=7, cursor=cursor)
            page = await actions.deliveries.list(COMMAND_LINE, query)
            found += page.items
            if (cursor := page.next_cursor) is None:
                break
        everything = (await actions.deliveries.list(COMMAND_LINE, DeliveryQuery(limit=200))).items
        assert found == [item for item in everything if item.organization == BUSY]
        accepted = (await actions.deliveries.list(COMMAND_LINE, DeliveryQuery(outcome="accepted"))).items
        assert [item for item in accepted if item.organization == BUSY] == [i for i in found if i.outcome == "accepted"]
        assert {item.outcome for item in found} == {"accepted", "stored", "duplicate"}


async def test_a_list_that_ran_out_of_time_names_the_filters_left_out(database: Database) -> None:
    """The filters that were given are not named; where all were, there is nothing to add."""
    limits = DatabaseSettings(statement_timeout_seconds=0.5, lock_timeout_seconds=5)
    holder = await asyncpg.connect(database.owner_url)
    try:
        async with (
            create_pool(database.runtime_url, limits, application="test", planner=FOR_LISTS) as pool,
            holder.transaction(),
        ):
            await holder.execute("LOCK slotwire.events")
            actions = Actions.on(
                pool, KeyLookup(pool, SystemClock()), settings_for(database), SystemClock(), CALLED_BY_NONE
            )
            for query, remedy in (
                (EventQuery(after=1, organization=BUSY), "Add a filter: type, subject."),
                (
                    EventQuery(after=1, organization=BUSY, type=RARE, subject="x"),
                    "Ask again when Postgres has less to do.",
                ),
            ):
                with pytest.raises(DatabaseUnavailable, match="the list took too long") as refused:
                    await actions.events.list(COMMAND_LINE, query)
                assert refused.value.remedy == remedy
    finally:
        await holder.close()
