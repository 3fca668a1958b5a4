"""What tests of the management API share: the API running in this process, keys, and rows to be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx

from slotwire.handlers.long_work.journal import Asked, ClaimRequest, Entry, RunClaim, pack
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.records import Record
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.letters import KeptLetters
from slotwire.handlers.testing import record_of
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.listener import listen
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.admin_api import Limits, build_app
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.process import MakeBudgets, operating
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from slotwire.schemas.events import InviteeCanceled
from tests.support.agent_setup import invitee_created
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import with_role

EPOCH = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WHAT = '{"amount":70}'
CREATED = "com.calendly.invitee.created.v1"


@dataclass(frozen=True)
class ManagementApi:
    """A running management API and a client for it."""

    actions: Actions
    url: str
    client: httpx.AsyncClient

    async def key(self, role: Role = Role.ADMIN, org: str | None = None) -> str:
        """Make a key."""
        made = await self.actions.keys.create(COMMAND_LINE, KeyRequest(role=role, organization=org))
        return made.key

    async def ask(
        self,
        method: str,
        path: str,
        key: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request with a key."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        return await self.client.request(method, self.url + path, headers=sent, json=json, content=content)


@asynccontextmanager
async def management_api(
    settings: Settings,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    budgets: MakeBudgets = Budgets,
) -> AsyncIterator[ManagementApi]:
    """Run the management API while the block runs, with the rights of its own role."""
    settings = with_role(settings, "control")
    async with (
        operating(settings, clock or SystemClock(), application="control", budgets=budgets) as actions,
        listen(build_app(actions, limits), "127.0.0.1", 0, setting="none") as url,
        httpx.AsyncClient(timeout=60, verify=NO_TLS) as client,
    ):
        yield ManagementApi(actions, url, client)


async def write_organization(database: Database, org: str, *, shard: int = 0, external_id: str | None = None) -> None:
    """Make an organization known."""
    await _as_owner(
        database,
        "INSERT INTO slotwire.organizations (org, uri, external_id, shard, created_at) VALUES ($1, $2, $3, $4, $5)",
        [(org, f"https://api.calendly.com/organizations/{org}", external_id, shard, EPOCH)],
    )


async def write_events(
    database: Database,
    org: str,
    count: int,
    *,
    shard: int = 0,
    type_: str = CREATED,
    subject: str = "https://api.calendly.com/scheduled_events/E/invitees/I",
    data: bytes = b'{"uri":"x"}',
) -> list[UUID]:
    """Put events into the log, and return their ids in its order."""
    made = [uuid4() for _ in range(count)]
    await _as_owner(
        database,
        "WITH made AS ("
        " INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at, origin,"
        " inferred, data) VALUES ($1, nextval('slotwire.positions'), $2, $3, $4, $5, 'k', $6, $6, 'webhook', false, $7)"
        " RETURNING event_id, shard, position)"
        " INSERT INTO slotwire.identities (event_id, shard, position) SELECT * FROM made",
        [(shard, item, type_, org, subject, EPOCH, data) for item in made],
    )
    return made


async def write_parked(database: Database, event_id: UUID) -> None:
    """Park an event that is in the log, as the relay does when Kafka refuses its record."""
    await _as_owner(
        database,
        "INSERT INTO slotwire.parked_events SELECT event_id, shard, position, 'message_size_too_large', $2"
        " FROM slotwire.identities WHERE event_id = $1",
        [(event_id, EPOCH)],
    )


async def write_letter(database: Database, org: str, offset: int, *, agent: str = "crm") -> UUID:
    """Have an agent have given up an event, and return the dead letter's id."""
    record = record_of(replace(invitee_created("given-up", offset + 1), source=f"/organizations/{org}"), offset=offset)
    url = database.url_of["agents"]
    async with create_pool(url, DatabaseSettings(pool_size=1), application="test") as pool:
        letters = KeptLetters(pool, NoTopic(), agent=agent, clock=SystemClock())
        await letters.put(record, GiveUpReason("not today", attempts=1, trace="crm/handler.py:7 handle"))
        found: UUID = await pool.fetchval(
            "SELECT id FROM slotwire.dead_letters WHERE agent = $1 AND record_offset = $2 AND org = $3",
            *(agent, offset, org),
        )
    return found


