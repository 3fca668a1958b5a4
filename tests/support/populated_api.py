"""The management API with rows behind each of its routes, and a valid request for each, made from the route table.

A new route is covered without a change here, unless it needs a body (add it to `BODIES`), a required parameter
(`PARAMETERS`) or an id of its resource (`PopulatedApi.ids`); until it is there, its test fails.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlencode
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from pydantic import BaseModel, SecretStr

from slotwire.ingest.control.connect_links import digest, pending_context
from slotwire.ingest.control.oauth_refresh import oauth_client
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.action_models import ActionRequest, DecideRequest
from slotwire.ingest.operate.admin_api import Limits
from slotwire.ingest.operate.agent_settings_models import AgentSettingsRequest
from slotwire.ingest.operate.approval_models import DecisionRequest
from slotwire.ingest.operate.booking_models import TimelineQuery
from slotwire.ingest.operate.connect_link_models import (
    CodeRequest,
    ConnectionStart,
    ConnectLinkCreated,
    ConnectLinkRequest,
)
from slotwire.ingest.operate.dead_letter_models import (
    AllLettersRequest,
    EditRequest,
    LetterDiscardRequest,
    RedriveRequest,
)
from slotwire.ingest.operate.erasure_models import ErasureRequest
from slotwire.ingest.operate.mcp_agent_models import McpAgentRequest
from slotwire.ingest.operate.models import EventQuery, KeyRequest
from slotwire.ingest.operate.organization_models import OrganizationRequest, RenameRequest
from slotwire.ingest.operate.quarantine_models import DiscardRequest
from slotwire.ingest.operate.reconciliation_models import ReconciliationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE, Principal, Role
from slotwire.ingest.operate.routes.base import Route
from slotwire.ingest.operate.run_models import StepDecision
from slotwire.ingest.operate.subscription_models import SubscriptionRequest
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.model import API
from slotwire.schemas.codec import encode_data
from slotwire.schemas.ids import last_segment
from tests.support.agent_setup import invitee_created
from tests.support.management_api import (
    WHAT,
    ManagementApi,
    management_api,
    write_approval,
    write_availability,
    write_booking,
    write_deliveries,
    write_events,
    write_letter,
    write_organization,
    write_parked,
    write_quarantine,
    write_run,
    write_unknown,
)
from tests.support.mcp_subscribed import write_mcp_subscription
from tests.support.oauth_setup import RETURN, granted, oauth_settings
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import until_written, writing

IN_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
"""For tests that use something of their file's."""
OTHER = "SOMEBODYELSE"
INVITEE = "https://api.calendly.com/scheduled_events/E/invitees/I"
PARAMETERS: Mapping[type[BaseModel], Mapping[str, str]] = {TimelineQuery: {"invitee": INVITEE}}
CODE = "a-code-that-waits"
LETTER_VERBS = ((1, "redrive"), (2, "edit"), (3, "discard"))
EDITED = encode_data(invitee_created("edited", 1).data).decode()
BODIES: Mapping[type[BaseModel], Callable[[Simulator], dict[str, object]]] = {
    OrganizationRequest: lambda running: {"token": running.owner_token},
    RenameRequest: lambda _: {"external_id": "ours"},
    ConnectionStart: lambda running: {"token": running.owner_token},
    ConnectLinkRequest: lambda running: {"organization": last_segment(running.organization)},
    CodeRequest: lambda _: {"code": CODE},
    SubscriptionRequest: lambda _: {"events": ["invitee.created", "invitee.canceled"]},
    DiscardRequest: lambda _: {"why": "not wanted"},
    LetterDiscardRequest: lambda _: {"why": "not wanted"},
    RedriveRequest: lambda _: {"discard_older": False},
    AllLettersRequest: lambda _: {"agent": "crm"},
    EditRequest: lambda _: {"value": EDITED},
    ReconciliationRequest: lambda running: {"organization": last_segment(running.organization)},
    ActionRequest: lambda running: {
        "organization": last_segment(running.organization),
        "idempotency_key": "one",
        "action": {"verb": "clear_no_show", "mark": "NONE"},
    },
    DecideRequest: lambda _: {"outcome": "done", "why": "seen"},
    AgentSettingsRequest: lambda running: {
        "agent": "notify",
        "organization": last_segment(running.organization),
        "settings": {"form": "chat", "url": "https://receiver.example.com/"},
    },
    DecisionRequest: lambda _: {"decision": "deny", "digest": sha256(WHAT.encode()).hexdigest()},
    StepDecision: lambda _: {"step": "charge", "outcome": "done", "result": {"paid": 7}, "why": "seen"},
    McpAgentRequest: lambda running: {
        "name": "made-in-passing",
        "organizations": [last_segment(running.organization)],
    },
    ErasureRequest: lambda running: {
        "organization": last_segment(running.organization),
        "email": "nobody@example.org",
    },
    KeyRequest: lambda _: {"role": "reader", "label": "made in passing"},
}
_TRACES = {"audit", "idempotent_answers", "rate_budgets", "rate_waiters", "uses"}
"""Tables that tell of requests, refused ones too, and of calls to Calendly, reading ones too."""
_TABLES = """
SELECT c.relname AS name, EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org' AND NOT a.attisdropped) AS bound
FROM pg_class c WHERE c.relnamespace = 'slotwire'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1
"""


