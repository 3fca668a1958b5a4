"""When people and event types can be booked: schedules, available and busy times, limits, places.

Source: docs/reference/calendly.md, "REST"; for hours and steps "Simulator assumptions".
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aiohttp import web

from slotwire.ingest.simulator.bookings import PageOrder, ScheduledEventFilter
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.fields import fields_of, span_of
from slotwire.ingest.simulator.gate import Caller, RestGate, json_answer, resource
from slotwire.ingest.simulator.meeting_limits import KIND, PERIODS, limits_of, reached
from slotwire.ingest.simulator.model import Json, SimulatedEventType, SimulatedScheduledEvent, SimulatedUser, uri
from slotwire.ingest.simulator.paging import ident_of
from slotwire.ingest.simulator.problems import forbidden, invalid, not_found

OPENS, CLOSES = 9, 17
"""Hours in which everybody can be booked from Monday to Friday, in UTC."""
AVAILABLE_SPAN = timedelta(days=31)
BUSY_SPAN = timedelta(days=7)
MAX_LIMIT = 9_999
MAX_BUSY = 1_000
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class AvailabilityCalls:
    """The calls about when something can be booked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shelf = engine.bookings.shelf

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        read, write = "availability:read", "availability:write"
        of_event_type, schedules = "/event_type_availability_schedules", "/user_availability_schedules"
        return [
            web.get("/event_type_available_times", gate.guard(read, self.available)),
            web.get("/user_busy_times", gate.guard(read, self.busy)),
            web.get(schedules, gate.guard(read, self.schedules)),
            web.get(f"{schedules}/{{uuid}}", gate.guard(read, self.schedule)),
            web.get(of_event_type, gate.guard(read, self.of_event_type)),
            web.patch(of_event_type, gate.guard(write, self.change_event_type)),
            web.get("/user_meeting_limits", gate.guard(read, self.limits)),
            web.patch("/user_meeting_limits", gate.guard(write, self.change_limits)),
            web.get("/locations", gate.guard("locations:read", self.locations)),
        ]

    async def available(self, request: web.Request, caller: Caller) -> web.Response:
        """List the free times of an event type's host, a step of its duration apart."""
        start, end = span_of(request, AVAILABLE_SPAN)
        chosen = self._event_type(request, caller)
        taken = self._meetings(chosen.owner, start, end)
        step, found, now = timedelta(minutes=chosen.minutes), list[Json](), self._engine.clock.now()
        full = reached(self._engine.bookings, chosen.owner)
        at = start.replace(minute=0, second=0, microsecond=0)
        while at < end:
            free = self._places(chosen, at, at + step, taken)
            if at >= start and at > now and free > 0 and _is_open(at, at + step) and not full(at):
                address = f"https://calendly.com/{chosen.slug}/{stamp(at)}"
                found.append(
                    {
                        "status": "available",
                        "start_time": stamp(at),
                        "invitees_remaining": free,
                        "scheduling_url": address,
                    }
                )
            at += step
        return json_answer({"collection": found})

    async def busy(self, request: web.Request, caller: Caller) -> web.Response:
        """List a user's meetings as busy times."""
        start, end = span_of(request, BUSY_SPAN)
        user = self._user(request, caller)
        found = [
            {
                "type": "calendly",
                "start_time": stamp(each.start),
                "end_time": stamp(each.end),
                "buffered_start_time": stamp(each.start),
                "buffered_end_time": stamp(each.end),
                "event": {"uri": each.uri},
            }
            for each in self._meetings(user.id, start, end)
        ]
        return json_answer({"collection": found})

    async def schedules(self, request: web.Request, caller: Caller) -> web.Response:
        """List a user's schedules: one, with the hours of everybody."""
        return json_answer({"collection": [self._schedule(self._user(request, caller))]})

    async def schedule(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a schedule."""
        for user in self._engine.world.members(caller.user.organization):
            if self._schedule_id(user) == request.match_info["uuid"]:
                return resource(self._schedule(user))
        raise not_found()

    async def of_event_type(self, request: web.Request, caller: Caller) -> web.Response:
        """Return when an event type can be booked."""
        return json_answer({"collection": [self._of_event_type(self._event_type(request, caller))]})

    async def change_event_type(self, request: web.Request, caller: Caller) -> web.Response:
        """Change when an event type can be booked."""
        body = await fields_of(request, ("availability_rule", "availability_setting"), needs=("availability_rule",))
        chosen = self._event_type(request, caller)
        changed = self._of_event_type(chosen) | body
        self._shelf.put("event_type_availability_schedules", chosen.id, chosen.organization, changed)
        self._engine.commit()
        return resource(changed)

    async def limits(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the caller's meeting limits, as a list of one."""
        return json_answer({"collection": [self._limits(request, caller)]})

    async def change_limits(self, request: web.Request, caller: Caller) -> web.Response:
        """Change the caller's meeting limits; null is none."""
        held = self._limits(request, caller)
        body = await fields_of(request, tuple(PERIODS))
        wrong = [
            name
            for name, value in body.items()
            if value is not None and (not isinstance(value, int) or not 1 <= value <= MAX_LIMIT)
        ]
        if wrong or not body:
            raise invalid(*((name, f"must be 1 to {MAX_LIMIT}, or null") for name in wrong or PERIODS))
        self._shelf.put(KIND, caller.user.id, caller.user.id, held | body)
        self._engine.commit()
        return resource(held | body)

    async def locations(self, request: web.Request, caller: Caller) -> web.Response:
        """List where a user meets people."""
        self._user(request, caller)
        kinds = ("zoom_conference", "google_conference", "microsoft_teams_conference")
        return json_answer({"collection": [{"kind": kind, "status": "connected"} for kind in kinds]})

    def _user(self, request: web.Request, caller: Caller) -> SimulatedUser:
        ident = ident_of(request, "user", "users")
        if ident is None:
            raise invalid(("user", "is missing"))
        found = self._engine.world.users.get(ident)
        if found is None:
            raise not_found()
        if found.organization != caller.user.organization or (found.id != caller.user.id and not caller.administers):
            raise forbidden()
        return found

    def _event_type(self, request: web.Request, caller: Caller) -> SimulatedEventType:
        ident = ident_of(request, "event_type", "event_types")
        if ident is None:
            raise invalid(("event_type", "is missing"))
        found = self._engine.world.event_types.get(ident)
        if found is None or found.organization != caller.user.organization:
            raise not_found()
        return found

    def _limits(self, request: web.Request, caller: Caller) -> Json:
        if ident_of(request, "user", "users") != caller.user.id:  # not even an admin sees another's
            raise forbidden()
        return limits_of(self._engine.bookings, caller.user.id)

    def _meetings(self, host: str, start: datetime, end: datetime) -> list[SimulatedScheduledEvent]:
        early = start - timedelta(days=1)
        wanted = ScheduledEventFilter(None, (host,), status="active", min_start=early, max_start=end)
        found = self._engine.bookings.events(wanted, PageOrder(MAX_BUSY))
        return [each for each in found if each.end > start]

    def _places(
        self, chosen: SimulatedEventType, start: datetime, end: datetime, taken: list[SimulatedScheduledEvent]
    ) -> int:
        """Return how many places are free at a time: of a group event that was booked already, what is left."""
        for each in taken:
            if each.start < end and each.end > start:
                same = each.event_type == chosen.id and each.start == start
                return each.limit - self._engine.bookings.counts(each.id)[1] if same else 0
        return chosen.limit

    def _schedule_id(self, user: SimulatedUser) -> str:
        return Draws(self._engine.seed, "schedule", user.id).uuid()

    def _schedule(self, user: SimulatedUser) -> Json:
        return {
            "uri": uri("user_availability_schedules", self._schedule_id(user)),
            "default": True,
            "name": "Working hours",
            "user": uri("users", user.id),
            "timezone": "Etc/UTC",
            "rules": _rules(),
        }

    def _of_event_type(self, chosen: SimulatedEventType) -> Json:
        held = self._shelf.get("event_type_availability_schedules", chosen.id)
        user = uri("users", chosen.owner)
        rule: Json = {"timezone": "Etc/UTC", "rules": _rules(), "user": user}
        return held or {"availability_rule": rule, "availability_setting": "host"}


def _is_open(start: datetime, end: datetime) -> bool:
    day = start.replace(hour=0, minute=0)
    return (
        start.weekday() < DAYS.index("saturday")
        and start >= day + timedelta(hours=OPENS)
        and end <= day + timedelta(hours=CLOSES)
    )


def _rules() -> list[Json]:
    hours = [{"from": f"{OPENS:02}:00", "to": f"{CLOSES:02}:00"}]
    return [
        {"type": "wday", "wday": day, "intervals": hours if number < DAYS.index("saturday") else []}
        for number, day in enumerate(DAYS)
    ]