class NoTopic:
    """Dead letters for nobody else."""

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Take one."""


async def write_deliveries(
    database: Database, org: str, count: int, *, outcome: str = "stored", event_id: UUID | None = None, first: int = 1
) -> list[UUID]:
    """Write deliveries with what became of them, and return their ids in the order of arrival."""
    made = [UUID(int=(first + at) << 64) for at in range(count)]
    await _as_owner(
        database,
        "WITH came AS ("
        " INSERT INTO slotwire.deliveries (shard, position, total, id, org, subscription_id, origin, received_at,"
        " signed_at, stale, content_encoding, body)"
        " VALUES (0, nextval('slotwire.accepted_0'), 0, $1, $2, $3, 'webhook', $4, $4, false, '', '\\x7b7d')"
        " RETURNING shard, position)"
        " INSERT INTO slotwire.results (shard, position, org, outcome, event_id, event_name, settled_at)"
        " SELECT shard, position, $2, $5, $6, 'invitee.created', $4 FROM came WHERE $5 <> 'accepted'",
        [(item, org, UUID(int=1), EPOCH + timedelta(seconds=at), outcome, event_id) for at, item in enumerate(made)],
    )
    return made


async def write_quarantine(
    database: Database,
    org: str,
    bodies: Sequence[bytes],
    *,
    reason: str = "unknown_event",
    first: int = 1,
    signed_before: timedelta = timedelta(0),
) -> list[UUID]:
    """Leave deliveries in quarantine as a version that did not understand them does; return their ids.

    The deliveries themselves are gone, as they are when their range was dropped: the quarantine has all that is needed.
    """
    made = [UUID(int=(first + at) << 64) for at in range(len(bodies))]
    encoding = "gzip" if reason == "compressed" else ""
    await _as_owner(
        database,
        "INSERT INTO slotwire.quarantine (delivery_id, shard, position, org, subscription_id, origin, received_at,"
        " signed_at, content_encoding, body, reason, detail, created_at)"
        " VALUES ($1, 0, 0, $2, $3, 'webhook', $4, $5, $6, $7, $8, '', $4)",
        [
            (item, org, UUID(int=1), EPOCH, EPOCH - signed_before, encoding, body, reason)
            for item, body in zip(made, bodies, strict=True)
        ],
    )
    return made


async def write_booking(database: Database, org: str, invitee: str, *, waits_since: datetime | None = None) -> None:
    """Make a booking known, without an event."""
    await _as_owner(
        database,
        "INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees,"
        " new_invitees, marks, clears, hosts, waits_since, changed_at)"
        " VALUES ($1, $2, 1, 'active', 'k', $1, '{}', '{}', '[]', '[]', '{}', $3, $4)",
        [(invitee, org, waits_since, EPOCH)],
    )


async def write_availability(database: Database, org: str, user: str, event_type: str) -> None:
    """Have availability been read, and published."""
    await _as_owner(
        database, "INSERT INTO slotwire.availability_writers (org, writer) VALUES ($1, 'somebody')", [(org,)]
    )
    await _as_owner(
        database,
        "INSERT INTO slotwire.availability (org, user_uri, event_type, ends, read_at, version, published)"
        " VALUES ($1, $2, $3, $4, $4, 1, 1)",
        [(org, user, event_type, EPOCH)],
    )


async def _as_owner(database: Database, sql: str, rows: list[tuple[object, ...]]) -> None:
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.executemany(sql, rows)
    finally:
        await connection.close()


async def write_run(database: Database, org: str, number: int, *, agent: str = "crm") -> UUID:
    """Have an agent have set a run aside that waits for a cancellation after a step, and return the run's id."""
    event = replace(invitee_created(f"waits-{number}", number), source=f"/organizations/{org}")
    record = record_of(event, offset=number)
    clock = SystemClock()
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        journal = PostgresJournal(pool, agent=agent, clock=clock, claim_seconds=5)
        claim = await journal.claim(ClaimRequest(record, event, "1"))
        assert isinstance(claim, RunClaim)
        assert await journal.start_step(event.id, claim.epoch, 0, "charge")
        assert await journal.end_entry(event.id, claim.epoch, Entry(0, "charge", "step", "started"), b'{"paid":7}')
        wait = Entry(1, "the end", "wait", "open", None, (InviteeCanceled.type,), clock.now() + timedelta(days=1))
        assert await journal.open_wait(event.id, claim.epoch, wait, pack(record, event))
        found: UUID = await pool.fetchval("SELECT id FROM slotwire.runs WHERE event_id = $1", event.id)
    return found


async def write_approval(
    database: Database, org: str, number: int, *, agent: str = "crm", days: int = 1, what: str = WHAT
) -> UUID:
    """Have an agent ask for an approval, and return its id."""
    event = replace(invitee_created(f"asks-{number}", number), source=f"/organizations/{org}")
    record = record_of(event, offset=number)
    clock, approval = SystemClock(), uuid4()
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        journal = PostgresJournal(pool, agent=agent, clock=clock, claim_seconds=5)
        claim = await journal.claim(ClaimRequest(record, event, "1"))
        assert isinstance(claim, RunClaim)
        entry = Entry(0, "refund", "approval", "open", deadline=clock.now() + timedelta(days=days))
        assert await journal.ask_approval(
            event.id, claim.epoch, entry, pack(record, event), approval, Asked(what, "finance")
        )
    return approval


async def write_unknown(database: Database, org: str, number: int, *, agent: str = "crm") -> UUID:
    """Have an agent have a run held whose step `charge` ended nobody knows how, and return the run's id."""
    event = replace(invitee_created(f"unknown-{number}", number), source=f"/organizations/{org}")
    record = record_of(event, offset=number)
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        journal = PostgresJournal(pool, agent=agent, clock=SystemClock(), claim_seconds=5)
        claim = await journal.claim(ClaimRequest(record, event, "1"))
        assert isinstance(claim, RunClaim)
        assert await journal.start_step(event.id, claim.epoch, 0, "charge")
        assert await journal.set_aside(event.id, claim.epoch, "unknown", pack(record, event), reason="charge")
        found: UUID = await pool.fetchval("SELECT id FROM slotwire.runs WHERE event_id = $1", event.id)
    return found
