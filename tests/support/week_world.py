"""A simulated week of one organization whose agents all run, beside one for which they only say what they would do.

Calendly, `serve`, `relay` and what agents reach are in this process; `control` and the agents are real processes, which
are killed. Everybody goes by the simulator's clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr

from slotwire.handlers.agents.notify import agent as notify
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.settings import CalendlySettings, KafkaSettings, Settings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.agent_settings_models import AgentSettingsRequest
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.process import operating
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.model import Faults
from slotwire.schemas.ids import last_segment
from slotwire.schemas.topics import AVAILABILITY
from tests.support.agent_setup import until
from tests.support.children import environment, free_port, with_own_role
from tests.support.fork_server import COMMAND, Forked
from tests.support.public_endpoint import running_endpoint, settings_for, with_role
from tests.support.relay_setup import running_relay
from tests.support.simulated_calendly import AMPLE
from tests.support.week_receivers import SECRET, WeekReceivers, week_receivers

AGENTS = ("availability-sync", "nightly-digest", "no-show-sweeper", "notify", "reschedule-assistant")
READER = "ops@example.com"
MEMBER = "SLOTWIRE_AGENTS__GROUP_INSTANCE_ID"
SECONDS = 120.0
"""No wait is longer."""
_BEGUN = """
SELECT (SELECT count(DISTINCT agent) FROM slotwire.agent_schedules) = 4
   AND (SELECT count(DISTINCT topic) FROM slotwire.agent_starts WHERE agent = 'notify') = $1
"""
_KEPT = "SELECT count(*) > 0 AND bool_and(version = published) FROM slotwire.availability"
_WRITTEN = """
SELECT coalesce((SELECT max(position) FROM slotwire.deliveries), 0)
    <= (SELECT position FROM slotwire.heads ORDER BY version DESC LIMIT 1)
"""
_DIGESTED = """
SELECT coalesce((SELECT fired_due >= $1 FROM slotwire.agent_schedules WHERE agent = 'nightly-digest'), false)
   AND NOT EXISTS (SELECT FROM slotwire.agent_queue WHERE agent = 'nightly-digest' AND due_at <= $1)
