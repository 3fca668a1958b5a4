"""What Slotwire itself knows: bookings with their story, the health of subscriptions, what waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.ingest.mcp.tools.results import ToolAnswer
from slotwire.ingest.mcp.tools.table import (
    DEFAULT_ITEMS,
    LIMIT,
    LIST_OUTPUT,
    OPERATE,
    PAGE,
    READ,
    SCHEDULE,
    Tool,
    argument,
)
from slotwire.ingest.mcp.tools.toolbox import Call
from slotwire.schemas.ids import last_segment

LOOK = 2_000
"""Bookings of an organization that one call looks at; those of other hosts among them are passed over."""
MAX_CHAIN = 50
MAX_EVENTS = 50
"""Bookings and events of one timeline."""
CAPABILITIES = frozenset({"cancel_url", "reschedule_url"})
"""Links by which whoever has one acts for the invitee: a tool never shows them."""
_ALL = frozenset({READ, SCHEDULE, OPERATE})
_SQL = read_queries("slotwire.ingest.sql", "mcp.sql")

OWN: Mapping[str, Tool] = MappingProxyType(
    {
        each.name: each
        for each in (
            Tool(
                name="list_bookings",
                description="List who has booked with the user, as Slotwire has it: state, time, no-show, reschedules.",
                properties={
                    "state": argument("state", enum=["active", "canceled"], default="active"),
                    "limit": LIMIT,
                    "page": PAGE,
                },
                output=LIST_OUTPUT,
                presets=_ALL,
            ),
            Tool(
                name="get_booking_timeline",
                description="Read the whole story of a booking: its reschedules, and its events, the newest first.",
                properties={"invitee": argument("invitee")},
                required=("invitee",),
                presets=_ALL,
                of_chains=True,
            ),
            Tool(
                name="get_subscription_health",
                description="Read whether events come in: subscriptions, their last deliveries, gaps being filled.",
                properties={},
                presets=_ALL,
            ),
            Tool(
                name="list_what_needs_attention",
                description="List what waits for a person: actions of unknown outcome, lost subscriptions or access.",
                properties={},
                output=LIST_OUTPUT,
                presets=_ALL,
            ),
        )
    }
)
"""The tools, by name."""


@dataclass(frozen=True, slots=True)
class OwnBench:
    """The tools that read Slotwire's own database, through functions that show one user's things."""

    pool: Pool
    clock: Clock

    @property
    def tools(self) -> Mapping[str, Tool]:
        """All of them."""
        return OWN

    async def run(self, call: Call) -> ToolAnswer:
        """Run one of them."""
        match call.tool.name:
            case "list_bookings":
                return await self._bookings(call.who, call.arguments)
            case "get_booking_timeline":
                return await self._timeline(call.who, call.arguments["invitee"])
            case "get_subscription_health":
                health = await self._health(call.who)
                health.pop("actions")
                return ToolAnswer(item=health, target=call.who.organization, ours=True)
        return ToolAnswer(items=_attention(await self._health(call.who)), target=call.who.organization, ours=True)

    async def _bookings(self, who: AgentPrincipal, arguments: Mapping[str, Any]) -> ToolAnswer:
        limit = int(arguments.get("limit", DEFAULT_ITEMS))
        asked = (last_segment(who.organization), who.user, _chain(who), arguments.get("state", "active"))
        with translated():
            row = await self.pool.fetchrow(_SQL["mcp_bookings"], *asked, arguments.get("page", ""), LOOK)
        found: list[dict[str, Any]] = orjson.loads(row["found"]) if row is not None else []
        if len(found) > limit:
            return ToolAnswer(items=found[:limit], next_page=found[limit - 1]["invitee"], target=who.user)
        more = row is not None and row["looked"] == LOOK
        return ToolAnswer(items=found, next_page=row["last"] if more and row is not None else None, target=who.user)

    async def _timeline(self, who: AgentPrincipal, invitee: str) -> ToolAnswer:
        org = last_segment(who.organization)
        with translated():
            rows = await self.pool.fetch(_SQL["mcp_chain"], org, who.user, _chain(who), invitee, MAX_CHAIN)
            chain = [orjson.loads(row[0]) for row in rows]
            if not chain:
                raise RequestRefused(
                    "there is no such booking of this user",
                    code="not_found",
                    remedy="Give the invitee's URI as list_bookings shows it.",
                )
            events = await self.pool.fetch(_SQL["mcp_events_of"], org, [each["invitee"] for each in chain], MAX_EVENTS)
        told = [
            {
                "id": str(row["event_id"]),
                "type": row["type"],
                "time": row["time"].isoformat(),
                "subject": row["subject"],
                "data": without_capabilities(orjson.loads(row["data"])),
            }
            for row in events
        ]
        return ToolAnswer(item={"bookings": chain, "events": told}, target=invitee)

    async def _health(self, who: AgentPrincipal) -> dict[str, Any]:
        with translated():
            found = await self.pool.fetchval(
                _SQL["mcp_health"], last_segment(who.organization), who.user, self.clock.now()
            )
        health: dict[str, Any] = orjson.loads(found)
        return health


def without_capabilities(value: Any) -> Any:
    """Leave out, anywhere in a document, the links that let whoever has them act."""
    if isinstance(value, dict):
        return {name: without_capabilities(each) for name, each in value.items() if name not in CAPABILITIES}
    return [without_capabilities(each) for each in value] if isinstance(value, list) else value


def _chain(who: AgentPrincipal) -> str | None:
    return None if who.chain is None else str(who.chain)


def _attention(health: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say what waits for a person, the most pressing first, each with what to do."""
    found: list[dict[str, Any]] = []
    connection = health.get("connection") or {"state": "gone", "reason": None}
    if connection["state"] != "active":
        found.append({"about": "connection", **connection, "next": "The user has to connect Calendly again."})
    found += [
        {"about": "subscription", "finding": each, "next": "An operator looks: slotwire subscriptions check"}
        for each in health["findings"]
    ]
    if not health["subscriptions"]:
        found.append({"about": "subscription", "finding": "none", "next": "No events come in. Tell the operator."})
    found += [
        {"about": "action", **each, "next": "A person looks at the meeting, and decides: slotwire actions decide"}
        for each in health["actions"]
    ]
    found += [{"about": "gap", **each, "next": "It is being filled by itself."} for each in health["holes"]]
    return found
