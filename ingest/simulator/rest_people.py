"""`/users`, `/organizations`, `/organization_memberships`, `/event_types`, `/routing_forms`, `/groups`.

Source: docs/reference/calendly.md, "REST"; for its refusals "Simulator assumptions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import Caller, RestGate, resource
from slotwire.ingest.simulator.model import Json, SimulatedEventType, SimulatedGroup, SimulatedRoutingForm
from slotwire.ingest.simulator.paging import choice_of, ident_of, page_of_list
from slotwire.ingest.simulator.problems import forbidden, invalid, not_found

Owned = TypeVar("Owned", SimulatedEventType, SimulatedRoutingForm, SimulatedGroup)


_EVENT_TYPE_SORTS: Mapping[str, Callable[[SimulatedEventType], tuple[object, ...]]] = {
    "name": lambda each: (each.name, each.id),
    "position": lambda each: (each.id,),
    "created_at": lambda each: (each.created_at, each.id),
    "updated_at": lambda each: (each.created_at, each.id),  # none is ever changed
}


class PeopleCalls:
    """The calls that read organizations and people, and what can be booked."""

    def __init__(self, engine: Engine) -> None:
        self._world = engine.world
        self._shelf = engine.bookings.shelf

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/users/{uuid}", gate.guard("users:read", self.user)),
            web.get("/organizations/{uuid}", gate.guard("organizations:read", self.organization)),
            web.get("/organization_memberships", gate.guard("organizations:read", self.memberships)),
            web.get("/organization_memberships/{uuid}", gate.guard("organizations:read", self.membership)),
            web.get("/event_types", gate.guard("event_types:read", self.event_types)),
            web.get("/event_types/{uuid}", gate.guard("event_types:read", self.event_type)),
            web.get("/routing_forms", gate.guard("routing_forms:read", self.routing_forms)),
            web.get("/routing_forms/{uuid}", gate.guard("routing_forms:read", self.routing_form)),
            web.get("/groups", gate.guard("groups:read", self.groups)),
            web.get("/groups/{uuid}", gate.guard("groups:read", self.group)),
        ]

    async def user(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a user of the caller's organization; `me` is the caller."""
        ident = request.match_info["uuid"]
        found = caller.user if ident == "me" else self._world.users.get(ident)
        if found is None:
            raise not_found()
        if found.organization != caller.user.organization:
            raise forbidden()
        return resource(payloads.user(found))

    async def organization(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the caller's organization."""
        found = self._world.organizations.get(request.match_info["uuid"])
        if found is None:
            raise not_found()
        if found.id != caller.user.organization:
            raise forbidden()
        return resource(payloads.organization(found))

    async def memberships(self, request: web.Request, caller: Caller) -> web.Response:
        """List memberships; a plain member sees only their own."""
        organization = ident_of(request, "organization", "organizations")
        user, email = ident_of(request, "user", "users"), request.query.get("email")
        role = choice_of(request, "role", ("owner", "admin", "user"))
        if organization is None and user is None:
            raise invalid(("organization", "is missing"))
        if organization not in {None, caller.user.organization} or self._is_elsewhere(user, caller):
            raise forbidden()
        if not caller.administers and user != caller.user.id:
            raise forbidden()
        rows = [
            each
            for each in self._world.members(caller.user.organization)
            if (user is None or each.id == user)
            and self._shelf.get("removed_members", each.id) is None
            and (email is None or each.email == email)
            and (role is None or each.role == role)
        ]
        return page_of_list(request, rows, payloads.membership)

    async def membership(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one membership."""
        ident = request.match_info["uuid"]
        for each in self._world.members(caller.user.organization):
            if each.membership == ident:
                return resource(payloads.membership(each))
        raise not_found()

    async def event_types(self, request: web.Request, caller: Caller) -> web.Response:
        """List the event types of an organization or of one of its users."""
        organization = ident_of(request, "organization", "organizations")
        user = ident_of(request, "user", "users")
        if organization is None and user is None:
            raise invalid(("organization", "is missing"))
        if organization not in {None, caller.user.organization} or self._is_elsewhere(user, caller):
            raise forbidden()
        active = {"true": True, "false": False}.get(request.query.get("active", ""))
        rows = [
            each
            for each in self._world.offers(caller.user.organization)
            if user in {None, each.owner} and active in {None, each.active}
        ]
        asked = request.query.get("sort", "name").partition(":")[0]
        sort = asked if asked in _EVENT_TYPE_SORTS else "name"
        return page_of_list(request, sorted(rows, key=_EVENT_TYPE_SORTS[sort]), self._event_type, sort=sort)

    async def event_type(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one event type."""
        return resource(self._event_type(_owned(self._world.event_types, request, caller)))

    async def routing_forms(self, request: web.Request, caller: Caller) -> web.Response:
        """List an organization's routing forms."""
        self._require_organization(request, caller)
        rows = [each for each in self._world.routing_forms.values() if each.organization == caller.user.organization]
        return page_of_list(request, rows, payloads.routing_form)

    async def routing_form(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one routing form."""
        return resource(payloads.routing_form(_owned(self._world.routing_forms, request, caller)))

    async def groups(self, request: web.Request, caller: Caller) -> web.Response:
        """List an organization's groups."""
        self._require_organization(request, caller)
        rows = [each for each in self._world.groups.values() if each.organization == caller.user.organization]
        return page_of_list(request, rows, payloads.group)

    async def group(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one group."""
        return resource(payloads.group(_owned(self._world.groups, request, caller)))

    def _event_type(self, value: SimulatedEventType) -> Json:
        return payloads.event_type(value, self._world.users[value.owner])

    def _is_elsewhere(self, user: str | None, caller: Caller) -> bool:
        found = self._world.users.get(user or "")
        return user is not None and (found is None or found.organization != caller.user.organization)

    def _require_organization(self, request: web.Request, caller: Caller) -> None:
        organization = ident_of(request, "organization", "organizations")
        if organization is None:
            raise invalid(("organization", "is missing"))
        if organization != caller.user.organization or not caller.administers:
            raise forbidden()


def _owned(resources: Mapping[str, Owned], request: web.Request, caller: Caller) -> Owned:
    """Return the resource that a path names, if it belongs to the caller's organization."""
    found = resources.get(request.match_info["uuid"])
    if found is None or found.organization != caller.user.organization:
        raise not_found()
    return found