"""
_OPEN = """
WITH left_over (what, due_at) AS (
    (SELECT DISTINCT ON (agent, topic, partition, lane) 'queued', due_at FROM slotwire.agent_queue
     WHERE agent = ANY ($2) ORDER BY agent, topic, partition, lane, record_offset)
    UNION ALL SELECT 'action', due_at FROM slotwire.actions WHERE due_at IS NOT NULL
    UNION ALL SELECT 'run', CASE WHEN state IN ('running', 'ready') THEN timestamptz '2000-01-01Z' ELSE due_at END
        FROM slotwire.runs r WHERE state IN ('running', 'waiting', 'ready', 'parked') AND agent = ANY ($2)
          AND NOT EXISTS (SELECT FROM slotwire.agent_queue q WHERE q.agent = r.agent AND q.event_id = r.event_id)
    UNION ALL SELECT 'moment', timestamptz '2000-01-01Z' FROM slotwire.agent_schedules
        WHERE kind <> 'clock' AND reached < $1::timestamptz - interval '11 seconds' AND agent = ANY ($2)
    UNION ALL SELECT 'availability', date_trunc('minute', $1::timestamptz) + interval '1 minute 1 second'
        FROM slotwire.availability
        WHERE (due_since IS NOT NULL OR version <> published OR gone) AND 'availability-sync' = ANY ($2)
    UNION ALL SELECT 'untold', timestamptz '2000-01-01Z' FROM slotwire.events e
        WHERE e.position > $3 AND 'notify' = ANY ($2)
          AND NOT EXISTS (SELECT FROM slotwire.inbox i WHERE i.agent = 'notify' AND i.event_id = e.event_id)
          AND NOT EXISTS (SELECT FROM slotwire.agent_queue q WHERE q.agent = 'notify' AND q.event_id = e.event_id)
)
SELECT what, count(*) AS number, min(due_at) AS due_at FROM left_over GROUP BY what
"""
ACTING = ("no-show-sweeper", "reschedule-assistant")
LONGEST = timedelta(minutes=20)
"""The longest piece of time that is let pass at once while something waits for it."""
STILL_SECONDS = 1.5
"""If nothing has come to an end for so long, time may have to pass."""
PIECE = timedelta(seconds=20)
"""How much is let pass then."""


@dataclass
class WeekProcess:
    """A command of ours that may be killed.

    Attributes:
        entry: the function that it is.
        killed: how often it was.
    """

    arguments: tuple[str, ...]
    env: dict[str, str]
    folder: Path
    entry: str = COMMAND
    killed: int = 0
    _running: Forked | None = None

    def start(self) -> None:
        """Start it."""
        env = with_own_role(self.arguments[0], self.env)
        with Path(os.devnull).open("rb") as nothing, (self.folder / f"{self.arguments[0]}.log").open("ab") as log:
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            self._running = Forked(self.arguments, env, self.folder, *streams, entry=self.entry)

    async def kill(self) -> None:
        """End it as the kernel would, and start it again."""
        await self.end(signal.SIGKILL)
        self.killed += 1
        self.start()

    async def end(self, how: signal.Signals) -> None:
        """Have it end."""
        running, self._running = self._running, None
        assert running is not None
        os.kill(running.pid, how)
        async with asyncio.timeout(SECONDS):
            code = await running.wait()
        assert code in {-how, 0}, code


@dataclass
class WeekWorld:
    """The organization, and everything around it.

    Attributes:
        calendly: the simulator.
        settings: of our processes.
        actions: what operators do.
        receivers: what agents reach beside Calendly.
        control: the process.
        agents: the processes of the agents.
        connection: to the database, as its owner.
        folder: for logs.
        output: where digests are written.
        began: when the week began.
        began_after: the place in the log after which `notify` tells what happens.
    """

    calendly: Simulator
    settings: Settings
    actions: Actions
    receivers: WeekReceivers
    control: WeekProcess
    agents: Sequence[WeekProcess]
    connection: asyncpg.Connection[asyncpg.Record]
    folder: Path
    output: Path
    began: datetime
    began_after: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def org(self) -> str:
        """The organization."""
        return last_segment(self.calendly.organization)

    @property
    def other(self) -> str:
        """The organization for which everything is a dry run."""
        return list(self.calendly.world.organizations)[1]

    @property
    def now(self) -> datetime:
        """Everybody's time."""
        return self.calendly.engine.clock.now()

    @property
    def away(self) -> datetime:
        """When the day begins on which nobody is there: the Friday."""
        return self.began.replace(hour=0) + timedelta(days=4)

    @property
    def kafka(self) -> KafkaSettings:
        """The broker."""
        return self.settings.kafka

    async def ask(self, query: str, *values: object) -> list[asyncpg.Record]:
        """Ask the database."""
        async with self.lock:
            return await self.connection.fetch(query, *values)

    def faults(self, **faults: Any) -> None:
        """Inject faults at Calendly."""
        self.calendly.engine.set_faults(Faults(**faults))

    async def wanted(self, agent: str, **values: Any) -> None:
        """Set what the organization wants of an agent; all others are to be told what that would do."""
        for org, more in ((self.org, {}), (None, {"dry_run": True})):
            asked = AgentSettingsRequest(agent=agent, organization=org, settings=values | more)
            await self.actions.agent_settings.set(COMMAND_LINE, asked)

    async def advance(self, **by: float) -> None:
        """Move everybody's clock; what is due then at Calendly is sent, and written."""
        self.calendly.engine.advance(timedelta(**by))
        await self.written()

    async def written(self) -> None:
        """Wait until what is due at Calendly is sent, and what came is written."""
        async with asyncio.timeout(SECONDS):
            await self.calendly.engine.sender.idle()
        await self.until(_WRITTEN)

    async def until(self, query: str, *values: object) -> None:
        """Wait until the database says yes."""

        async def yes() -> bool:
            return bool((await self.ask(query, *values))[0][0])

        await until(yes, seconds=SECONDS)

    async def digested(self, moment: datetime) -> None:
        """Let the moment of digests come, and wait until they are sent, or given up for now."""
        await self.advance(seconds=(moment - self.now).total_seconds())
        await self.until(_DIGESTED, moment)

    async def calm(self, *agents: str, pieces: int = 200) -> None:
        """Wait until these agents, and `control`, have nothing left to do; let time pass where it waits for that."""
        begun = due = self.now
        left = list[asyncpg.Record]()
        for _ in range(pieces):
            try:
                async with asyncio.timeout(STILL_SECONDS):
                    while left := await self.ask(_OPEN, begun, list(agents), self.began_after):
                        due = min(row["due_at"] for row in left)
                        if due > self.now:
                            break
                        await asyncio.sleep(0.05)  # other processes do it
            except TimeoutError:  # it waits for a turn at Calendly, for example
                due = self.now + PIECE
            if not left:
                return
            await self.advance(seconds=min(due - self.now, LONGEST).total_seconds() + 0.01)
        raise AssertionError(f"it comes to no end: {[tuple(row) for row in left]}")


