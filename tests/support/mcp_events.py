"""What tests of MCP Events need: a log that is published as far as the test says, agents, and the methods on it."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import Clock, ManualClock
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.postgres import Connection, create_pool
from slotwire.ingest.foundation.settings import CalendlySettings, DatabaseSettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events.delivery import WebhookDeliveries
from slotwire.ingest.mcp.events.service import McpEvents
from slotwire.ingest.mcp.principal import AgentPrincipal, Authority
from slotwire.schemas.events import BY_TYPE, InviteeCreated
from tests.support.receiver import ReceivedPost, Receiver, answer, receiving
from tests.support.relay_setup import LoggedEvent, append

CREATED = InviteeCreated.type
NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
USERS = "https://api.calendly.com/users/"
HOST = f"{USERS}HOST"
ORGANIZATIONS = "https://api.calendly.com/organizations/"
EVENT_TYPES = "https://api.calendly.com/event_types/"
DEADLINE_SECONDS = 60.0
KEY = secrets.token_bytes(32)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_CONNECTION = """
INSERT INTO slotwire.connections (id, org, kind, user_uri, role, credential_id, sealed, state, checked_at, created_at,
    changed_at)
VALUES (gen_random_uuid(), $1, 'personal_access_token', $2, $3, gen_random_uuid(), '\\x00', 'active', $4, $4, $4)
"""
MIRROR = """
WITH told AS (SELECT pg_notify('slotwire_mcp', 'published'))
INSERT INTO slotwire.relay_mirror AS m (shard, log_id, position, event_id, published_at)
SELECT 0, l.log_id, $1, NULL, $2 FROM slotwire.log l, told
ON CONFLICT (shard) DO UPDATE SET position = excluded.position
"""


class GivenAgents:
    """Agents as a test has given them; those that were revoked are gone."""

    def __init__(self) -> None:
        self.given: dict[tuple[UUID, str], AgentPrincipal] = {}

    async def now(self, pairs: Sequence[tuple[UUID, str]]) -> Sequence[AgentPrincipal | None]:
        """Return what agents have of users now."""
        return [self.given.get(each) for each in pairs]


def booked(
    number: int, *, host: str = HOST, email: str = "a@example.com", event_type: str = "T1", org: str = "A", **more: Any
) -> LoggedEvent:
    """Make the event of a booking."""
    uri = f"https://api.calendly.com/scheduled_events/E{number}/invitees/I{number}"
    data = {
        "uri": uri,
        "email": email,
        "name": f"Guest {number}",
        "cancel_url": "https://calendly.com/cancellations/secret",
        "scheduled_event": {
            "uri": f"https://api.calendly.com/scheduled_events/E{number}",
            "event_type": f"{EVENT_TYPES}{event_type}",
            "event_memberships": [{"user": host}],
            "location": {"type": "zoom", "join_url": "https://zoom.us/j/1?pwd=secret"},
        },
        "booking": {"state": "active", "revision": 1, "chain_root": uri},
        **more.pop("data", {}),
    }
    return LoggedEvent(
        key=more.pop("key", str(UUID(int=number))), data=orjson.dumps(data), org=org, subject=uri, **more
    )


@dataclass
class World:
    """A log, agents, and the methods of a process.

    Attributes:
        database: its addresses.
        owner: a connection of the owner.
        writer: a connection of the runtime role, which appends.
        clock: the process's.
        agents: whom it knows.
        events: the methods.
        another: puts the methods of a second process together.
    """

    database: Database
    owner: Connection
    writer: Connection
    clock: ManualClock
    agents: GivenAgents
    events: McpEvents
    another: Callable[[], McpEvents]

    def agent(self, user: str = HOST, *, org: str = "A", **changes: Any) -> AgentPrincipal:
        """Register an agent that acts for a user."""
        given = AgentPrincipal(
            agent=uuid4(),
            name="assistant",
            organization=f"{ORGANIZATIONS}{org}",
            user=user,
            tools=frozenset(),
            event_types=frozenset(BY_TYPE),
            chain=None,
            expires_at=NOW + timedelta(minutes=15),
        )
        given = replace(given, **changes)
        self.agents.given[given.agent, given.user] = given
        return given

    def revoke(self, agent: AgentPrincipal) -> None:
        """Take everything from an agent."""
        del self.agents.given[agent.agent, agent.user]

    async def connect(self, user: str = HOST, *, org: str = "A", role: str = "user") -> None:
        """Connect a user of an organization, which is made if it is new."""
        await self.owner.execute(
            "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ($1, $2, 0, $3)"
            " ON CONFLICT DO NOTHING",
            *(org, f"{ORGANIZATIONS}{org}", NOW),
        )
        await self.owner.execute(_CONNECTION, org, user, role, NOW)

    async def write(self, *events: LoggedEvent) -> int:
        """Append events that are not published yet; return the position of the last."""
        await append(self.writer, events)
        return await self.end()

    async def end(self) -> int:
        """Return the last position of the log."""
        position: int = await self.owner.fetchval("SELECT coalesce(max(position), 0) FROM slotwire.events")
        return position

    async def publish(self, *events: LoggedEvent) -> int:
        """Append events, and say that all of the log is published."""
        if events:
            await append(self.writer, events)
        position = await self.end()
        await self.owner.execute(MIRROR, position, NOW)
        return position

    async def poll(self, agent: AgentPrincipal, cursor: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask `events/poll`."""
        return await self.events.poll(agent, {"name": CREATED, "arguments": {}, "cursor": cursor, **params})

    async def subscription(self, subscription: str) -> Any:
        """Read a subscription's row."""
        return await self.owner.fetchrow("SELECT * FROM slotwire.mcp_subscriptions WHERE id = $1", subscription)

    def subscribe(self, agent: AgentPrincipal, url: str, **params: Any) -> Awaitable[dict[str, Any]]:
        """Ask `events/subscribe`."""
        delivery = {"mode": "webhook", "url": url, "secret": params.pop("secret", SECRET)}
        asked = {"name": CREATED, "arguments": {}, "delivery": delivery, **params}
        return self.events.subscribing.subscribe(agent, asked)


