"""Very many organizations, connected and wanted to be subscribed, without a call to Calendly for that."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import asyncpg

from slotwire.ingest.control.catalogue import DEFAULT_EVENTS
from slotwire.ingest.control.connection_records import connection_context
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.model import uri
from slotwire.ingest.simulator.world import World


async def write_organizations(settings: Settings, database: Database, world: World, now: datetime) -> None:
    """Write every organization of a simulated world, with the credential of its owner and one wanted subscription."""
    vault = Vault.from_settings(settings.vault)
    organizations, connections, wanted = [], [], []
    tokens = {token.user: token.value for token in world.tokens}
    for org in world.organizations:
        owner = world.members(org)[0]
        made, credential = uuid4(), uuid4()
        sealed = vault.seal(tokens[owner.id].encode(), context=connection_context(org, made, credential))
        organizations.append((org, uri("organizations", org), 0, now))
        user = uri("users", owner.id)
        connections.append(
            (made, org, "personal_access_token", user, "owner", credential, sealed, "active", now, now, now)
        )
        wanted.append((org, "organization", "", list(DEFAULT_EVENTS), now))
    owner_connection = await asyncpg.connect(database.owner_url)
    try:
        for table, columns, rows in (
            ("organizations", "org, uri, shard, created_at", organizations),
            (
                "connections",
                "id, org, kind, user_uri, role, credential_id, sealed, state, checked_at, created_at, changed_at",
                connections,
            ),
            ("wanted_subscriptions", "org, scope, subject, events, changed_at", wanted),
        ):
            places = ", ".join(f"${place}" for place in range(1, columns.count(",") + 2))
            await owner_connection.executemany(f"INSERT INTO slotwire.{table} ({columns}) VALUES ({places})", rows)
    finally:
        await owner_connection.close()
