"""Calls and actions that an agent asks for while it handles an event, on what the event is about and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

from slotwire.ingest.control.actions.intents import INTENT
from slotwire.ingest.control.actions.preparing import agent_caller, agent_key
from slotwire.ingest.control.calendly_client import operations
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.resources import ORIGIN
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.connection_records import ConnectionRecord, read_of_user
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation import operation_table
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.operate.action_models import ActionRequest
from slotwire.ingest.operate.actions.base import CALENDLY_RETRIES, ResourceActions
from slotwire.ingest.operate.actions.calendly import without_hooks
from slotwire.ingest.operate.calendly_models import GrantedAction, GrantedCall
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.schemas.ids import last_segment

MAX_GRANTED_ITEMS = 1_000
"""Items of a list that one call gives."""
AHEAD = timedelta(minutes=5)
"""How far the clock of an agent's process may be ahead of ours; a grant that was made later is refused."""
MAX_REMOVED = 100
"""Grants that have ended and are removed with one call."""
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_ACTIONS_SQL = read_queries("slotwire.ingest.sql", "actions.sql")

GRANTED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "get-scheduled-event": {"uuid": "scheduled_event"},
        "list-event-invitees": {"uuid": "scheduled_event"},
        "get-scheduled-event-invitees": {"event_uuid": "scheduled_event", "invitee_uuid": "invitee"},
        "get-event-type": {"uuid": "event_type"},
        "get-event-type-availability": {"event_type": "event_type"},
        "list-event-type-available-times": {"event_type": "event_type"},
        "list-event-types": {"user": "user_uri"},
        "list-scheduled-events": {"user": "user_uri"},
        "list-user-availability-schedules": {"user": "user_uri"},
        "list-user-busy-times": {"user": "user_uri"},
        "list-user-locations": {"user": "user_uri"},
        "list-user-meeting-limits": {"user": "user_uri"},
        "get-user": {"uuid": "user_uri"},
    }
)
"""The operations that an agent may call, each with the parameters that the grant fills in."""
ORGANIZATION_READS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "list-event-types": frozenset({"organization", "active"}),
        "list-event-type-available-times": frozenset({"event_type", "start_time", "end_time"}),
        "list-user-busy-times": frozenset({"user", "start_time", "end_time"}),
    }
)
"""What agents of `SLOTWIRE_AGENTS__ORGANIZATION_READERS` may read for a whole organization, with the parameters. The
organization is that of the grant, and its connection reaches no other."""
ACTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "book": ("event_type", "event_type"),
        "cancel": ("scheduled_event", "scheduled_event"),
        "reschedule": ("invitee", "invitee"),
        "mark_no_show": ("invitee", "invitee"),
        "clear_no_show": ("mark", "own_mark"),
    }
)
"""The actions that an agent may ask for, each with what the grant fills in; a mark is the one that the agent itself has
set on the invitee, as its receipt says, and no other."""
_FORBIDDEN = frozenset({"organization", "group", "invitee_email"})
"""Parameters that would reach beyond the user."""


@dataclass(frozen=True, slots=True)
class CallGrant:
    """What an agent may ask for.

    Attributes:
        agent: its name.
        event_id: the event it handles.
        org: the event's organization.
        user_uri: who hosts the event's meeting; None where it is about none.
        scheduled_event: the meeting.
        event_type: what was booked.
        invitee: the invitee.
    """

    agent: str
    event_id: UUID
    org: str
    user_uri: str | None
    scheduled_event: str | None
    event_type: str | None
    invitee: str | None