@asynccontextmanager
async def week_world(
    database: Database, bootstrap: str, prefix: str, folder: Path, *, failing: Mapping[str, float], together: bool
) -> AsyncIterator[WeekWorld]:
    """Run all of it, from a Monday at six on.

    Args:
        database: the test's own.
        bootstrap: the broker.
        prefix: of the topics.
        folder: for logs, files and the clock.
        failing: the share of what agents ask of each receiver that fails.
        together: whether all agents are in one process.
    """
    kafka = KafkaSettings(
        bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=2, replication_factor=1, min_insync_replicas=1
    )
    port, clock = free_port(), DrivenClock(_until_monday())
    output = folder / "digests"
    async with AsyncExitStack() as stack:
        shown = folder / "clock"
        options = Options(seed="week", organizations=2, clock=clock, clock_file=shown, rate_limit=AMPLE)
        calendly = await stack.enter_async_context(simulator(options))
        settings = settings_for(database, port=port).model_copy(
            update={
                "public_url": f"http://127.0.0.1:{port}",
                "calendly": CalendlySettings(
                    api_url=calendly.url, auth_url=calendly.url, assumed_calls_per_minute=AMPLE
                ),
                "kafka": kafka,
                "outgoing": OutgoingSettings(allow_local=True),
            }
        )
        receivers = await stack.enter_async_context(week_receivers(failing))
        await ensure_topics(kafka)
        await ensure_topics(kafka, [AVAILABILITY])
        await stack.enter_async_context(running_endpoint(settings, clock=clock))
        actions = await stack.enter_async_context(
            operating(with_role(settings, "control"), clock, application="control")
        )
        relays = settings.model_copy(update={"database_url": SecretStr(database.url_of["relay"])})
        await stack.enter_async_context(running_relay(relays, clock=clock))
        connection = await asyncpg.connect(database.owner_url)
        stack.push_async_callback(connection.close)
        env = _environment(settings, shown, output, receivers.mail_port)
        control = WeekProcess(("control",), env, folder)
        agents = [
            WeekProcess(("agents", *names), {**env, MEMBER: f"week-{place}"}, folder, "tests.support.week_agents:main")
            for place, names in enumerate([AGENTS] if together else [(name,) for name in AGENTS])
        ]
        places = (folder, output, clock.now())
        world = WeekWorld(calendly, settings, actions, receivers, control, agents, connection, *places)
        await _set_up(world)
        for each in (control, *agents):
            each.start()
            stack.push_async_callback(each.end, signal.SIGTERM)
        await world.until(_BEGUN, len(notify.topics))
        await world.advance(minutes=1)
        await world.until(_KEPT)
        [row] = await world.ask("SELECT coalesce(max(position), 0) AS last FROM slotwire.events")
        world.began_after = row["last"]
        yield world


