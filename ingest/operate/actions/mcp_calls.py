"""Calls and actions that agents of MCP ask for: one tool, as one user, with the user's own credential and no other's.

The process that asks has no credential. It comes with a grant; here is compared again what the agent has now.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from slotwire.ingest.control.actions.intents import INTENT, target_of
from slotwire.ingest.control.calendly_client import operations
from slotwire.ingest.control.calendly_client.operations import PreparedCall
from slotwire.ingest.control.calendly_client.pages import MAX_TOKEN
from slotwire.ingest.control.calendly_client.resources import ORIGIN
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.connection_records import ConnectionRecord, read_of_user
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused
from slotwire.ingest.foundation import operation_table
from slotwire.ingest.foundation.operation_table import Operation
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.operate.action_models import ActionItem, ActionRequest
from slotwire.ingest.operate.actions.actions import PerformedActions
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.actions.calendly import without_hooks
from slotwire.ingest.operate.actions.granted_calls import AHEAD, MAX_REMOVED
from slotwire.ingest.operate.calendly_models import GrantedAction, McpCall
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.schemas.ids import last_segment

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_INVITEES = "list-event-invitees"
_EVENT_TYPE_OF: Mapping[str, str] = MappingProxyType(
    {"get-event-type": "uuid", "list-event-type-available-times": "event_type"}
)
"""The operations that are about an event type, each with the parameter that names it."""
MAX_TOLD = 50
"""Events of each booking of a chain, the newest first, in which its event type is looked for."""


@dataclass(frozen=True, slots=True)
class McpGrant:
    """What an agent may have done, once it has been compared with what it has now.

    Attributes:
        agent: its id.
        name: its name.
        org: the user's organization.
        user_uri: as whom.
        tool: the one tool.
        chain: the only chain of bookings it may be about; None for all of the user's.
        call: the call it was made for.
    """

    agent: UUID
    name: str
    org: str
    user_uri: str
    tool: str
    chain: str | None
    call: UUID

    @property
    def who(self) -> Principal:
        """Whom the audit names."""
        return Principal(Role.OPERATOR, org=self.org, name=f"mcp {self.name}")

    @property
    def behalf(self) -> Behalf:
        """On whose behalf the user's credential is used."""
        return Behalf(self.who.actor, self.name, self.call)


class McpCallActions(ResourceActions):
    """Calls that agents of MCP make at Calendly."""

    async def find(self, secret: str) -> McpGrant | None:
        """Return what a grant is for; None: there is none, it has ended, or the agent has no longer what it names."""
        digest, now = hashlib.sha256(secret.encode()).digest(), self.clock.now()
        with translated():
            row = await self.pool.fetchrow(_SQL["find_mcp_grant"], digest, now, now + AHEAD)
            await self.pool.execute(_SQL["remove_mcp_grants"], now, MAX_REMOVED)
        return None if row is None else McpGrant(**dict(row))

    async def call(self, grant: McpGrant, request: McpCall) -> Mapping[str, object]:
        """Make a call as the agent's user.

        Returns:
            `items` and `next_page` of a list, else `item`; and `target`, what it was about.

        Raises:
            RequestRefused: the grant is for another tool, the call is not valid or about another booking, or the user
                has no connection that can act.
            CalendlyError: Calendly refused it or failed.
        """
        chosen = operation_table.operation(request.operation)
        async with self.audited(grant.who, "calendly.call", org=grant.org, target=chosen.name):
            require_tool(grant, chosen)
            prepared = operations.prepare(chosen, request.values, request.body)
            about = await self._about(grant, chosen, request)
            async with self._acting(grant) as calendly:
                found = without_hooks(await operations.perform(calendly, paged(prepared, request)))
            told = _told(chosen, found)
            if grant.chain is not None and chosen.name == _INVITEES:
                # Others may have booked the same meeting.
                told = {**told, "items": [each for each in told["items"] if await self._is_of_chain(grant, each)]}
        return {**told, "target": about}

    async def act(self, grant: McpGrant, request: GrantedAction, performed: PerformedActions) -> ActionItem:
        """Have something done, once for the agent, its user and the key.

        Raises:
            RequestRefused: the grant is for another tool, or it is about another booking.
            ValidationError: it is not an action.
        """
        from slotwire.ingest.mcp.tools.deeds import VERBS  # needs a library that no command needs

        action = INTENT.validate_python(dict(request.action))
        if VERBS.get(grant.tool) != action.verb:
            raise _not_granted(f"the grant is for {grant.tool}")
        await self._require_chain(grant, target_of(action))
        if grant.chain is not None and getattr(action, "everyone", False):
            raise _not_granted("this token is for one chain of bookings, and others have booked the same meeting")
        connection = await self._connection(grant)
        key = f"{last_segment(grant.user_uri)[:80]}:{request.name}"
        wanted = ActionRequest(organization=grant.org, idempotency_key=key, connection=connection.id, action=action)
        item, _ = await performed.create(grant.who, wanted)
        return item

    async def _about(self, grant: McpGrant, chosen: Operation, request: McpCall) -> str | None:
        """Return the URI of what a call is about; for one chain of bookings, refuse what is not of it."""
        meeting, invitee = _booking_of(chosen, request.values)
        if grant.chain is not None:
            if chosen.name in _EVENT_TYPE_OF:
                await self._require_event_type(grant, request.values[_EVENT_TYPE_OF[chosen.name]])
            elif meeting is None:
                raise _not_granted("this token is for one chain of bookings")
            else:
                await self._require_chain(grant, invitee or meeting)
        return invitee or meeting

    async def _require_chain(self, grant: McpGrant, uri: str) -> None:
        if grant.chain is not None and not await self._is_of_chain(grant, {"uri": uri}):
            raise _not_granted("this token is for one chain of bookings, and that is not of it")

    async def _require_event_type(self, grant: McpGrant, named: Sequence[str]) -> None:
        """Refuse an event type that no booking of the chain is of, as far as the log tells.

        It goes to Calendly as it was given, so nothing may stand around its id.
        """
        ids = [each.removeprefix(f"{ORIGIN}/event_types/") for each in named]
        asked = (grant.org, grant.user_uri, grant.chain, ids[0], MAX_TOLD)
        with translated():
            is_of = len(ids) == 1 and "/" not in ids[0]
            if not is_of or not await self.pool.fetchval(_SQL["event_type_in_chain"], *asked):
                raise _not_granted("this token is for one chain of bookings, and none is of that event type")

    async def _is_of_chain(self, grant: McpGrant, booking: object) -> bool:
        uri = booking.get("uri") if isinstance(booking, dict) else None
        with translated():
            return isinstance(uri, str) and bool(
                await self.pool.fetchval(_SQL["mcp_in_chain"], grant.org, grant.user_uri, grant.chain, uri)
            )

    async def _connection(self, grant: McpGrant) -> ConnectionRecord:
        """Return the user's own connection: nobody else's stands in for it."""
        own = await read_of_user(self.pool, grant.org, grant.user_uri)
        if own is None or not own.status.able:
            raise RequestRefused(
                "the user's access to Calendly has ended",
                code="connection_unable",
                remedy="The user has to connect Calendly again.",
            )
        return own

    @asynccontextmanager
    async def _acting(self, grant: McpGrant) -> AsyncIterator[CalendlyTransport]:
        connection = await self._connection(grant)
        async with self.connections(grant.who).acting(connection, behalf=grant.behalf) as calendly:
            yield calendly


