"""Shipped agents beside a simulated Calendly: everybody goes by one clock, and an agent's process may die."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from slotwire.handlers.process import AgentRunner
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.handlers.shipped.attendance import AttendedInvitee, AttendedMeeting
from slotwire.handlers.shipped.settings import MemorySettings
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import OutgoingFailed
from slotwire.ingest.foundation.mail_message import Mail
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import SimulatedInvitee
from tests.support.actions_setup import ActionsSetup
from tests.support.agent_setup import AgentSetup, until

CLAIM = timedelta(seconds=20)
"""After so long nobody waits for a process that has died."""
_ROW = re.compile(r"^(New|Moved|Canceled|No-show|No-show cleared) {2,}(?=“)")
_NAME = re.compile(r"^ +“([^”]*)”")


@dataclass
class Door:
    """A source of attendance: whom it knows about, by the invitee's name."""

    came: dict[str, bool] = field(default_factory=dict)

    async def attended(self, meeting: AttendedMeeting, invitee: AttendedInvitee) -> bool | None:
        """Say what is known."""
        del meeting
        return self.came.get(invitee.name or "")


class ControlThatLoses(ControlClient):
    """`control`, whose answers to actions may be lost with the process that waits for them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.loses = 0
        self.lost = asyncio.Event()

    async def act(self, grant: str, name: str, action: Any) -> Any:
        """Have something done; the answer may never come."""
        answer = await super().act(grant, name, action)
        if self.loses > 0:
            self.loses -= 1
            self.lost.set()
            await asyncio.Event().wait()
        return answer


@dataclass
class UnsurePost:
    """A mail server that takes every mail, and now and then loses its answer.

    Attributes:
        sent: what it took.
        draws: decides which answers are lost.
        stuck: set when it took a mail and will never answer.
        sticks: whether the next mail is such a one.
    """

    draws: Draws
    sent: list[Mail] = field(default_factory=list)
    stuck: asyncio.Event = field(default_factory=asyncio.Event)
    sticks: bool = False

    async def send(self, mail: Mail) -> None:
        """Take a mail."""
        self.sent.append(mail)
        if self.sticks:
            self.sticks = False
            self.stuck.set()
            await asyncio.Event().wait()
        if self.draws.chance(0.2):
            raise OutgoingFailed("the answer is lost", reason="unreachable")

    def told(self) -> list[tuple[str, str]]:
        """What the reader was told of: kind and name, of each mail once however often it came."""
        whole = {mail.id: mail.text for mail in self.sent}
        assert all(changes_of(mail.text) == changes_of(whole[mail.id]) for mail in self.sent), "copies tell the same"
        return sorted(change for text in whole.values() for change in changes_of(text))


def changes_of(text: str) -> list[tuple[str, str]]:
    """Read the changes that a digest tells: what happened, and to whom."""
    lines = text.splitlines()
    return [
        (kind[1], name[1])
        for line, following in pairwise(lines)
        if (kind := _ROW.match(line)) and (name := _NAME.match(following))
    ]


@dataclass
class ShippedWorld:
    """An organization at the simulator, and the process of one shipped agent.

    Attributes:
        calendly: everything around the agent.
        agents: its topics and its pool.
        agent: the agent.
        control: how it asks for actions.
        settings: what organizations want of it.
    """

    calendly: ActionsSetup
    agents: AgentSetup
    agent: ShippedAgent[Any]
    control: ControlThatLoses
    settings: MemorySettings = field(default_factory=MemorySettings)

    def wanted(self, post: UnsurePost | None = None, **values: Any) -> None:
        """Set what the organization wants."""
        self.settings.values[self.agent.name, self.calendly.org] = values
        self.agent.install(self.settings, Outgoing(OutgoingSettings(), purpose="test"), mailer=post)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run the agent; at the end of the block its process dies."""
        quickly = self.agents.settings.agents.model_copy(update={"claim_seconds": 1.0, "stop_grace_seconds": 0.0})
        settings = self.agents.settings.model_copy(update={"agents": quickly})
        runner = AgentRunner(self.agent, settings, self.agents.pool, self.calendly.clock, control=self.control)
        runner.membership = replace(runner.membership, look_interval=0.02)
        running = asyncio.create_task(runner.run(asyncio.Event()))
        try:
            yield running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await self.calendly.advance(seconds=CLAIM.total_seconds())

    async def begun(self) -> None:
        """Wait until the agent's schedules are known: what is due from now on fires."""
        await until(lambda: self.agents.pool.fetchval("SELECT EXISTS (SELECT FROM slotwire.agent_schedules)"))

    async def settled(self, *, fired: int = 0, due: datetime | None = None) -> None:
        """Wait until so many firings have fired, up to that of a time, and all have come to their end."""

        async def over() -> bool:
            # In one statement: a firing that is put into the queue between two would count as fired and as not there.
            found = await self.agents.pool.fetchrow(
                "SELECT sum(fired) AS fired, max(fired_due) AS due,"
                " EXISTS (SELECT FROM slotwire.agent_queue) AS waiting FROM slotwire.agent_schedules"
            )
            assert found is not None
            reached = due is None or (found["due"] is not None and found["due"] >= due)
            return bool(reached and found["fired"] >= fired and not found["waiting"])

        await until(over)

    def book(self, name: str, hours: float) -> SimulatedInvitee:
        """Somebody books a meeting that starts in so many hours."""
        start = self.calendly.clock.now() + timedelta(hours=hours)
        return self.calendly.book_directly(name=name, start=start.replace(microsecond=0))

    def invitee(self, ident: str) -> SimulatedInvitee:
        """Return an invitee as Calendly has it now."""
        found = self.calendly.calendly.engine.bookings.invitee(ident)
        assert found is not None
        return found


@asynccontextmanager
async def shipped_world(
    calendly: ActionsSetup, agents: AgentSetup, agent: ShippedAgent[Any]
) -> AsyncIterator[ShippedWorld]:
    """Put one together."""
    async with ControlThatLoses(calendly.api.url) as control:
        yield ShippedWorld(calendly, agents, agent, control)
