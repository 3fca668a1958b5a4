"""Connections by consent, without pages, and what Calendly and the log say of them."""

from __future__ import annotations

from typing import Any

from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.oauth_refresh import credential_of
from slotwire.ingest.control.organization_records import store as store_organization
from tests.support.oauth_setup import OAuthSetup, granted
from tests.support.writing import write_all


async def connected(setup: OAuthSetup, place: int = 0, number: int = 0) -> ConnectionRecord:
    """Connect a member by consent, without subscribing anything."""
    now = setup.clock.now()
    pair = await granted(setup.client, setup.calendly.url, setup.settings, setup.flow.client, setup.user(place, number))
    identity = await setup.connections.identify(pair.access_token)
    await store_organization(setup.api.actions.pool, identity.org, identity.organization, None, now=now)
    return (await setup.connections.store_credential(identity, credential_of(pair, now))).connection


async def refreshed(setup: OAuthSetup) -> dict[str, int]:
    """How often Calendly refreshed, by user."""
    found: dict[str, int] = (await setup.client.get(f"{setup.calendly.url}/simulator/oauth")).json()["refreshed"]
    return found


async def told(setup: OAuthSetup, kind: str) -> list[dict[str, Any]]:
    """The events of a kind, once everything is written."""
    await write_all(setup.settings)
    return [dict(row) for row in await setup.events(kind)]
