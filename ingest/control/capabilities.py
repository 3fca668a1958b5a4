"""What each connection can do at Calendly: asked family by family, one cheap read each, and kept.

A family that is refused says why and what would mend it: a scope to tick for the token's user, a plan to buy for the
organization's owner, or a role. Source: docs/reference/calendly.md, "REST" and "Credentials".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType

import orjson

from slotwire.ingest.control.calendly_client import operations
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.operation_table import operation
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

Subject = Callable[[ConnectionRecord], Mapping[str, str]]

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")
_FULL = "default"


def _organization(record: ConnectionRecord) -> Mapping[str, str]:
    return {"organization": record.organization}


def _user(record: ConnectionRecord) -> Mapping[str, str]:
    return {"user": record.user_uri}


def _both(record: ConnectionRecord) -> Mapping[str, str]:
    return {"organization": record.organization, "user": record.user_uri}


def _nothing(_: ConnectionRecord) -> Mapping[str, str]:
    return {}


PROBES: Mapping[str, tuple[str, Subject]] = MappingProxyType(
    {
        "activity_log": ("list-activity-log-entries", _organization),
        "availability": ("list-user-availability-schedules", _user),
        "contacts": ("list-contacts", _nothing),
        "event_types": ("list-event-types", _user),
        "groups": ("get-groups", _organization),
        "locations": ("list-user-locations", _user),
        "meeting_recaps": ("list-meeting-recaps", _nothing),
        "organizations": ("list-organization-memberships", _organization),
        "outgoing_communications": ("get-outgoing-communications", _organization),
        "routing_forms": ("list-routing-forms", _organization),
        "scheduled_events": ("list-scheduled-events", _both),
        "webhooks": ("list-webhook-subscriptions", _organization),
    }
)
"""The operation that is tried for each family of scopes, and its values."""
_MORE: Mapping[str, Mapping[str, str]] = MappingProxyType({"webhooks": {"scope": "organization"}})
_REFUSED = frozenset({CalendlyProblem.SCOPE, CalendlyProblem.PLAN, CalendlyProblem.PERMISSION})


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether a connection can do something.

    Attributes:
        name: a family of scopes, for example `contacts`.
        reads: whether it may read; None where Calendly failed.
        writes: whether its token names the scope that writes; None where it names none.
        why: `scope`, `plan` or `permission` where it may not read, or why that is not known.
        remedy: what would mend it, and who can.
    """

    name: str
    reads: bool | None
    writes: bool | None
    why: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a connection can do.

    Attributes:
        probed_at: when it was asked.
        plan: the organization's, in Calendly's words; None where it does not say.
        stage: `trial`, `free` or `paid`; None where it does not say.
        found: by family.
    """

    probed_at: datetime
    plan: str | None
    stage: str | None
    found: tuple[Capability, ...]


async def probe(connections: Connections, record: ConnectionRecord) -> Capabilities:
    """Ask Calendly what a connection can do, and keep it.

    Raises:
        CalendlyError: Calendly does not accept the credential.
        RequestRefused: the connection cannot act.
    """
    async with connections.acting(record) as calendly:
        plan, stage = await _plan(calendly, record)
        found = await asyncio.gather(*(_tried(calendly, record, name) for name in PROBES))
    made = Capabilities(connections.clock.now(), plan, stage, tuple(found))
    with translated():
        await connections.pool.execute(
            _SQL["store_capabilities"],
            record.id,
            made.probed_at,
            plan,
            stage,
            orjson.dumps([asdict(each) for each in found]).decode(),
        )
    return made


async def read(pool: Pool, record: ConnectionRecord) -> Capabilities | None:
    """Return what was found when it was last asked; None if it never was."""
    with translated():
        row = await pool.fetchrow(_SQL["capabilities"], record.id)
    if row is None:
        return None
    found = tuple(Capability(**each) for each in orjson.loads(row["capabilities"]))
    return Capabilities(row["probed_at"], row["plan"], row["stage"], found)


async def _plan(calendly: CalendlyTransport, record: ConnectionRecord) -> tuple[str | None, str | None]:
    call = operations.prepare(operation("get-organization"), {"uuid": [record.organization]})
    try:
        answer = await operations.perform(calendly, call)
    except CalendlyError as error:
        if error.problem is CalendlyProblem.CREDENTIAL:
            raise
        return None, None
    found = answer.get("resource") if isinstance(answer, dict) else None
    told = found if isinstance(found, dict) else {}
    plan, stage = told.get("plan"), told.get("stage")
    return (plan if isinstance(plan, str) else None), (stage if isinstance(stage, str) else None)


async def _tried(calendly: CalendlyTransport, record: ConnectionRecord, name: str) -> Capability:
    called, subject = PROBES[name]
    chosen, values = operation(called), {**subject(record), **_MORE.get(name, {})}
    scopes = record.scopes
    writes = None if scopes is None else bool({_FULL, f"{name}:write"} & set(scopes))
    call = operations.prepare(chosen, {key: [value] for key, value in values.items()})
    query = {**call.query, "count": "1"} if chosen.paged else call.query
    try:
        await calendly.exchange("GET", call.path, doing=f"asking for {name}", query=query)
    except CalendlyError as error:
        if error.problem is CalendlyProblem.CREDENTIAL:
            raise
        refused = error.problem in _REFUSED
        return Capability(name, False if refused else None, False if refused else writes, error.problem, error.remedy)
    return Capability(name, True, writes)