def require_tool(grant: McpGrant, chosen: Operation) -> None:
    """Refuse another operation than the one behind the grant's tool.

    Raises:
        RequestRefused: with code `not_granted`.
    """
    from slotwire.ingest.mcp.tools.table import of_operations

    tool = of_operations().get(grant.tool)
    if tool is None or tool.operation is None or tool.operation.name != chosen.name:
        raise _not_granted(f"the grant is for {grant.tool}")
    if grant.chain is not None and not tool.of_chains:
        raise _not_granted("this token is for one chain of bookings")


def paged(call: PreparedCall, request: McpCall) -> PreparedCall:
    """Ask for one page of a list, as long as the caller wants it."""
    if not call.operation.paged:
        return call
    more = {} if request.page is None else {"page_token": request.page[:MAX_TOKEN]}
    return replace(call, query={**call.query, "count": str(request.limit), **more})


def _booking_of(chosen: Operation, values: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the URIs of the meeting and the invitee that a call names."""
    if not chosen.path.startswith("/scheduled_events/"):
        return None, None
    names = [each.name for each in chosen.parameters if each.place == "path"]
    meeting_name = "event_uuid" if "event_uuid" in names else "uuid"
    meeting = f"https://api.calendly.com/scheduled_events/{last_segment(values[meeting_name][0])}"
    if "invitee_uuid" not in names:
        return meeting, None
    return meeting, f"{meeting}/invitees/{last_segment(values['invitee_uuid'][0])}"


def _told(chosen: Operation, found: object) -> Mapping[str, Any]:
    if chosen.listed:
        document = found if isinstance(found, dict) else {}
        collection, pagination = document.get("collection"), document.get("pagination")
        if not isinstance(collection, list):
            raise CalendlyError(
                f"{chosen.name}: Calendly answered with no list",
                problem=CalendlyProblem.UNEXPECTED,
                remedy="Try again later.",
            )
        token = pagination.get("next_page_token") if isinstance(pagination, dict) else None
        return {"items": collection, "next_page": token if isinstance(token, str) and token else None}
    if isinstance(found, dict) and set(found) == {"resource"}:
        return {"item": found["resource"]}
    return {"item": found}


def _not_granted(what: str) -> RequestRefused:
    return RequestRefused(what, code="not_granted", remedy="Call a tool that tools/list names.")
