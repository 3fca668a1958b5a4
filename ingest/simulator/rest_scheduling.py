"""`/scheduled_events` with invitees and cancellation, `/invitee_no_shows`, `/routing_form_submissions`.

Source: docs/reference/calendly.md, "REST", and for the other refusals "Simulator assumptions".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.bookings import PagePosition, ScheduledEventFilter
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import Caller, RestGate, body_of, resource
from slotwire.ingest.simulator.model import Json, SimulatedInvitee, SimulatedNoShow, SimulatedScheduledEvent
from slotwire.ingest.simulator.paging import choice_of, ident_of, moment_of, order_of, page, page_of_list
from slotwire.ingest.simulator.problems import SimulatedRefusal, forbidden, invalid, not_found

MAX_REASON = 10_000
STATUSES = ("active", "canceled")
ORGANIZATION_NEEDED = "Please also specify organization when requesting events for a user within your organization."


@dataclass(frozen=True, slots=True)
class _Selection:
    """Whose scheduled events a call asks for: ids, or None for a parameter that it leaves out."""

    organization: str | None
    user: str | None
    group: str | None


_LISTING_REFUSALS: tuple[tuple[Callable[[_Selection, Caller], bool], Callable[[], SimulatedRefusal]], ...] = (
    # A call must name somebody (docs/reference/calendly.md, "Simulator assumptions").
    (
        lambda asked, _: asked.organization is asked.user is asked.group is None,
        lambda: invalid(("user", "is missing"), ("organization", "is missing")),
    ),
    # Another organization's events are refused (docs/reference/calendly.md, "Simulator assumptions").
    (lambda asked, caller: asked.organization not in {None, caller.user.organization}, forbidden),
    # `user` without `organization` works for the token's own user only (docs/reference/calendly.md, "REST").
    (
        lambda asked, caller: asked.organization is None and asked.user not in {None, caller.user.id},
        lambda: forbidden(ORGANIZATION_NEEDED),
    ),
    # Only owners and admins list the events of others (docs/reference/calendly.md, "REST").
    (lambda asked, caller: asked.user != caller.user.id and not caller.administers, forbidden),
)
"""When `GET /scheduled_events` is refused, and with which error; the first condition that holds decides."""


class SchedulingCalls:
    """The calls that read and change bookings."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bookings = engine.bookings

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        read, write = "scheduled_events:read", "scheduled_events:write"
        event, no_show = "/scheduled_events/{uuid}", "/invitee_no_shows/{uuid}"
        return [
            web.get("/scheduled_events", gate.guard(read, self.events)),
            web.get(event, gate.guard(read, self.event)),
            web.get(f"{event}/invitees", gate.guard(read, self.invitees)),
            web.get(f"{event}/invitees/{{invitee}}", gate.guard(read, self.invitee)),
            web.post(f"{event}/cancellation", gate.guard(write, self.cancel)),
            web.post("/invitee_no_shows", gate.guard(write, self.mark)),
            web.get(no_show, gate.guard(read, self.no_show)),
            web.delete(no_show, gate.guard(write, self.clear)),
            web.get("/routing_form_submissions", gate.guard("routing_forms:read", self.submissions)),
            web.get("/routing_form_submissions/{uuid}", gate.guard("routing_forms:read", self.submission)),
        ]

    async def events(self, request: web.Request, caller: Caller) -> web.Response:
        """List scheduled events. Of all times, only the start can be filtered by."""
        wanted = self._filter(request, caller)
        return page(
            request,
            order_of(request, "start_time"),
            lambda order: self._bookings.events(wanted, order),
            lambda event: PagePosition(stamp(event.start), event.id),
            self._event,
        )

    async def event(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one scheduled event."""
        return resource(self._event(self._find(request, caller)))

    async def invitees(self, request: web.Request, caller: Caller) -> web.Response:
        """List a scheduled event's invitees, including canceled ones."""
        event = self._find(request, caller)
        status, email = choice_of(request, "status", STATUSES), request.query.get("email")
        return page(
            request,
            order_of(request, "created_at"),
            lambda order: self._bookings.invitees(event.id, status, email, order),
            lambda invitee: PagePosition(self._bookings.number_of(invitee.id), invitee.id),
            payloads.invitee,
        )

    async def invitee(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one invitee."""
        event = self._find(request, caller)
        found = self._bookings.invitee(request.match_info["invitee"])
        if found is None or found.event != event.id:
            raise not_found()
        return resource(payloads.invitee(found))

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        """Cancel a scheduled event as its host, or as an owner or admin."""
        event = self._visible(request.match_info["uuid"], caller)
        if event is None:
            raise not_found()
        body = await body_of(request) if await request.read() else {}
        reason = body.get("reason")
        if reason is not None and (not isinstance(reason, str) or len(reason) > MAX_REASON):
            raise invalid(("reason", f"must be a string of at most {MAX_REASON} characters"))
        if event.host != caller.user.id and not caller.administers:
            raise forbidden("You are not allowed to cancel this event")
        result = self._engine.cancel_event(event.id, caller.user.name, reason)
        ended = result.event.cancellation if result.event else None
        return resource(payloads.cancellation(ended) if ended else {}, 201)

    async def mark(self, request: web.Request, caller: Caller) -> web.Response:
        """Mark an invitee as a no-show."""
        body = await body_of(request)
        parts = str(body.get("invitee", "")).rsplit("/", 4)
        if len(parts) != 5 or parts[1] != "scheduled_events" or parts[3] != "invitees":
            raise invalid(("invitee", "must be the URI of an invitee"))
        found = self._bookings.invitee(parts[4])
        if found is None or self._visible(found.event, caller) is None:
            raise not_found()
        result = self._engine.mark_no_show(found.id)
        return resource(_no_show(found, result.no_show), 201)

    async def no_show(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a no-show mark."""
        found = self._marked(request, caller)
        return resource(_no_show(found, found.no_show))

    async def clear(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a no-show mark."""
        self._engine.clear_no_show(self._marked(request, caller).id)
        return web.Response(status=204)

    async def submissions(self, request: web.Request, caller: Caller) -> web.Response:
        """List a form's submissions."""
        ident = ident_of(request, "form", "routing_forms")
        if ident is None:
            raise invalid(("form", "is missing"))
        form = self._engine.world.routing_forms.get(ident)
        if form is None:
            raise not_found()
        if form.organization != caller.user.organization or not caller.administers:
            raise forbidden()
        return page_of_list(request, self._bookings.submissions(ident), payloads.submission)

    async def submission(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one submission."""
        found = self._bookings.submission(request.match_info["uuid"])
        if found is None or found.organization != caller.user.organization:
            raise not_found()
        return resource(payloads.submission(found))

    def _filter(self, request: web.Request, caller: Caller) -> ScheduledEventFilter:
        asked = _Selection(
            organization=ident_of(request, "organization", "organizations"),
            user=ident_of(request, "user", "users"),
            group=ident_of(request, "group", "groups"),
        )
        for applies, refusal in _LISTING_REFUSALS:
            if applies(asked, caller):
                raise refusal()
        # `user` alone gives the events of every organization the user is or was in
        # (docs/reference/calendly.md, "REST").
        everywhere = asked.organization is None and asked.group is None
        return ScheduledEventFilter(
            organization=None if everywhere else caller.user.organization,
            hosts=self._hosts(asked, caller),
            email=request.query.get("invitee_email"),
            status=choice_of(request, "status", STATUSES),
            min_start=moment_of(request, "min_start_time"),
            max_start=moment_of(request, "max_start_time"),
        )

    def _hosts(self, asked: _Selection, caller: Caller) -> tuple[str, ...] | None:
        """Return the users whose events are asked for, or None for everybody's."""
        if asked.group is None:
            return (asked.user,) if asked.user else None
        group = self._engine.world.groups.get(asked.group)
        if group is None or group.organization != caller.user.organization:
            raise not_found()
        return tuple(each for each in group.members if asked.user in {None, each})

    def _visible(self, ident: str, caller: Caller) -> SimulatedScheduledEvent | None:
        found = self._bookings.event(ident)
        return found if found and found.organization == caller.user.organization else None

    def _find(self, request: web.Request, caller: Caller) -> SimulatedScheduledEvent:
        found = self._visible(request.match_info["uuid"], caller)
        if found is None:
            raise not_found()
        if found.host != caller.user.id and not caller.administers:
            raise forbidden()
        return found

    def _marked(self, request: web.Request, caller: Caller) -> SimulatedInvitee:
        found = self._bookings.invitee_of_mark(request.match_info["uuid"])
        if found is None or self._visible(found.event, caller) is None:
            raise not_found()
        return found

    def _event(self, event: SimulatedScheduledEvent) -> Json:
        host = self._engine.world.users[event.host]
        return payloads.scheduled_event(event, host, *self._bookings.counts(event.id), rest=True)


def _no_show(invitee: SimulatedInvitee, mark: SimulatedNoShow | None) -> Json:
    if mark is None:
        raise not_found()
    return {"uri": mark.uri, "invitee": invitee.uri, "created_at": stamp(mark.created_at)}
