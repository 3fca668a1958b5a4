"""The audit of credential uses: who did what at Calendly as whom, whatever happens to the process that does it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.cli.listing import csv_cell
from slotwire.ingest.control import ranges, retention
from slotwire.ingest.control.calendly_client import invitee_no_shows, users
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, open_calendly
from slotwire.ingest.control.calendly_client.use_log import PostgresUseLog
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.errors import CalendlyError
from slotwire.ingest.foundation.clock import ManualClock, SystemClock, ordered_id
from slotwire.ingest.foundation.operation_table import operation_of
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import uses
from slotwire.ingest.operate.uses import UseFilter
from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.model import uri
from tests.support.command import environment, slotwire
from tests.support.connections_setup import NOW, ONCE, ConnectionsSetup, connections_setup

MAIL, REASON = "Ada.Lovelace@example.com", "the-reason-that-nobody-keeps"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


def other_process(setup: ConnectionsSetup) -> tuple[CalendlyHttp, Connections]:
    """Make what another process would have, which writes the ends of its calls only when it closes."""
    uses_log = PostgresUseLog(setup.pool, setup.clock, lambda closing, _: closing.wait())
    budgets = Budgets(setup.pool, setup.clock, setup.settings.calendly, uses=uses_log)
    calendly = CalendlyHttp(setup.settings.calendly, budgets)
    return calendly, Connections.from_settings(setup.settings, setup.pool, setup.clock, calendly, retries=ONCE)


async def test_the_audit_says_which_user_in_which_tenant_took_which_action(setup: ConnectionsSetup) -> None:
    """A mixed run of two tenants, with refusals: the audit has each call that the simulator had, and no other."""
    owner, member = [(await setup.connections.add(setup.token(place))).connection for place in (0, 2)]
    other = (await setup.connections.add(setup.token(number=1))).connection
    [invitee] = setup.running.engine.book(BookingDetails(organization=setup.org())).invitees
    behalf = Behalf("key-1", "reminders", uuid4())
    async with setup.connections.acting(owner, behalf=behalf) as calendly:
        await invitee_no_shows.create(calendly, invitee.uri)
        for _ in range(3):
            await users.me(calendly)
    async with setup.connections.acting(member) as calendly:
        with pytest.raises(CalendlyError):
            await calendly.exchange("GET", "/groups", doing="listing", query={"organization": member.organization})
    await setup.revoke(setup.token(number=1))
    with pytest.raises(CalendlyError):
        async with setup.connections.acting(other):
            pass
    await setup.calendly.aclose()

    told: Counter[tuple[object, ...]] = Counter()
    for call in setup.running.gate.calls.listing(0, 1_000, lambda _: True):
        action = operation_of(call.method, call.path)
        assert action is not None
        assert call.user is not None
        told[uri("users", call.user), call.organization, action.name, call.status] += 1
    ours: Counter[tuple[object, ...]] = Counter()
    asked = Counter[str]()
    for row in await uses.read_page(setup.pool, UseFilter(), before=None, limit=1_000):
        assert row.result in {"done", "refused"}, row
        if row.user is None:
            asked[row.action] += row.times  # whose token it is was only being asked
        else:
            ours[row.user, row.org, row.action, row.status] += row.times
    assert asked == Counter({"get-current-user": 3})
    for place, number in ((0, 0), (2, 0), (0, 1)):
        ours[uri("users", setup.users(number)[place]), setup.org(number), "get-current-user", 200] += 1
    assert ours == told

    [mark] = await uses.read_page(setup.pool, UseFilter(action="create-invitee-no-show"), before=None, limit=9)
    assert (mark.user, mark.org, mark.connection) == (owner.user_uri, owner.org, owner.id)
    assert (mark.target, mark.actor, mark.agent, mark.event) == (invitee.uri, "key-1", "reminders", behalf.event)
    for only in (UseFilter(agent="reminders"), UseFilter(event=behalf.event), UseFilter(target=invitee.uri)):
        assert mark in await uses.read_page(setup.pool, only, before=None, limit=9)
    assert await uses.read_page(setup.pool, UseFilter(org=other.org, agent="reminders"), before=None, limit=9) == ()


async def test_a_crash_leaves_a_beginning_that_says_so(setup: ConnectionsSetup) -> None:
    """A process that is gone within a second of its calls: turns without calls, and a change that has no end."""
    owner = (await setup.connections.add(setup.token())).connection
    [invitee] = setup.running.engine.book(BookingDetails(organization=setup.org())).invitees
    await setup.calendly.aclose()
    calendly, connections = other_process(setup)
    async with connections.acting(owner) as acting:
        await invitee_no_shows.create(acting, invitee.uri)
        await acting.exchange("GET", f"/users/{owner.user_uri.rpartition('/')[2]}", doing="reading")
    found = await uses.read_page(setup.pool, UseFilter(user=owner.user_uri, since=NOW), before=None, limit=50)
    begun = [row for row in found if row.result in {"leased", "started"}]
    assert {row.action for row in begun} == {"lease", "create-invitee-no-show"}
    assert sum(row.times for row in begun if row.action == "lease") >= 3
    assert all(row.org == owner.org for row in begun)
    assert not [row for row in found if row.action == "get-user"], "the reading call is in no row yet"
    await calendly.aclose()
    found = await uses.read_page(setup.pool, UseFilter(user=owner.user_uri, since=NOW), before=None, limit=50)
    assert not [row for row in found if row.result in {"leased", "started"}]
    assert [row.result for row in found if row.action in {"get-user", "create-invitee-no-show"}] == ["done", "done"]


async def test_uris_and_hashes_only(setup: ConnectionsSetup) -> None:
    """Mail addresses, reasons and what was searched for are in no row; who looks for an address finds its calls."""
    owner = (await setup.connections.add(setup.token())).connection
    event = setup.running.engine.book(BookingDetails(organization=setup.org())).event
    assert event is not None
    async with setup.connections.acting(owner) as calendly:
        await calendly.exchange(
            "GET",
            f"/scheduled_events/{event.id}/invitees",
            doing="searching",
            query={"email": MAIL, "sort": "created_at:asc"},
        )
        await calendly.exchange(
            "POST",
            f"/scheduled_events/{event.id}/cancellation",
            doing="canceling",
            body={"reason": f"{REASON}, {MAIL}"},
        )
    await setup.calendly.aclose()
    whole = json.dumps(await setup.rows("SELECT to_jsonb(u)::text AS row FROM slotwire.uses u")).lower()
    for kept_out in (MAIL, "ada.lovelace", "lovelace@", REASON, "created_at:asc", setup.token().get_secret_value()):
        assert kept_out.lower() not in whole
    marks = setup.connections.vault.marks(f" {MAIL.upper()} ")
    found = await uses.read_page(setup.pool, UseFilter(people=marks), before=None, limit=9)
    assert {(row.action, row.target) for row in found} == {
        ("list-event-invitees", event.uri),
        ("create-scheduled-event-cancellation", event.uri),
    }
    assert (
        await uses.read_page(
            setup.pool, UseFilter(people=setup.connections.vault.marks("b@example.org")), before=None, limit=9
        )
        == ()
    )


async def test_what_is_old_goes_and_the_rest_says_how_it_grows(setup: ConnectionsSetup) -> None:
    """Whole days go by retention, never the last 30; a page reads across days and the rest."""
    many = "SELECT count(*) AS rows FROM slotwire.uses"
    day = "INSERT INTO slotwire.uses (id, at, action, actor, result) VALUES ($1, $2, 'get-user', 'control', 'done')"
    real, clock = datetime.now(UTC), ManualClock(datetime.now(UTC))
    for days in (400, 40, 31, 5):
        await setup.rows("SELECT slotwire.make_use_days($1, 0)", real - timedelta(days=days))
    written = [real - timedelta(days=days) for days in (400, 90, 40, 31, 5, 0)]  # for the second there is no partition
    for at in written:
        await setup.tamper(day, ordered_id(at), at)
    [rest] = await setup.rows("SELECT count(*) AS rows FROM slotwire.uses_rest")
    assert rest["rows"] == 1
    page = await uses.read_page(setup.pool, UseFilter(), before=None, limit=100)
    assert [row.at for row in page] == sorted(written, reverse=True)
    grown = await uses.growth(setup.pool, real)
    assert (grown.day, grown.days) == (1, 8 + 9)
    assert grown.bytes > 0
    settings = RetentionSettings(uses_days=30)
    # Two partitions of 400 days ago (its own and the day before's), of 40 and of 31, and a row by itself.
    assert (await retention.run_once(setup.pool, clock, settings))["uses"] == 2 + 2 + 2 + 1
    page = await uses.read_page(setup.pool, UseFilter(), before=None, limit=100)
    assert [row.at for row in page] == [real, real - timedelta(days=5)]
    clock.advance(timedelta(days=400))  # whoever moves the clock removes nothing more: the server's counts, too
    assert (await retention.run_once(setup.pool, clock, settings))["uses"] == 0
    assert await setup.rows(many) == [{"rows": 2}]


async def test_days_are_made_ahead_and_an_end_comes_once(setup: ConnectionsSetup) -> None:
    """A day that something is among the rest of stays there; else it has a partition, where a second end is refused."""
    before = await setup.rows("SELECT slotwire.use_days() AS day")
    late = max(row["day"] for row in before) + timedelta(days=3)
    at = datetime(late.year, late.month, late.day, 12, tzinfo=UTC)
    begun = ordered_id(at)
    row = (
        "INSERT INTO slotwire.uses (id, begun, at, action, actor, result)"
        " VALUES ($1, $2, $3, 'get-user', 'control', 'done')"
    )
    await setup.tamper(row, begun, None, at)
    assert await ranges.run_once(setup.pool, ManualClock(at - timedelta(days=3))) >= 7
    made = {row["day"] for row in await setup.rows("SELECT slotwire.use_days() AS day")}
    assert late not in made
    assert {late - timedelta(days=1), late + timedelta(days=1)} <= made
    for number, when in enumerate((at, at + timedelta(days=1))):
        await setup.tamper(row, ordered_id(when), begun, when)
        with pytest.raises(asyncpg.UniqueViolationError, match="one_end"):
            await setup.tamper(row, ordered_id(when), begun, when)
        begun = ordered_id(at + timedelta(hours=number))


async def test_it_is_exported(setup: ConnectionsSetup) -> None:
    """The command prints JSON lines, and CSV in which no cell is a formula."""
    async with open_calendly(
        setup.settings.calendly, Budgets(setup.pool, SystemClock(), setup.settings.calendly)
    ) as calendly:
        connections = Connections.from_settings(
            setup.settings, setup.pool, setup.clock, calendly, behalf=Behalf('=HYPERLINK("x")', "+1", None)
        )
        await connections.add(setup.token())
    env = environment(setup.settings)
    lines = (await slotwire("audit", "uses", "--organization", setup.org(), "--json", env=env)).stdout.splitlines()
    assert {json.loads(line)["actor"] for line in lines} >= {'=HYPERLINK("x")'}
    exported = (await slotwire("audit", "uses", "--organization", setup.org(), "--csv", env=env)).stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert len(rows) == len(lines)
    assert {row["actor"] for row in rows} >= {'\'=HYPERLINK("x")'}
    assert {row["organization"] for row in rows} == {setup.org()}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\uff1d1"])
def test_no_cell_is_a_formula(text: str) -> None:
    """Whatever a spreadsheet would take for a formula begins with an apostrophe; numbers and plain words stay."""
    assert csv_cell(text) == f"'{text}"
    assert [csv_cell(each) for each in ("plain", 3, None, ["a:1", "b:2"])] == ["plain", 3, None, "a:1 b:2"]
