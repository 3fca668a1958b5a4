"""Actions against a simulated Calendly whose clock everybody follows, with its webhooks, the writer and the chore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import orjson
from aiohttp import web
from pydantic import SecretStr

from slotwire.ingest.control.actions import action_rounds
from slotwire.ingest.control.actions.intents import INTENT
from slotwire.ingest.control.actions.perform import Performer
from slotwire.ingest.control.actions.preparing import AskedAction
from slotwire.ingest.control.actions.records import ActionRecord, read_action
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.foundation.actions_settings import ActionsSettings
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.model import Faults, SimulatedInvitee, SimulatedScheduledEvent, uri
from slotwire.schemas.ids import last_segment
from tests.support.altered_calendly import AlteredCalendly, Answer, altered_calendly
from tests.support.children import free_port
from tests.support.management_api import ManagementApi, management_api
from tests.support.owner import owner_rows
from tests.support.public_endpoint import running_endpoint, settings_for
from tests.support.simulated_calendly import AMPLE, STILL
from tests.support.writing import write_all

SETTLED = "io.slotwire.action.settled.v1"
MAIL = "zoe@example.test"


@dataclass(frozen=True)
class ActionsSetup:
    """One organization, connected and subscribed, and everything that acts for it."""

    calendly: Simulator
    api: ManagementApi
    settings: Settings
    database: Database
    between: AlteredCalendly | None
    _keys: Any = field(default_factory=count)

    @property
    def actions(self) -> Actions:
        """The verbs."""
        return self.api.actions

    @property
    def org(self) -> str:
        """The organization."""
        return last_segment(self.calendly.organization)

    @property
    def clock(self) -> DrivenClock:
        """Everybody's clock."""
        return self.calendly.engine.clock

    @property
    def performer(self) -> Performer:
        """What acts; made anew each time, as after a restart."""
        return Performer.from_settings(self.settings, self.actions.pool, self.clock, self.actions.calendly)

    @property
    def calls(self) -> int:
        """How many calls were made at Calendly."""
        return int(str(self.calendly.gate.calls.summary()["calls"]))

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Performer]:
        """Act with connections to Calendly of one's own, as another process: what dies takes them with it."""
        pool, clock, settings = self.actions.pool, self.clock, self.settings.calendly
        async with open_calendly(settings, Budgets(pool, clock, settings)) as calendly:
            yield Performer.from_settings(self.settings, pool, clock, calendly)

    def event_type(self, *, limit: int = 1) -> str:
        """Return the owner's event type that needs nothing special, or a group one."""
        offers = self.calendly.world.offers(self.org)
        owner = self.calendly.world.members(self.org)[0].id
        kinds = {"zoom", "google_conference"}
        fits = [each for each in offers if each.owner == owner and each.location in kinds]
        found = next(each for each in fits if (each.limit > 1) == (limit > 1))
        return uri("event_types", found.id)

    def start(self, hours: int = 30) -> datetime:
        """Return a full hour to come."""
        return (self.clock.now() + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)

    def booking(self, **more: Any) -> dict[str, Any]:
        """Write the intent of a booking."""
        usual = {"verb": "book", "event_type": self.event_type(), "start_time": self.start().isoformat()}
        return {**usual, "email": MAIL, "name": "Zoe", "timezone": "Europe/Paris", **more}

    async def act(self, intent: dict[str, Any], *, key: str | None = None, **more: Any) -> ActionRecord:
        """Have something done."""
        asked = self.asked(intent, key=key, **more)
        record, _ = await self.performer.act(asked)
        return record

    def asked(self, intent: dict[str, Any], *, key: str | None = None, **more: Any) -> AskedAction:
        """Write what a caller asks for; without a key, a new one."""
        chosen = key if key is not None else f"key {next(self._keys)}"
        return AskedAction(self.org, more.pop("caller", "tester"), chosen, INTENT.validate_python(intent), **more)

    async def faults(self, **faults: Any) -> None:
        """Inject faults at the simulator."""
        self.calendly.engine.set_faults(Faults(**faults))

    async def lost_then_blind(self, intent: dict[str, Any]) -> ActionRecord:
        """Have something done whose answer is lost, and after which no call comes through until `sees`."""
        assert self.between is not None
        called = False

        def alter(request: web.Request, *_: object) -> Answer | None:
            nonlocal called
            called = called or request.method != "GET"
            return (502, {"message": "Bad Gateway"}) if called else None

        self.between.alter = alter
        return await self.act(intent)

    def sees(self) -> None:
        """Let calls come through again."""
        assert self.between is not None
        self.between.alter = lambda *_: None

    async def advance(self, **by: float) -> None:
        """Move everybody's clock; what is due then at the simulator is sent, and written."""
        self.calendly.engine.advance(timedelta(**by))
        await self.written()

    async def written(self) -> None:
        """Let what is due at the simulator be sent, and write what came."""
        async with asyncio.timeout(60):
            await self.calendly.engine.sender.idle()
        await write_all(self.settings, clock=self.clock)

    async def round(self) -> list[ActionRecord]:
        """Go on with what is due."""
        return await action_rounds.run_once(self.performer)

    async def until_settled(self, record: ActionRecord, *, rounds: int = 60) -> ActionRecord:
        """Let time pass, in steps of five seconds, until an action is settled."""
        for _ in range(rounds):
            record = await read_action(self.actions.pool, record.id)
            if record.due_at is None:
                return record
            await self.advance(seconds=5)
            await self.round()
        raise AssertionError(f"not settled: {record.state}")

    def bookings(self, *, active: bool = True) -> list[SimulatedInvitee]:
        """Return what Calendly has, in the order it was made."""
        rows = self.calendly.engine.bookings._database.rows("SELECT event FROM invitees GROUP BY event")
        found = [each for (event,) in rows for each in self.calendly.engine.bookings.invitees_of(event)]
        wanted = [each for each in found if not active or each.status == "active"]
        return sorted(wanted, key=lambda each: each.created_at)

    def meeting(self, invitee: str) -> SimulatedScheduledEvent:
        """Return the meeting of an invitee's URI."""
        found = self.calendly.engine.bookings.event(invitee.split("/")[-3])
        assert found is not None
        return found

    def book_directly(self, **details: Any) -> SimulatedInvitee:
        """Book at the simulator as a person does."""
        given = {"event_type": self.event_type().rpartition("/")[2], "email": MAIL, "start": self.start(), **details}
        return self.calendly.engine.book(BookingDetails(organization=self.org, **given)).invitees[0]

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        return await owner_rows(self.database, query, *arguments)

    async def told(self, kind: str = SETTLED) -> list[dict[str, Any]]:
        """Write what was accepted, and return the data of the events of a type."""
        await self.written()
        rows = await self.rows("SELECT data FROM slotwire.events WHERE type = $1 ORDER BY position", kind)
        return [orjson.loads(row["data"]) for row in rows]