@dataclass(frozen=True)
class PopulatedApi:
    """The API with something behind each route, for one organization; another one is known too.

    Attributes:
        ids: an id of the organization by the word of the path before it, or after it, or by both.
    """

    api: ManagementApi
    running: Simulator
    database: Database
    ids: Mapping[str, UUID]
    org: str

    def path(self, route: Route, *, org: str | None = None) -> str:
        """Fill a route's path and what its query cannot do without."""
        words = route.path.split("/")
        pairs = (f"{words[2]}/{words[-1]}", "/".join(words[2:4]))
        about = next((word for word in (*pairs, *reversed(words)) if word in self.ids), "")
        path = route.path.format(org=org or self.org, id=self.ids.get(about, uuid4()))
        needed = {} if route.query is None else PARAMETERS.get(route.query, {})
        return f"{path}?{urlencode(needed)}" if needed else path

    def body(self, route: Route) -> dict[str, object] | None:
        """Make a body that fits."""
        return None if route.takes is None else BODIES[route.takes](self.running)

    async def send(self, route: Route, key: str | None, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a request that fits the route."""
        return await self.api.ask(route.method, self.path(route), key, json=self.body(route), headers=headers)

    async def state(self, org: str | None = None) -> dict[str, object]:
        """Everything that a change could change, here and at the simulator; of one organization, or all.

        Traces of requests, and the last use of keys and connections, are left out.
        """
        connection = await asyncpg.connect(self.database.owner_url)
        try:
            tables = {
                table["name"]: table["bound"]
                for table in await connection.fetch(_TABLES)
                if table["name"] not in _TRACES and (org is None or table["bound"])
            }
            # All at once: it is asked for hundreds of times.
            each = (
                f"SELECT '{name}' AS name, to_jsonb(t) - 'last_used_at' - 'checked_at' AS row FROM slotwire.{name} t"
                f" WHERE $1::text IS NULL OR {'t.org' if bound else '$1'} = $1"
                for name, bound in tables.items()
            )
            rows = await connection.fetch(" UNION ALL ".join(each) + " ORDER BY 1, 2", org)
        finally:
            await connection.close()
        found: dict[str, object] = {name: [row["row"] for row in rows if row["name"] == name] for name in tables}
        found["at_calendly"] = sorted(item.id for item in self.running.engine.ledger.subscriptions())
        return found

    @property
    def calls(self) -> int:
        """How many calls were made at Calendly."""
        return int(str(self.running.gate.calls.summary()["calls"]))

    async def audited(self, action: str) -> set[tuple[str, str]]:
        """Who tried an action, and with what result."""
        rows = await self.api.actions.pool.fetch(
            "SELECT actor, result FROM slotwire.audit WHERE action = $1 AND result <> 'started'", action
        )
        return {(row["actor"], row["result"]) for row in rows}

    async def key_id(self, key: str) -> str:
        """Return the id of a key of the API."""
        found = await self.api.actions.pool.fetchval(
            "SELECT id::text FROM slotwire.api_keys WHERE hash = sha256(convert_to($1, 'UTF8'))", key
        )
        return str(found)


async def make_link(api: ManagementApi, org: str, **more: str) -> ConnectLinkCreated:
    """Make a link for an organization."""
    return await api.actions.connect_links.create(COMMAND_LINE, ConnectLinkRequest(organization=org, **more))


async def make_action(api: ManagementApi, database: Database, running: Simulator) -> UUID:
    """Make an action that waits for a person."""
    request = ActionRequest.model_validate({**BODIES[ActionRequest](running), "idempotency_key": "for-a-person"})
    item, _ = await api.actions.performed.create(COMMAND_LINE, request)
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(
            "UPDATE slotwire.actions SET state = 'person', reason = 'several_fit', evidence = NULL, request = '{}'"
        )
    finally:
        await connection.close()
    return item.id


async def make_pending(api: ManagementApi, settings: Settings, running: Simulator, org: str) -> UUID:
    """Make a link that waits for its code: the owner has consented."""
    link, now = await make_link(api, org, return_url=RETURN), api.actions.clock.now()
    oauth = oauth_client(settings, api.actions.calendly)
    assert oauth is not None
    owner = running.world.members(org)[0].id
    async with httpx.AsyncClient(timeout=60, verify=NO_TLS) as client:
        pair = await granted(client, running.url, settings, oauth, owner)
    told = pair.model_dump(mode="json") | {
        "access_token": pair.access_token.get_secret_value(),
        "refresh_token": pair.refresh_token.get_secret_value(),
    }
    sealed = Vault.from_settings(settings.vault).seal(json.dumps(told).encode(), context=pending_context(link.id))
    await api.actions.pool.execute("UPDATE slotwire.connect_links SET spent_at = $2 WHERE id = $1", link.id, now)
    await api.actions.pool.execute(
        "INSERT INTO slotwire.pending_connections VALUES ($1, $2, $3, $4, $5)",
        *(link.id, digest(CODE), sealed, now, now + timedelta(minutes=10)),
    )
    return link.id


@asynccontextmanager
async def populated_api(database: Database, seed: str, limits: Limits | None = None) -> AsyncIterator[PopulatedApi]:
    """Something behind each route."""
    async with simulator(Options(seed=seed, rate_limit=AMPLE)) as running:
        settings = oauth_settings(settings_for(database), running.url, listener=9, seed=seed)
        async with management_api(settings, limits=limits) as api:
            request = OrganizationRequest(token=SecretStr(running.owner_token))
            added = await api.actions.organizations.add(COMMAND_LINE, request)
            org = added.organization.organization
            key = await api.actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.READER, organization=org))
            await write_organization(database, OTHER, external_id="theirs")
            await write_events(database, org, 2)
            await write_events(database, OTHER, 2, subject=INVITEE + "2")
            await write_deliveries(database, org, 2)
            await write_deliveries(database, OTHER, 2, first=100)
            [event, parked] = await api.actions.events.latest(Principal(Role.READER, org), EventQuery())
            await write_parked(database, parked.id)
            await write_booking(database, org, INVITEE)
            await write_booking(database, OTHER, INVITEE + "2")
            owner = running.world.members(org)[0].id
            await write_availability(database, org, f"{API}/users/{owner}", f"{API}/event_types/CALL")
            await write_quarantine(database, OTHER, [b"{}"], first=300)
            kept = await write_quarantine(database, org, [b"{}"] * 2, first=200)
            hole = await api.actions.reconciliations.create(COMMAND_LINE, ReconciliationRequest(organization=org))
            action = await make_action(api, database, running)
            told = AgentSettingsRequest.model_validate(BODIES[AgentSettingsRequest](running))
            shipped = await api.actions.agent_settings.set(COMMAND_LINE, told)
            agent = await api.actions.mcp_agents.create(
                COMMAND_LINE, McpAgentRequest(name="helper", organizations=(org,))
            )
            ids = {
                "actions": action,
                "decide": action,
                "quarantine": kept[0],
                "retry": kept[0],
                "quarantine/discard": kept[1],
                "dead-letters": await write_letter(database, org, 0),
                **{f"dead-letters/{verb}": await write_letter(database, org, n) for n, verb in LETTER_VERBS},
                "approvals": await write_approval(database, org, 11),
                "approvals/decide": await write_approval(database, org, 12),
                "approvals/link": await write_approval(database, org, 13),
                "settings": shipped.id,
                "runs": await write_run(database, org, 1),
                "runs/cancel": await write_run(database, org, 2),
                "runs/decide": await write_unknown(database, org, 21),
                "events": event.id,
                "settle": parked.id,
                "subscriptions": added.subscriptions[0].id,
                "connections": added.connection_id,
                "connect-links": (await make_link(api, org)).id,
                "exchange": await make_pending(api, settings, running, org),
                "keys": key.id,
                "erasures": await api.actions.pool.fetchval(
                    "SELECT erasure FROM slotwire.begin_erasure($1, $2, 'gone@example.org', '{}', 'somebody', $3)",
                    *(uuid4(), org, api.actions.clock.now()),
                ),
                "agents": agent.id,
                "mcp_agents": agent.id,
                "mcp/subscriptions": (subscribed := await write_mcp_subscription(database, org, agent.id)),
                "mcp_subscriptions": subscribed,
                "reconciliations": hole.id,
                "signing-keys": await api.actions.pool.fetchval(
                    "SELECT id FROM slotwire.signing_keys WHERE subscription_id = $1", added.subscriptions[0].id
                ),
            }
            async with writing(settings):  # begins here: it takes what was put into the tables above for settled
                await until_written(database.owner_url)
                yield PopulatedApi(api, running, database, ids, org)