def events_settings(database_url: str, pool: DatabaseSettings | None = None) -> Settings:
    """Return the settings of a process that delivers to this machine."""
    return Settings(
        database_url=SecretStr(database_url),
        database=pool or DatabaseSettings(pool_size=8),
        outgoing=OutgoingSettings(
            allow_local=True, timeout_seconds=30, per_second_per_destination=1000, at_once_per_destination=50
        ),
        public_url="http://127.0.0.1:1",
        calendly=CalendlySettings(api_url="http://127.0.0.1:1", auth_url="http://127.0.0.1:1"),
    )


@asynccontextmanager
async def opened_events(
    database_url: str,
    agents: Authority,
    key: bytes = KEY,
    *,
    clock: Clock | None = None,
    at_once: int = 50,
    pool: DatabaseSettings | None = None,
) -> AsyncIterator[Callable[[], McpEvents]]:
    """Open what the methods of a process need; yields what puts them together."""
    settings = events_settings(database_url, pool)
    outgoing_settings = settings.outgoing.model_copy(update={"at_once_per_destination": at_once})
    async with (
        create_pool(database_url, settings.database, application="mcp") as connections,
        Outgoing(outgoing_settings, purpose="mcp_events") as outgoing,
    ):

        def made() -> McpEvents:
            now = clock or ManualClock(NOW)
            return McpEvents(settings, connections, now, agents, outgoing, {"k1": key}, source="the test")

        yield made


@asynccontextmanager
async def mcp_world(
    database: Database, *, now: datetime = NOW, pool: DatabaseSettings | None = None
) -> AsyncIterator[World]:
    """Open connections and put a process's methods together; nothing is delivered yet."""
    clock, agents = ManualClock(now), GivenAgents()
    owner = await asyncpg.connect(database.owner_url)
    writer = await asyncpg.connect(database.runtime_url)
    try:
        async with opened_events(database.url_of["mcp"], agents, clock=clock, pool=pool) as made:
            world = World(database, owner, writer, clock, agents, made(), made)
            await world.connect()
            yield world
    finally:
        await owner.close()
        await writer.close()


@asynccontextmanager
async def delivering(events: McpEvents) -> AsyncIterator[WebhookDeliveries]:
    """Run a process's feed and deliveries while the block runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(events.run(stop))
    try:
        yield events.deliveries
    finally:
        stop.set()
        await task


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds, for a bounded time."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@dataclass
class Subscriber:
    """A webhook on this machine that gives challenges back and keeps what comes.

    Attributes:
        url: its address.
        receiver: what came, in its order.
        statuses: what it answers to messages that are no challenge, one after the other; then 204.
        gives_back: whether it answers challenges as it should.
    """

    url: str
    receiver: Receiver
    statuses: list[int] = field(default_factory=list)
    gives_back: bool = True

    @property
    def messages(self) -> list[ReceivedPost]:
        """What came beside challenges."""
        return [each for each in self.receiver.received if orjson.loads(each.body).get("type") != "verification"]

    @property
    def event_ids(self) -> list[str]:
        """The ids of the events that came, in their order; control envelopes are left out."""
        bodies = (orjson.loads(each.body) for each in self.messages)
        return [body["eventId"] for body in bodies if "eventId" in body]

    async def reply(self, post: ReceivedPost, _: asyncio.StreamWriter) -> bytes:
        """Answer one request."""
        body = orjson.loads(post.body)
        if body.get("type") == "verification":
            given = body["challenge"] if self.gives_back else "something else"
            return answer(200, orjson.dumps({"challenge": given}), "Content-Type: application/json")
        return answer(self.statuses.pop(0) if self.statuses else 204)


@asynccontextmanager
async def subscriber() -> AsyncIterator[Subscriber]:
    """Run a webhook while the block runs."""
    async with receiving() as receiver:
        made = Subscriber(f"http://127.0.0.1:{receiver.port}/hook", receiver)
        receiver.reply = made.reply
        yield made
