"""An organization at the simulator whose availability is kept: table and topic against what Calendly itself says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from slotwire.handlers.agents.availability_sync import agent
from slotwire.handlers.agents.availability_sync.sync import Synced, sync_organization
from slotwire.handlers.author.past_events import past_event
from slotwire.handlers.process import install
from slotwire.handlers.reach.calendly import ControlledCalls, EventCalendly
from slotwire.handlers.testing import Trial
from slotwire.ingest.foundation.agent_settings import AvailabilitySettings
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings, KafkaSettings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.agent_settings_models import AgentSettingsRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.schemas.availability import Availability
from slotwire.schemas.topics import AVAILABILITY
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.kept_availability import Kept, KeptAvailability

SETTINGS = AvailabilitySettings(days=7, refresh_minutes=30, calls_a_round=200)


class GrantedByOne(ControlledCalls):
    """Takes its grants for one event of the log: a trial's own events and firings are not in it."""

    def __init__(self, pool: Any, control: ControlClient, event_id: UUID, clock: Clock) -> None:
        super().__init__(pool, control, agent=agent.name, clock=clock)
        self.control, self.one = control, event_id

    async def grant(self, event_id: UUID) -> str:
        """Get a grant."""
        del event_id
        return await super().grant(self.one)

    async def grant_firing(self, firing_id: UUID, user: str | None) -> str:
        """Get a grant."""
        del user
        return await self.grant(firing_id)


@dataclass(frozen=True)
class AvailabilitySetup:
    """What keeps availability, and who may be asked whether it is right."""

    world: ActionsSetup
    agents: asyncpg.Pool[asyncpg.Record]
    kafka: KafkaSettings
    calls: GrantedByOne
    trial: Trial

    async def round(self, *, writer: str = "a", settings: AvailabilitySettings | None = SETTINGS) -> Synced | None:
        """Make a round, as another process each time."""
        source = EventCalendly(self.calls, UUID(int=0))
        return await sync_organization(
            *(self.world.org, source, self.agents, self.kafka, self.world.clock, settings), writer=writer
        )

    async def told(self, since: int) -> int:
        """Let the agent handle the events of the log behind a position; return the last one's."""
        await self.world.written()
        rows = await self.world.rows(
            "SELECT event_id, position FROM slotwire.events WHERE position > $1 ORDER BY position", since
        )
        async with self.agents.acquire() as connection:
            await self.trial.deliver(*[await past_event(connection, row["event_id"]) for row in rows])
        return rows[-1]["position"] if rows else since

    async def fire(self) -> None:
        """Let the agent make a round."""
        await self.trial.fire("refresh", organization=self.world.org)

    @property
    def kept(self) -> KeptAvailability:
        """What is kept, beside what Calendly says."""
        return KeptAvailability(self.world.calendly, self.kafka, self.world.rows, SETTINGS.days)

    async def at_calendly(self) -> Kept:
        """Ask Calendly itself."""
        return await self.kept.at_calendly()

    async def in_table(self) -> Kept:
        """Read the table."""
        return await self.kept.in_table()

    async def in_topic(self) -> Kept:
        """Read what a consumer of the topic has at its end."""
        return await self.kept.in_topic()

    async def records(self) -> dict[bytes, Availability | None]:
        """Read the last record of each key of the topic."""
        return await self.kept.records()

    async def agrees(self) -> None:
        """Check that table and topic are what Calendly says."""
        await self.kept.agrees()

    async def until_current(self) -> None:
        """Make rounds until one has nothing to do."""
        async with asyncio.timeout(60):
            while True:
                made = await self.round()
                if made is not None and not made.read and not made.published:
                    return


@asynccontextmanager
async def availability_setup(database: Database, bootstrap: str, prefix: str) -> AsyncIterator[AvailabilitySetup]:
    """Run all of it."""
    kafka = KafkaSettings(
        bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=2, replication_factor=1, min_insync_replicas=1
    )
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(actions_setup(database, altered=True, readers=(agent.name,)))
        await ensure_topics(kafka, [AVAILABILITY])
        control = await stack.enter_async_context(ControlClient(world.api.url))
        pool = await stack.enter_async_context(
            create_pool(database.url_of["agents"], DatabaseSettings(pool_size=4), application="test")
        )
        rows = await world.rows("SELECT event_id FROM slotwire.events LIMIT 1")
        calls = GrantedByOne(pool, control, rows[0]["event_id"], world.clock)
        values = SETTINGS.model_dump(exclude_unset=True)
        wanted = AgentSettingsRequest(agent=agent.name, organization=world.org, settings=values)
        await world.actions.agent_settings.set(COMMAND_LINE, wanted)
        settings = world.settings.model_copy(update={"kafka": kafka})
        install([agent], settings, pool, world.clock, Outgoing(settings.outgoing, purpose="agents"))
        trial = Trial(agent, pool=pool, clock=world.clock)
        trial.calendly = calls  # type: ignore[assignment]  # these are real
        yield AvailabilitySetup(world, pool, kafka, calls, trial.deployed(agent))
