"""What tests of the public endpoint need: a tenant of their own, a running endpoint, signed deliveries.

An independent signer: it follows docs/reference/calendly.md, "Webhook signature", not our verifier.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
from pydantic import SecretStr

from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.settings import HttpSettings, Settings, VaultSettings
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.signing_keys import mint_signing_key, signing_key_context
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.process import serving_hooks
from slotwire.schemas.ids import last_segment
from tests.support.plain_http import NO_TLS

SIGNATURE = "Calendly-Webhook-Signature"
READ_SECONDS = 60
"""How long a raw exchange may take."""


def random_key() -> str:
    """Make 32 random bytes as the settings take them."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


PATIENT_SECONDS = 14.0
"""Seconds for an answer where each has to be 200 on a busy machine, too; Calendly waits no longer than 15."""


def settings_for(database: Database, **http: Any) -> Settings:
    """Make settings for one test: its database, free ports, fresh keys, a short drain."""
    return Settings(
        database_url=SecretStr(database.runtime_url),
        public_url="http://127.0.0.1:1",
        http=HttpSettings(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "drain_seconds": 0.05,
                "hook_keys": (SecretStr(random_key()),),
                **http,
            }
        ),
        vault=VaultSettings(keys=(SecretStr(f"test:{random_key()}"),)),
        agents=AgentsSettings(settings_keys=(SecretStr(f"test:{random_key()}"),)),
    )


@dataclass(frozen=True)
class Hook:
    """One subscription as Calendly holds it."""

    organization: str
    path: str
    key: str
    subscription_id: UUID
    key_id: UUID


async def make_hook(
    settings: Settings, database: Database, *, organization: str | None = None, max_age_seconds: int | None = None
) -> Hook:
    """Write an organization (if it is new) and a subscription with its sealed key, as the manager does."""
    uri = organization or f"https://api.calendly.com/organizations/{secrets.token_hex(8).upper()}"
    addresses, vault = HookAddresses.from_settings(settings), Vault.from_settings(settings.vault)
    hook_id, key, now = addresses.mint(), mint_signing_key(), datetime.now(UTC)
    subscription, key_id, org = uuid4(), uuid4(), last_segment(uri)
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(
            "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ($1, $2, 0, $3)"
            " ON CONFLICT DO NOTHING",
            org,
            uri,
            now,
        )
        await connection.execute(
            "INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, events, state, max_age_seconds, created_at)"
            " VALUES ($1, $2, $3, 'organization', '{invitee.created}', 'active', $4, $5)",
            subscription,
            org,
            hook_id,
            max_age_seconds,
            now,
        )
        sealed = vault.seal(key.encode(), context=signing_key_context(org, subscription, key_id))
        await connection.execute(
            "INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at) VALUES ($1, $2, $3, $4)",
            key_id,
            subscription,
            sealed,
            now,
        )
    finally:
        await connection.close()
    return Hook(uri, f"/hooks/calendly/{addresses.hook(hook_id)}", key, subscription, key_id)


def sign(body: bytes, key: str, *, at: float | None = None) -> str:
    """Write the signature header for a body."""
    moment = int(datetime.now(UTC).timestamp() if at is None else at)
    digest = hmac.new(key.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def invitee_body(
    event: str = "invitee.created", *, invitee: str | None = None, told_at: str = "2026-11-23T09:00:00Z", **fields: Any
) -> bytes:
    """Write a delivery about an invitee; `fields` go into the payload."""
    uri = invitee or new_invitee()
    payload: dict[str, Any] = {
        "uri": uri,
        "email": "ada@example.com",
        "name": "Ada Example",
        "status": "canceled" if event == "invitee.canceled" else "active",
        "created_at": "2026-11-23T08:59:59.100000Z",
        "updated_at": "2026-11-23T08:59:59.100000Z",
        "event": uri.partition("/invitees/")[0],
        "scheduled_event": {
            "uri": uri.partition("/invitees/")[0],
            "name": "Intro",
            "start_time": "2026-12-01T10:00:00.000000Z",
            "end_time": "2026-12-01T10:30:00.000000Z",
            "event_memberships": [{"user": "https://api.calendly.com/users/HOST", "user_email": "host@example.com"}],
        },
        **fields,
    }
    return orjson.dumps({"event": event, "created_at": told_at, "created_by": None, "payload": payload})


def new_invitee() -> str:
    """Make the URI of an invitee nobody has seen."""
    return f"https://api.calendly.com/scheduled_events/{uuid4()}/invitees/{uuid4()}"


@dataclass(frozen=True)
class Endpoint:
    """A running public endpoint and a client for it."""

    url: str
    client: httpx.AsyncClient
    health: Health

    async def deliver(self, hook: Hook, body: bytes, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a signed delivery."""
        sent = {SIGNATURE: sign(body, hook.key), "Content-Type": "application/json", **(headers or {})}
        return await self.client.post(self.url + hook.path, content=body, headers=sent)


def raw_request(hook: Hook, body: bytes, *lines: str, version: str = "HTTP/1.1", length: int | None = None) -> bytes:
    """Write a signed POST by hand; `length` replaces the true Content-Length, and below zero omits the header."""
    head = [f"POST {hook.path} {version}", "Host: hooks.example.com", f"{SIGNATURE}: {sign(body, hook.key)}", *lines]
    if length is None or length >= 0:
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def exchange(endpoint: Endpoint, sent: bytes) -> bytes:
    """Send bytes on a fresh connection, keep it open, and return all that comes until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
    try:
        writer.write(sent)
        async with asyncio.timeout(READ_SECONDS):
            return await reader.read()
    finally:
        writer.close()


def with_role(settings: Settings, process: str) -> Settings:
    """Let the tests' login, a member of all roles, have the rights of one process's only."""
    url = settings.database_url.get_secret_value()
    if "://slotwire_app:" not in url or "role=" in url:
        return settings
    own = f"{url}{'&' if '?' in url else '?'}role=slotwire_{process}"
    return settings.model_copy(update={"database_url": SecretStr(own)})


@asynccontextmanager
async def running_endpoint(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Endpoint]:
    """Run the endpoint in this process while the block runs, with the rights of its own role."""
    health, settings = Health("serve"), with_role(settings, "serve")
    async with (
        serving_hooks(settings, health, clock or SystemClock()) as url,
        httpx.AsyncClient(timeout=60, verify=NO_TLS) as client,
    ):
        yield Endpoint(url, client, health)