@asynccontextmanager
async def actions_setup(
    database: Database,
    *,
    tag: bool = True,
    altered: bool = False,
    agents: tuple[str, ...] = (),
    readers: tuple[str, ...] = (),
) -> AsyncIterator[ActionsSetup]:
    """Run all of it; the clock moves only when the test moves it. With `altered`, it may change Calendly's answers.

    `agents` may act, `readers` may read for their whole organization.
    """
    port, clock = free_port(), DrivenClock(real=lambda: STILL)
    async with AsyncExitStack() as stack:
        calendly = await stack.enter_async_context(simulator(Options(seed="actions", clock=clock, rate_limit=AMPLE)))
        between = await stack.enter_async_context(altered_calendly(calendly.url)) if altered else None
        settings = settings_for(database, port=port).model_copy(
            update={
                "public_url": f"http://127.0.0.1:{port}",
                "calendly": CalendlySettings(api_url=(between or calendly).url, assumed_calls_per_minute=AMPLE),
                "actions": ActionsSettings(tag=tag, agents=agents),
                "agents": AgentsSettings(organization_readers=readers),
            }
        )
        async with running_endpoint(settings, clock=clock), management_api(settings, clock=clock) as api:
            setup = ActionsSetup(calendly, api, settings, database, between)
            request = OrganizationRequest(token=SecretStr(calendly.owner_token))
            # Other plans may book a hundred times a day.
            calendly.engine.changes.organization(setup.org, "enterprise", None)
            added = await api.actions.organizations.add(COMMAND_LINE, request)
            await api.actions.connections.probe(COMMAND_LINE, setup.org, added.connection_id)
            await setup.written()
            yield setup
