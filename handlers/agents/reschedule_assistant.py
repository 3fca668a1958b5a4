"""Moves bookings out of times in which nobody is there: Calendly itself has no operation that reschedules.

    slotwire agents run reschedule-assistant

An organization says when a host, or everybody, is away. A booking in such a time is moved to another open slot of the
same event type: the new slot is booked first, then the old one is canceled, as one action with a receipt
(docs/explanation/actions.md). What it cannot move, and why, is a dead letter; what only a person can tell is an action
with a person. docs/howto/move-bookings.md says how to set it up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from slotwire.handlers import Context, Done, Event, Reject, Retry
from slotwire.handlers.firings import Moment
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.reach.calendly import EventCalendly
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.ingest.foundation.agent_settings import Prefer, RescheduleSettings
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.schemas.calendly import InviteePayload, ScheduledEvent
from slotwire.schemas.events import InviteeCreated
from slotwire.schemas.ids import event_id, last_segment

MAX_TRIES = 3
"""Slots that are tried for one booking: somebody may take each before us. A dead letter driven again has as many."""
LOOK_AGAIN = timedelta(seconds=60)
"""How often an action is looked at that is not settled: `control` settles it, or gives it to a person, in an hour."""

agent = ShippedAgent(
    "reschedule-assistant",
    RescheduleSettings,
    retry=RetryPolicy(attempts=100),
    # A dead letter says that a person is needed for one booking, not that the code is bad.
    limit=GiveUpLimit(run=100_000, window=1_000, share=1.0),
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A meeting's time, as it was booked.

    Attributes:
        zone: the invitee's.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo

    def overlaps(self, begins: datetime, ends: datetime) -> bool:
        """Whether it shares time with another."""
        return self.start < ends and self.end > begins


class NotMovable(Exception):
    """A booking is to be moved, and cannot be: only a person can do something about it."""


@dataclass(frozen=True, slots=True)
class Booked:
    """What is known of a booking.

    Attributes:
        slot: when it is.
        hosts: the URIs of its hosts.
        event_type: its URI; None where it is not known.
        group: whether its meeting takes more than one invitee: to cancel it would cancel everybody's booking.
    """

    slot: Slot
    hosts: tuple[str, ...]
    event_type: str | None
    group: bool = False

    @classmethod
    def of(cls, invitee: InviteePayload, meeting: ScheduledEvent | None) -> Booked | None:
        """Read a booking as Calendly tells it; None where that does not say when it is."""
        if meeting is None or meeting.start_time is None:
            return None
        counter = meeting.invitees_counter
        slot = Slot(
            meeting.start_time, max(meeting.end_time or meeting.start_time, meeting.start_time), _zone(invitee.timezone)
        )
        hosts = tuple(each.user for each in meeting.event_memberships if each.user)
        group = counter is not None and max(counter.limit or 0, counter.active or 0) > 1
        return cls(slot, hosts, meeting.event_type, group)


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the invitee's browser said it: "Europe" is a folder
        return ZoneInfo("UTC")


def away_at(settings: RescheduleSettings, slot: Slot, hosts: Iterable[str]) -> bool:
    """Whether somebody of a meeting is away at its time."""
    here = {last_segment(each) for each in hosts}
    return any(
        slot.overlaps(each.begins, each.ends) and (each.user is None or last_segment(each.user) in here)
        for each in settings.away
    )


def concerns(settings: RescheduleSettings, booked: Booked, now: datetime) -> bool:
    """Whether a booking is to be moved: it is to come, of an event type that is meant, and somebody is away."""
    wanted = {last_segment(each) for each in settings.event_types}
    if booked.slot.start <= now or (wanted and booked.event_type and last_segment(booked.event_type) not in wanted):
        return False
    return away_at(settings, booked.slot, booked.hosts)


def choose(
    settings: RescheduleSettings, old: Slot, hosts: Collection[str], offered: Iterable[datetime], now: datetime
) -> datetime | None:
    """Choose the slot to move a booking to.

    Args:
        settings: the organization's.
        old: when the booking is.
        hosts: whose away times count.
        offered: when the event type can be booked, without what was tried.
        now: the time.

    Returns:
        When the new slot begins; None if none fits.
    """
    lasts, last = old.end - old.start, old.start + timedelta(days=settings.within_days)
    first = max(now + timedelta(hours=settings.notice_hours), old.end)
    slots = [Slot(at, at + lasts, old.zone) for at in sorted(offered) if first <= at <= last]
    fit = [each for each in slots if not away_at(settings, each, hosts)]
    preferred = fit
    for same in _PREFERENCES[settings.prefer]:
        preferred = [each for each in fit if same(each.start.astimezone(old.zone), old.start.astimezone(old.zone))]
        if preferred:
            break
    found = preferred or fit
    return found[0].start if found else None


def _time(one: datetime, other: datetime) -> bool:
    return one.time() == other.time()


def _weekday(one: datetime, other: datetime) -> bool:
    return one.weekday() == other.weekday()


_PREFERENCES: dict[Prefer, tuple[Any, ...]] = {
    "soonest": (),
    "same_time": (_time,),
    "same_weekday": (lambda one, other: _time(one, other) and _weekday(one, other), _weekday),
}
"""What is asked of a slot in its time zone, the most wanted first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided about one try, and is kept with the run: later runs do the same.

    Attributes:
        slot: when the new slot begins; None if the booking needs no move any more.
        before: when the old one does.
        dry_run: whether it is only told.
    """

    slot: datetime | None
    before: str = ""
    reason: str = ""
    ask: str | None = None
    ask_hours: int = 1
    dry_run: bool = False

    @classmethod
    def read(cls, told: dict[str, Any]) -> Plan:
        """Read what a step remembered."""
        slot = told["slot"]
        return cls(**{**told, "slot": None if slot is None else datetime.fromisoformat(slot)})

    def times(self) -> dict[str, str | None]:
        """Return from when it is moved, and to when."""
        return {"from_time": self.before, "to_time": None if self.slot is None else self.slot.isoformat()}


def to_come(event: Event[InviteeCreated]) -> bool:
    """Whether a booking may be moved at all."""
    meeting = event.data.scheduled_event
    return event.data.booking.state == "active" and meeting is not None and meeting.event_type is not None


@agent.on(InviteeCreated, where=to_come)
async def keep_free(event: Event[InviteeCreated], ctx: Context) -> Done | Retry | Reject:
    """Move a booking that was made for a time in which somebody is away."""
    meeting = event.data.scheduled_event
    return await _kept_free(ctx, event.data.uri, "" if meeting is None else meeting.uri, Booked.of(event.data, meeting))


@agent.at(before_start=timedelta(days=7), name="week_before")
@agent.at(before_start=timedelta(days=1), name="day_before")
@agent.at(before_start=timedelta(hours=2), name="hours_before")
async def look_again(moment: Moment, ctx: Context) -> Done | Retry | Reject:
    """Move a booking that was made before somebody said that they are away."""
    found = await ctx.booking()
    slot = Slot(moment.start_time, moment.end_time, ZoneInfo("UTC"))
    hosts = () if found is None else found.booking.hosts
    return await _kept_free(ctx, moment.invitee, moment.scheduled_event, Booked(slot, hosts, None))


async def _kept_free(ctx: Context, invitee: str, meeting: str, booked: Booked | None) -> Done | Retry | Reject:
    """Move a booking if it is to be moved. A run that has begun goes on, whatever the settings say by now."""
    if ctx.run is None or ctx.run.known is None:
        settings = await agent.settings(ctx.organization)
        if settings is None or booked is None or not concerns(settings, booked, ctx.clock.now()):
            return Done()
    try:
        return await _Move(ctx, invitee).go()
    except NotMovable as reason:
        start = "" if booked is None else booked.slot.start.astimezone(UTC).isoformat()
        return await _left(ctx, meeting, start, str(reason))


async def _left(ctx: Context, meeting: str, start: str, reason: str) -> Done | Reject:
    """Tell a person once that a meeting's bookings are not moved, by one dead letter, until something is different.

    Whichever of its invitees, and of the looks at them, comes first tells it. That is written before the dead letter
    is, with who tells it: a run that ends in between does so again.
    """
    settings = await agent.settings(ctx.organization)
    wanted = "" if settings is None else settings.model_dump_json()
    if settings is not None and settings.dry_run:
        return agent.would(ctx, "leave a booking to a person", why=reason)
    about = hashlib.sha256(f"{start}\n{reason}\n{wanted}".encode()).hexdigest()
    said = json.dumps({"about": about, "by": str(ctx.event.id)})
    first = json.loads(await ctx.chains.first(ctx.organization, meeting, said))
    if first["by"] == str(ctx.event.id):
        return Reject(f"the booking is not moved: {reason}")
    ctx.log.info("not_movable_still", told_by=first["by"], why=reason)
    return Done()


class _Move:
    """Moves one booking.

    Its actions are those of the event with which the booking was made, whatever began this run: so their keys are the
    same, and no later run does a second time what it is not known of an earlier one.
    """

    def __init__(self, ctx: Context, invitee: str) -> None:
        self._ctx = ctx
        self._invitee = invitee
        organization = f"https://api.calendly.com/organizations/{ctx.organization}"
        self._calendly = EventCalendly(ctx.calls, event_id(organization, "invitee.created", invitee))
        self._tried: list[datetime] = []

    async def go(self) -> Done | Retry | Reject:
        """Try slots one after the other, each once, as far as the run has not come yet."""
        refusal = ""
        for number in range(1, MAX_TRIES * (2 if self._ctx.redriven else 1) + 1):
            plan = Plan.read(await self._ctx.step(f"plan {number}", self._plan, on_unknown="retry"))
            if plan.slot is None:
                return Done()
            if plan.dry_run:
                return agent.would(self._ctx, "move a booking", **plan.times())
            if plan.ask is not None and not await self._approved(plan, number):
                return _told(self._ctx, "not_approved", plan)
            try:
                done = await self._calendly.act(
                    "reschedule", name=f"move-{number}", start_time=plan.slot, reason=plan.reason
                )
            except RequestRefused as refused:
                return _refused(self._ctx, refused, plan)
            if done["state"] != "refused":
                return _ended(self._ctx, done, plan)
            refusal = str(done["reason"])
            self._tried.append(plan.slot)
        return Reject(f"Calendly refused {len(self._tried)} slots, the last one because: {refusal}")

    async def _plan(self, _key: str) -> dict[str, Any]:
        """Look at the booking, the organization's wishes and the open slots as they are now.

        Raises:
            NotMovable: the booking is to be moved, and cannot be.
        """
        told = await self._calendly.call("get-scheduled-event-invitees")
        invitee = InviteePayload.model_validate(told["resource"])
        told = await self._calendly.call("get-scheduled-event")
        booked = Booked.of(invitee, ScheduledEvent.model_validate(told["resource"]))
        settings, now = await agent.settings(self._ctx.organization), self._ctx.clock.now()
        if settings is None or booked is None or invitee.status != "active" or not concerns(settings, booked, now):
            return {"slot": None}
        if booked.group:
            raise NotMovable("a group event's old slot would be canceled for all its invitees")
        found = choose(settings, booked.slot, booked.hosts, await self._offered(settings, booked.slot, now), now)
        if found is None:
            raise NotMovable("there is no open slot; allow more days, or move it by hand")
        return {
            "slot": found.isoformat(),
            "before": booked.slot.start.isoformat(),
            "reason": settings.reason,
            "ask": settings.ask,
            "ask_hours": settings.ask_hours,
            "dry_run": settings.dry_run,
        }

    async def _offered(self, settings: RescheduleSettings, old: Slot, now: datetime) -> set[datetime]:
        """Read when the event type can be booked, without what was tried."""
        offered = await self._calendly.call(
            "list-event-type-available-times",
            start_time=max(now + timedelta(minutes=1), old.start),
            end_time=old.start + timedelta(days=settings.within_days, minutes=1),
        )
        times = {datetime.fromisoformat(each["start_time"]).astimezone(UTC) for each in offered["collection"]}
        return times.difference(self._tried)

    async def _approved(self, plan: Plan, number: int) -> bool:
        what = {"invitee": self._invitee, **plan.times()}
        timeout = timedelta(hours=plan.ask_hours)
        name = f"move {number}"
        decision = await self._ctx.approval(name, what=what, person=plan.ask or "", timeout=timeout)
        return decision.approved


def _ended(ctx: Context, done: dict[str, Any], plan: Plan) -> Done | Retry | Reject:
    """Say what follows from an action as it is now."""
    match done["state"]:
        case "open" | "not_sent":
            return Retry(LOOK_AGAIN)
        case "done":
            return _told(ctx, "moved", plan)
        case "person":  # the action says why, and an alert tells a person
            return _told(ctx, "with_person", plan)
        case _:
            return Reject(f"it is not known whether the new slot is booked: slotwire actions show {done['id']}")


def _refused(ctx: Context, refused: RequestRefused, plan: Plan) -> Done:
    """Say what follows where nothing was done.

    Raises:
        NotMovable: nor will it be later.
        RequestRefused: it may be otherwise later: the agent may not act, or no connection can.
    """
    match refused.code:
        case "invitee_not_active":  # canceled or moved meanwhile
            return _told(ctx, "not_active", plan)
        case "idempotency_key_reused":  # an earlier run asked for another slot, and its action says what came of it
            return _told(ctx, "tried_before", plan)
        case "cancels_everyone" | "slots_overlap" | "not_movable":
            raise NotMovable(refused.message) from refused
        case _:
            raise refused


def _told(ctx: Context, what: str, plan: Plan) -> Done:
    ctx.log.info(what, **plan.times())
    return Done()