def _until_monday() -> timedelta:
    """Return how far the next Monday at six is ahead."""
    now = datetime.now(UTC)
    monday = now.replace(hour=6, minute=0, second=0, microsecond=0) + timedelta(days=7 - now.weekday())
    return monday - now


def _environment(settings: Settings, clock: Path, output: Path, mail: int) -> dict[str, str]:
    kafka, admin = settings.kafka, free_port()
    keys = ",".join(each.get_secret_value() for each in settings.agents.settings_keys)
    return environment(
        settings,
        SLOTWIRE_HEALTH__PORT="0",
        SLOTWIRE_ADMIN__PORT=str(admin),
        SLOTWIRE_LOCAL__CLOCK_FILE=str(clock),
        SLOTWIRE_CALENDLY__API_URL=settings.calendly.api_url,
        SLOTWIRE_CALENDLY__AUTH_URL=settings.calendly.auth_url,
        SLOTWIRE_CALENDLY__ASSUMED_CALLS_PER_MINUTE=str(AMPLE),
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=kafka.topic_prefix,
        SLOTWIRE_KAFKA__PARTITIONS=str(kafka.partitions),
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
        SLOTWIRE_ACTIONS__AGENTS="no-show-sweeper,reschedule-assistant",
        SLOTWIRE_ACTIONS__INTERVAL_SECONDS="0.2",
        SLOTWIRE_AGENTS__ORGANIZATION_READERS="availability-sync",
        SLOTWIRE_AGENTS__CONTROL_URL=f"http://127.0.0.1:{admin}",
        SLOTWIRE_AGENTS__SETTINGS_KEYS=keys,
        SLOTWIRE_AGENTS__CLAIM_SECONDS="1",
        SLOTWIRE_AGENTS__STOP_GRACE_SECONDS="1",
        SLOTWIRE_AGENTS__OUTPUT_FOLDER=str(output),
        SLOTWIRE_OUTGOING__ALLOW_LOCAL="true",
        SLOTWIRE_OUTGOING__TIMEOUT_SECONDS="2",
        SLOTWIRE_OUTGOING__PER_SECOND_PER_DESTINATION="1000",
        SLOTWIRE_MAIL__HOST="127.0.0.1",
        SLOTWIRE_MAIL__PORT=str(mail),
        SLOTWIRE_MAIL__SECURITY="none",
        SLOTWIRE_MAIL__SENDER="slotwire@example.com",
        SLOTWIRE_MAIL__TIMEOUT_SECONDS="5",
    )


async def _set_up(world: WeekWorld) -> None:
    """Connect and subscribe the organizations, and say what is wanted of each agent."""
    # Other plans may book a hundred times a day.
    world.calendly.engine.changes.organization(world.org, "enterprise", None)
    simulated = world.calendly.world
    for org in simulated.organizations:
        token = next(each.value for each in simulated.tokens if simulated.users[each.user].organization == org)
        added = await world.actions.organizations.add(COMMAND_LINE, OrganizationRequest(token=SecretStr(token)))
        await world.actions.connections.probe(COMMAND_LINE, org, added.connection_id)
    url = world.receivers.url
    await world.wanted("availability-sync", days=10, refresh_minutes=30, calls_a_round=300)
    await world.wanted("notify", url=f"{url}/notify", secret=SECRET)
    await world.wanted("no-show-sweeper", source="receiver", url=f"{url}/attendance", secret=SECRET)
    await world.wanted(
        "reschedule-assistant",
        away=[{"begins": world.away.isoformat(), "ends": (world.away + timedelta(days=1)).isoformat()}],
        notice_hours=1,
        within_days=14,
    )
    await world.wanted(
        "nightly-digest",
        timezone="UTC",
        at="18:00",
        mail=[READER],
        file=True,
        webhook=f"{url}/digest",
        webhook_secret=SECRET,
        each_host=True,
    )
