"""What tests of connections need: a simulator whose organizations are known here, and a `Connections`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, open_calendly
from slotwire.ingest.control.connection_records import connection_context
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import write_all

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
REVOKED = "io.slotwire.connection.revoked.v1"
ONCE = CallRetries(attempts=1)


@dataclass(frozen=True)
class ConnectionsSetup:
    """A simulator, our database, and a `Connections` between them."""

    settings: Settings
    database: Database
    pool: Pool
    calendly: CalendlyHttp
    connections: Connections
    clock: ManualClock
    running: Simulator
    http: httpx.AsyncClient

    def users(self, number: int = 0) -> list[str]:
        """The users of an organization, by their ids: its owner, an admin, two plain ones."""
        organization = list(self.running.world.organizations)[number]
        return [user.id for user in self.running.world.members(organization)]

    def org(self, number: int = 0) -> str:
        """An organization's id."""
        return list(self.running.world.organizations)[number]

    def token(self, place: int = 0, number: int = 0) -> SecretStr:
        """A token of a user, by its place in the organization."""
        user = self.users(number)[place]
        return SecretStr(next(token.value for token in self.running.world.tokens if token.user == user))

    async def simulate(self, path: str, **body: object) -> dict[str, Any]:
        """Let something happen at Calendly."""
        answer = await self.http.post(f"/simulator/{path}", json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def issue(
        self, place: int = 0, *, scopes: Sequence[str] = ("default",), seconds: float | None = None
    ) -> SecretStr:
        """Make another token of a user; one that expires, if `seconds` are given."""
        more = {} if seconds is None else {"expires_in_seconds": seconds}
        made = await self.simulate("tokens", user=self.users()[place], scopes=list(scopes), **more)
        return SecretStr(made["token"])

    async def revoke(self, token: SecretStr) -> None:
        """Revoke a token at Calendly."""
        await self.simulate("tokens/state", token=token.get_secret_value(), state="revoked")

    async def calls(self) -> list[str]:
        """What was asked at Calendly so far: paths, in order."""
        answer = await self.http.get("/simulator/calls", params={"count": "1000"})
        assert answer.is_success, answer.text
        return [item["path"] for item in answer.json()["items"]]

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Ask the database as its owner."""
        connection = await asyncpg.connect(self.database.owner_url)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def tamper(self, statement: str, *arguments: object) -> None:
        """Change rows as somebody who owns the database and switches its triggers off."""
        connection = await asyncpg.connect(self.database.owner_url)
        try:
            async with connection.transaction():
                await connection.execute("ALTER TABLE slotwire.connections DISABLE TRIGGER connections_step")
                await connection.execute(statement, *arguments)
                await connection.execute("ALTER TABLE slotwire.connections ENABLE TRIGGER connections_step")
        finally:
            await connection.close()

    async def revoked_events(self) -> list[dict[str, Any]]:
        """The events of revoked credentials in the log, once everything accepted is written."""
        await write_all(self.settings, clock=self.clock)
        return await self.rows("SELECT * FROM slotwire.events WHERE type = $1 ORDER BY position", REVOKED)


def another_key(name: str) -> SecretStr:
    """Make an entry of the vault's keys."""
    return SecretStr(f"{name}:{encode_base64url(secrets.token_bytes(32))}")


@asynccontextmanager
async def connections_setup(database: Database, *, organizations: int = 2) -> AsyncIterator[ConnectionsSetup]:
    """Run a simulator and write its organizations into the database."""
    clock = ManualClock(NOW)
    async with simulator(Options(seed="connections", organizations=organizations, rate_limit=AMPLE)) as running:
        settings = settings_for(database)
        settings = settings.model_copy(
            update={"calendly": CalendlySettings(api_url=running.url, assumed_calls_per_minute=AMPLE)}
        )
        async with (
            create_pool(database.runtime_url, settings.database, application="test") as pool,
            httpx.AsyncClient(base_url=running.url, timeout=60, verify=NO_TLS) as http,
            open_calendly(settings.calendly, Budgets(pool, clock, settings.calendly)) as calendly,
        ):
            for org in running.world.organizations:
                await pool.execute(
                    "INSERT INTO slotwire.organizations (org, uri, external_id, shard, created_at)"
                    " VALUES ($1, $2, $3, 0, $4)",
                    org,
                    f"https://api.calendly.com/organizations/{org}",
                    f"customer-{org}",
                    NOW,
                )
            connections = Connections.from_settings(settings, pool, clock, calendly, retries=ONCE)
            yield ConnectionsSetup(settings, database, pool, calendly, connections, clock, running, http)


async def write_connection(
    settings: Settings, database: Database, org: str, *, state: str = "active", reason: str | None = None
) -> None:
    """Write a connection without asking Calendly, sealed with the settings' key."""
    made, credential = uuid4(), uuid4()
    sealed = Vault.from_settings(settings.vault).seal(b"token", context=connection_context(org, made, credential))
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(
            "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, state, checked_at,"
            " created_at, changed_at)"
            " VALUES ($1, $2, 'personal_access_token', $1::uuid::text, $3, $4, 'active', $5, $5, $5)",
            made,
            org,
            credential,
            sealed,
            NOW,
        )
        await connection.execute(
            "UPDATE slotwire.connections SET state = $2, reason = $3 WHERE id = $1", made, state, reason
        )
    finally:
        await connection.close()
