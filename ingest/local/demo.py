"""The demo of `slotwire local`: one subscribed organization, and meetings that are booked, moved and canceled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.settings import Settings

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.roles import Principal

STORY_SECONDS = 3.0
"""The pause between two steps of the story."""


@dataclass(frozen=True, slots=True)
class DemoSubscription:
    """The demo organization's subscription.

    Attributes:
        organization: its URI.
        hook_url: the address Calendly sends to.
        signing_key: the key of its signatures.
        token: the token of the organization's owner at the simulator.
        admin_key: an admin key of the management API.
    """

    organization: str
    hook_url: str = field(repr=False)
    signing_key: str = field(repr=False)
    token: str = field(repr=False)
    admin_key: str = field(repr=False)


async def subscribe(settings: Settings, stored_key: str) -> DemoSubscription:
    """Subscribe the simulator's first organization as an operator does; do nothing if it is subscribed.

    Args:
        settings: the shared settings of the installation.
        stored_key: the admin key of an earlier run; empty if there was none.

    Raises:
        SlotwireError: the simulator or Postgres refused.
    """
    from slotwire.ingest.control.subscription_records import read_one
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.postgres import borrowed
    from slotwire.ingest.keys.hooks import HookAddresses
    from slotwire.ingest.keys.signing_keys import load_keys
    from slotwire.ingest.keys.vault import Vault
    from slotwire.ingest.operate.organization_models import OrganizationRequest
    from slotwire.ingest.operate.process import operating
    from slotwire.ingest.operate.roles import Principal, Role

    token = await asyncio.to_thread(_owner_token, settings.calendly.api_url)
    async with operating(settings, clock_of(settings), application="local") as actions:
        owner = Principal(Role.ADMIN)
        item = (await actions.organizations.add(owner, OrganizationRequest(token=SecretStr(token)))).subscriptions[0]
        hook_id = (await read_one(actions.pool, item.id, item.organization)).hook_id
        async with borrowed(actions.pool) as connection:
            record = await load_keys(connection, Vault.from_settings(settings.vault), hook_id)
        if record is None or not record.keys:
            raise SlotwireError("the demo organization's subscription has no signing key")
        url = HookAddresses.from_settings(settings).url(hook_id)
        admin_key = await _admin_key(actions, owner, stored_key)
        return DemoSubscription(record.organization, url, next(iter(record.keys.values())).decode(), token, admin_key)


async def _admin_key(actions: Actions, owner: Principal, stored: str) -> str:
    """Return the stored key if it is valid, else a new one; the database holds only its hash."""
    from slotwire.ingest.operate.models import KeyRequest
    from slotwire.ingest.operate.roles import Role

    known = await actions.callers.recognize(stored) if stored else None
    if known is not None and known.role is Role.ADMIN:
        return stored
    return (await actions.keys.create(owner, KeyRequest(role=Role.ADMIN, label="slotwire local"))).key


async def mcp_token(settings: Settings, name: str, organization: str) -> str:
    """Register an agent of MCP with every preset, unless there is one, and make a token for who was connected first.

    Args:
        settings: the shared settings of the installation.
        name: of the agent.
        organization: the URI of the demo's organization.
    """
    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.operate.mcp_agent_models import McpAgentRequest, McpTokenRequest
    from slotwire.ingest.operate.models import PageQuery
    from slotwire.ingest.operate.process import operating
    from slotwire.ingest.operate.roles import Principal, Role
    from slotwire.schemas.ids import last_segment

    owner, org = Principal(Role.ADMIN), last_segment(organization)
    async with operating(settings, clock_of(settings), application="local") as actions:
        try:
            await actions.mcp_agents.create(
                owner,
                McpAgentRequest(name=name, organizations=(org,), tools=("operate",), label="slotwire local"),
            )
        except RequestRefused as error:
            if error.code != "name_taken":
                raise
        first = (await actions.connections.list(owner, org, PageQuery(limit=1))).items[0]
        return (await actions.mcp_agents.issue(owner, name, McpTokenRequest(user=first.user_uri))).token


async def start_story(simulator_url: str) -> None:
    """Make the simulator book, move and cancel meetings until it stops."""

    def start() -> None:
        from slotwire.ingest.simulator.client import SimulatorClient

        with SimulatorClient(simulator_url) as client:
            client.post("story", interval_seconds=STORY_SECONDS)

    await asyncio.to_thread(start)


def _owner_token(simulator_url: str) -> str:
    from slotwire.ingest.simulator.client import SimulatorClient

    with SimulatorClient(simulator_url) as client:
        users = client.get("world")["organizations"][0]["users"]
    owner = next(user for user in users if user["role"] == "owner")
    return str(owner["tokens"][0]["token"])
