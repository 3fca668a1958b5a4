"""Event types that are made and changed by REST, their hosts, and links to them.

Source: docs/reference/calendly.md, "REST"; for answers that it does not show "Simulator assumptions".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.fields import fields_of, text_in
from slotwire.ingest.simulator.gate import Caller, RestGate, resource
from slotwire.ingest.simulator.model import Json, SimulatedEventType, uri
from slotwire.ingest.simulator.paging import ident_in, ident_of, page_of_list
from slotwire.ingest.simulator.problems import invalid, not_found

MAX_MINUTES = 720
SHORT_NAME = 55
_EVENT_TYPE = (
    *("active", "owner", "name", "description", "duration", "duration_options", "locations", "color", "locale"),
)
_ONE_OFF = ("name", "host", "co_hosts", "duration", "timezone", "date_setting", "location")
_SHARE = (
    *("event_type", "name", "duration", "duration_options", "period_type", "start_date", "end_date"),
    *("max_booking_time", "hide_location", "location_configurations", "availability_rule"),
)


class EventTypeCalls:
    """The calls that make and change what can be booked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/event_type_memberships", gate.guard("event_types:read", self.hosts)),
            web.post("/event_types", gate.guard("event_types:write", self.make_event_type)),
            web.patch("/event_types/{uuid}", gate.guard("event_types:write", self.change_event_type)),
            web.post("/one_off_event_types", gate.guard("event_types:write", self.make_one_off)),
            web.post("/scheduling_links", gate.guard("scheduling_links:write", self.link)),
            web.post("/shares", gate.guard("shares:write", self.share)),
        ]

    async def hosts(self, request: web.Request, caller: Caller) -> web.Response:
        """List the hosts of an event type: its owner."""
        ident = ident_of(request, "event_type", "event_types")
        if ident is None:
            raise invalid(("event_type", "is missing"))
        chosen = self._event_type(ident, caller)
        host = self._engine.world.users[chosen.owner]
        member: Json = {"type": "events_user", "uri": uri("users", host.id), "name": host.name, "email": host.email}
        host_of: Json = {"event_type": uri("event_types", chosen.id), "member": member}
        return page_of_list(request, [host_of], lambda each: each)

    async def make_event_type(self, request: web.Request, caller: Caller) -> web.Response:
        """Make an event type."""
        body = await fields_of(request, _EVENT_TYPE, needs=("owner", "name"))
        return self._made_event_type(body, ident_in(body["owner"], "owner", "users"), caller)

    async def make_one_off(self, request: web.Request, caller: Caller) -> web.Response:
        """Make an event type for one meeting."""
        body = await fields_of(request, _ONE_OFF, needs=("name", "host", "duration", "date_setting"))
        text_in(body, "name", SHORT_NAME)
        return self._made_event_type(body, ident_in(body["host"], "host", "users"), caller)

    async def change_event_type(self, request: web.Request, caller: Caller) -> web.Response:
        """Change an event type's name and duration, and whether it is active; other values are checked and shown."""
        body = await fields_of(request, _EVENT_TYPE)
        chosen = self._event_type(request.match_info["uuid"], caller)
        changed = replace(
            chosen,
            name=str(body.get("name", chosen.name)),
            minutes=_minutes(body, chosen.minutes),
            active=body.get("active", chosen.active) is not False,
        )
        self._engine.changes.event_type(changed)
        self._engine.commit()
        shown = {name: value for name, value in body.items() if name == "color"}
        return resource(payloads.event_type(changed, self._engine.world.users[changed.owner]) | shown)

    async def link(self, request: web.Request, caller: Caller) -> web.Response:
        """Make a link by which an event type can be booked once."""
        names = ("max_event_count", "owner", "owner_type")
        body = await fields_of(request, names, needs=names)
        chosen = self._event_type(ident_in(body["owner"], "owner", "event_types"), caller)
        if body["max_event_count"] not in {1, "1"} or body["owner_type"] != "EventType":
            raise invalid(("max_event_count", "must be 1, of an EventType"))
        token = self._ident("links")
        made: Json = {"booking_url": f"https://calendly.com/d/{token}/{chosen.slug}"}
        return resource(made | {"owner": uri("event_types", chosen.id), "owner_type": "EventType"}, 201)

    async def share(self, request: web.Request, caller: Caller) -> web.Response:
        """Make a link to an event type with settings of its own."""
        body = await fields_of(request, _SHARE, needs=("event_type",))
        chosen = self._event_type(ident_in(body["event_type"], "event_type", "event_types"), caller)
        address = f"https://calendly.com/s/{self._ident('shares')}"
        link: Json = {"booking_url": address, "owner": uri("event_types", chosen.id), "owner_type": "EventType"}
        override = {name: value for name, value in body.items() if name != "event_type"}
        return resource({"scheduling_links": [link], "share_override": override}, 201)

    def _made_event_type(self, body: Json, owner: str, caller: Caller) -> web.Response:
        host = self._engine.world.users.get(owner)
        if host is None or host.organization != caller.user.organization:
            raise not_found()
        ident, name = self._ident("event_types"), text_in(body, "name")
        slug = "-".join(name.lower().split())
        made = SimulatedEventType(
            ident, host.organization, owner, name, slug, _minutes(body, 30), "zoom", 1, self._engine.clock.now()
        )
        self._engine.changes.event_type(made)
        self._engine.commit()
        return resource(payloads.event_type(made, host), 201)

    def _event_type(self, ident: str, caller: Caller) -> SimulatedEventType:
        found = self._engine.world.event_types.get(ident)
        if found is None or found.organization != caller.user.organization:
            raise not_found()
        return found

    def _ident(self, kind: str) -> str:
        return Draws(self._engine.seed, kind, self._engine.bookings.next_number(kind)).uuid()


def _minutes(body: Mapping[str, object], otherwise: int) -> int:
    value = body.get("duration", otherwise)
    if not isinstance(value, int) or not 1 <= value <= MAX_MINUTES:
        raise invalid(("duration", f"must be 1 to {MAX_MINUTES}"))
    return value
