"""Bookings that the reschedule assistant is to move: its handler and `control` behind it, which die together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from slotwire.handlers.agents.reschedule_assistant import agent
from slotwire.handlers.author.past_events import past_event
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.problems import Problems
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.reach.chains import PostgresChains
from slotwire.handlers.records import Record
from slotwire.handlers.results import RecordStatus
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.handlers.shipped.settings import MemorySettings
from slotwire.handlers.testing import Trial, record_of
from slotwire.ingest.errors import CalendlyError, SlotwireError
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import ControlUnavailable
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.calendly_models import GrantedAction, GrantedCall
from slotwire.ingest.operate.process import operating
from slotwire.ingest.simulator.model import SimulatedInvitee
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.dying import dying
from tests.support.public_endpoint import with_role

CLAIM_SECONDS = 5.0
ROUNDS = 80
RESCHEDULED = "io.slotwire.invitee.rescheduled.v1"


class DirectCalls(ControlledCalls):
    """Has calls and actions made by `control`'s own code in the caller's task, so that both die at one place."""

    def __init__(self, pool: Any, actions: Actions, *, clock: Any) -> None:
        super().__init__(pool, ControlClient(""), agent=agent.name, clock=clock)
        self._actions = actions

    async def call(self, grant: str, operation: str, values: Any) -> Any:
        """Make one call."""
        found = await self._actions.granted_calls.find(grant)
        assert found is not None
        wanted = GrantedCall(operation=operation, values={name: list(each) for name, each in values.items()})
        try:
            return await self._actions.granted_calls.call(found, wanted)
        except CalendlyError as error:
            raise ControlUnavailable(error.message) from error

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Do something."""
        found = await self._actions.granted_calls.find(grant)
        assert found is not None
        wanted = await self._actions.granted_calls.intended(found, GrantedAction(name=name, action=dict(action)))
        try:
            item, _ = await self._actions.performed.create(self._actions.granted_calls.caller(found), wanted)
        except CalendlyError as error:
            raise ControlUnavailable(error.message) from error
        return item.model_dump(mode="json")


@dataclass
class MovedBookings:
    """Bookings on a day on which nobody is there, one after the other."""

    setup: ActionsSetup
    agents: asyncpg.Pool[asyncpg.Record]
    asked: list[str] = field(default_factory=list)
    letters: Trial = field(default_factory=lambda: Trial(agent))
    waits: int = 0
    day: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Choose the day: a Wednesday at nine, a week and more from now."""
        start = self.setup.clock.now().replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=7)
        self.day = start + timedelta(days=(2 - start.weekday()) % 7)

    async def booked(self) -> Record:
        """Have somebody book on that day; return the record of their event."""
        mail = f"invitee{len(self.asked)}@example.test"
        start = self.day + timedelta(minutes=30) * (len(self.asked) % 16)
        self.asked.append(mail)
        made = self.setup.book_directly(email=mail, start=start)
        await self.setup.written()
        row = (await self.setup.rows("SELECT event_id FROM slotwire.events WHERE subject = $1", made.uri))[0]
        async with self.agents.acquire() as connection:
            return record_of(await past_event(connection, row["event_id"]))

    async def life(self, record: Record, place: int) -> bool:
        """Let a member and a `control` handle it and die at a place; return whether it came to an end before."""
        setup, stopping = self.setup, asyncio.Event()
        result: list[RecordStatus] = []

        async def handle() -> None:
            async with operating(with_role(setup.settings, "control"), setup.clock, application="control") as actions:
                handling = self._handling(actions)
                result.append((await handling.handle(record, stopping)).status)

        # To a process that does not stop, a run that is cancelled has failed, and it goes on.
        task = asyncio.ensure_future(dying(handle(), place, cut=None, stopping=stopping))
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, SlotwireError), error
        if not task.cancelled() and task.exception() is None:
            assert place == 0 or task.result() < place, "it has outlived its death"
            self.waits = task.result()
        return bool(result) and result[0] is not RecordStatus.HANDED_BACK

    async def to_the_end(self, record: Record) -> None:
        """Let members that do not die handle it, and time pass, until it is settled and no action is open."""
        for _ in range(ROUNDS):
            settled = await self.life(record, 0)
            rows = await self.setup.rows("SELECT count(*) AS open FROM slotwire.actions WHERE due_at IS NOT NULL")
            if settled and not rows[0]["open"]:
                return
            await self.setup.advance(seconds=20)
            await self.setup.round()
        raise AssertionError("it comes to no end")

    def _handling(self, actions: Actions) -> Handling:
        clock, name = self.setup.clock, agent.name

        async def hand_back(stopping: asyncio.Event, seconds: float) -> bool:
            del stopping, seconds
            return True

        return Handling(
            agent,
            inbox=PostgresInbox(self.agents, agent=name, clock=clock, idle_seconds=30),
            runs=Runs(agent, PostgresJournal(self.agents, agent=name, clock=clock, claim_seconds=CLAIM_SECONDS), clock),
            dead_letters=self.letters,
            chains=PostgresChains(self.agents, agent=name, clock=clock),
            calls=DirectCalls(self.agents, actions, clock=clock),
            problems=Problems(name, get_logger("test")),
            clock=clock,
            pause=hand_back,
        )

    def _is_away(self, invitee: SimulatedInvitee) -> bool:
        return self.setup.meeting(invitee.uri).start.date() == self.day.date()

    async def check(self) -> Counter[str]:
        """Check each booking against the simulator and the log; return how the actions ended."""
        rows = {row["target"]: row for row in await self.setup.rows("SELECT * FROM slotwire.actions")}
        told = Counter(each["old_invitee"] for each in await self.setup.told(RESCHEDULED))
        at_calendly: dict[str, list[SimulatedInvitee]] = {}
        for invitee in self.setup.bookings(active=False):
            at_calendly.setdefault(invitee.email, []).append(invitee)
        ended = Counter[str]()
        for mail in self.asked:
            # Made at the same time where the clock stood still; on that day is the old one only.
            old, *new = sorted(at_calendly[mail], key=lambda each: not self._is_away(each))
            row = rows.get(old.uri)
            assert row is not None, (mail, self.setup.meeting(old.uri).start, old.status)
            said = f"{mail}: {row['state'], row['reason']}, {[each.status for each in (old, *new)]}"
            ended[row["state"]] += 1
            if row["state"] == "done":
                assert (old.status, [each.status for each in new], told[old.uri]) == ("canceled", ["active"], 1), said
                assert not self._is_away(new[0]), said
            else:
                assert row["state"] in {"person", "not_seen"}, said
                assert row["reason"], said
                assert old.status == "active", said
        return ended


@asynccontextmanager
async def moved_bookings(database: Database) -> AsyncIterator[MovedBookings]:
    """One organization whose assistant may act, and an away time of a day."""
    async with (
        actions_setup(database, agents=(agent.name,)) as setup,
        create_pool(database.url_of["agents"], DatabaseSettings(pool_size=4), application="agents") as pool,
    ):
        made = MovedBookings(setup, pool)
        begins = made.day.replace(hour=0)
        away = {"begins": begins.isoformat(), "ends": (begins + timedelta(days=1)).isoformat()}
        outgoing = Outgoing(setup.settings.outgoing, purpose="agents")
        agent.install(MemorySettings({(agent.name, setup.org): {"away": [away], "within_days": 30}}), outgoing)
        yield made