class GrantedCallActions(ResourceActions):
    """Calls that agents make at Calendly."""

    async def find(self, secret: str) -> CallGrant | None:
        """Return what a grant is for; None if there is none of this name, or it has ended."""
        digest, now = hashlib.sha256(secret.encode()).digest(), self.clock.now()
        with translated():
            row = await self.pool.fetchrow(_SQL["find_grant"], digest, now, now + AHEAD)
            await self.pool.execute(_SQL["remove_grants"], now, MAX_REMOVED)
        return None if row is None else CallGrant(**dict(row))

    async def call(self, grant: CallGrant, request: GrantedCall) -> object:
        """Make a call as the user who hosts the meeting, or else as the organization's best connection.

        The audit has it with the agent, the event and the operation.

        Raises:
            RequestRefused: the call is not granted (`not_granted`), not valid, or there is no connection.
            CalendlyError: Calendly refused it or failed.
        """
        who = Principal(Role.OPERATOR, org=grant.org, name=f"agent {grant.agent} {grant.event_id}")
        async with self.audited(who, "calendly.call", org=grant.org, target=request.operation):
            wide = grant.agent in self.settings.agents.organization_readers and is_wide(request)
            values = for_organization(grant, request) if wide else pinned(grant, request)
            chosen = operation_table.operation(request.operation)
            call = operations.prepare(chosen, values)
            connection = await (self._connections().for_organization(grant.org) if wide else self._connection(grant))
            behalf, priority = (
                Behalf(who.actor, grant.agent, grant.event_id),
                Priority.SWEEP if wide else Priority.PERSON,
            )
            async with self._connections().acting(connection, priority=priority, behalf=behalf) as calendly:
                if not chosen.paged:
                    return without_hooks(await operations.perform(calendly, call))
                found: list[object] = []
                async for item in operations.items(calendly, call):
                    found.append(without_hooks(item))
                    if len(found) == MAX_GRANTED_ITEMS:
                        break
                return found

    async def intended(self, grant: CallGrant, request: GrantedAction) -> ActionRequest:
        """Make what an agent asks for an action on the event's meeting, once for agent, event and name.

        Raises:
            RequestRefused: this agent may not act, the verb is not one of `ACTS`, the event is about no booking, or the
                action is for something else than the event (`not_granted`); the agent has set no mark (`no_own_mark`).
            ValidationError: it is not an action.
        """
        allowed = self.settings.actions.agents
        if grant.agent not in allowed and "*" not in allowed:
            raise _not_granted(
                f"the agent {grant.agent} may not act at Calendly", "Name it in SLOTWIRE_ACTIONS__AGENTS of `control`."
            )
        verb = str(request.action.get("verb", ""))
        if verb not in ACTS:
            raise _not_granted(f"an agent may not {verb[:40]!r} for an event", f"It may: {', '.join(ACTS)}.")
        name, what = ACTS[verb]
        wanted = await self._own_mark(grant) if what == "own_mark" else getattr(grant, what)
        if wanted is None:
            raise _not_granted(f"the event is about no booking, so there is nothing to {verb}", "")
        if request.action.get(name, wanted) != wanted:
            raise _not_granted(f"{name} is not that of the event", "Leave it out: it is filled in.")
        key = agent_key(grant.agent, grant.event_id, request.name)
        action = INTENT.validate_python({**request.action, name: wanted})
        return ActionRequest(organization=grant.org, idempotency_key=key, action=action)

    @staticmethod
    def caller(grant: CallGrant) -> Principal:
        """Whom the audit names, and whose keys of actions an agent's are."""
        return Principal(Role.OPERATOR, org=grant.org, name=agent_caller(grant.agent))

    async def _own_mark(self, grant: CallGrant) -> str | None:
        """Return the no-show mark that the agent has set on the grant's invitee, as its receipts say.

        Raises:
            RequestRefused: it has set none (`no_own_mark`).
        """
        if grant.invitee is None:
            return None
        with translated():
            found: str | None = await self.pool.fetchval(
                _ACTIONS_SQL["own_mark"], grant.org, agent_caller(grant.agent), grant.invitee
            )
        if found is None:
            raise RequestRefused(
                "this agent has set no mark on the invitee, and may take back none but its own", code="no_own_mark"
            )
        return found

    async def _connection(self, grant: CallGrant) -> ConnectionRecord:
        if grant.user_uri is not None:
            own = await read_of_user(self.pool, grant.org, grant.user_uri)
            if own is not None and own.status.able:
                return own
        return await self._connections().for_organization(grant.org)

    def _connections(self) -> Connections:
        return Connections.from_settings(self.settings, self.pool, self.clock, self.calendly, retries=CALENDLY_RETRIES)


def is_wide(request: GrantedCall) -> bool:
    """Whether a call is one of those that readers of an organization may make."""
    takes = ORGANIZATION_READS.get(request.operation)
    return takes is not None and request.values.keys() <= takes - {"organization"}


def for_organization(grant: CallGrant, request: GrantedCall) -> dict[str, list[str]]:
    """Fill in the organization of the grant."""
    values = dict(request.values)
    if "organization" in ORGANIZATION_READS[request.operation]:
        values["organization"] = [f"{ORIGIN}/organizations/{grant.org}"]
    return values


def pinned(grant: CallGrant, request: GrantedCall) -> dict[str, list[str]]:
    """Fill in what the grant says, and refuse what it does not.

    Raises:
        RequestRefused: the operation is not one that agents may call, the event names no such thing, or the call is for
            something else than the event (`not_granted`).
    """
    pins = GRANTED.get(request.operation)
    if pins is None:
        raise _not_granted(f"an agent may not call {request.operation[:80]!r}", f"It may call: {', '.join(GRANTED)}.")
    if beyond := sorted(_FORBIDDEN & request.values.keys()):
        raise _not_granted(f"{beyond[0]} reaches beyond the user of the event", "Leave it out.")
    values = dict(request.values)
    for name, what in pins.items():
        wanted = getattr(grant, what)
        if wanted is None:
            raise _not_granted(f"the event names no {what}, so {request.operation} has nothing to read", "")
        given = values.get(name)
        if given is not None and [last_segment(each) for each in given] != [last_segment(wanted)]:
            raise _not_granted(f"{name} is not that of the event", "Leave it out: it is filled in.")
        values[name] = [wanted]
    return values


def _not_granted(what: str, remedy: str) -> RequestRefused:
    return RequestRefused(what, code="not_granted", remedy=remedy)
