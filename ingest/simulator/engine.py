"""What can happen at the simulated Calendly, and the deliveries that follow from it.

Each operation changes the state, writes one message per matching subscription, commits, and passes them to the sender.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.bookings import Bookings, with_mark_cleared
from slotwire.ingest.simulator.changes import Changes
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.drafts import BookingDetails, new_event, new_invitee
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.ledger import DeliveryLedger
from slotwire.ingest.simulator.model import (
    Canceler,
    Faults,
    Json,
    Message,
    SimulatedCancellation,
    SimulatedInvitee,
    SimulatedNoShow,
    SimulatedScheduledEvent,
    SimulatedSubmission,
    uri,
)
from slotwire.ingest.simulator.outbox import DeliverySequence, Outbox
from slotwire.ingest.simulator.people import REASONS, full_name
from slotwire.ingest.simulator.problems import SimulatedRefusal, forbidden, not_found
from slotwire.ingest.simulator.sender import Sender
from slotwire.ingest.simulator.world import World, oauth_app

HalfOrder: TypeAlias = Literal["canceled-first", "created-first", "random", "together"]
FAULTS = TypeAdapter(Faults)


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What an operation changed, and the messages about it."""

    invitees: tuple[SimulatedInvitee, ...] = ()
    event: SimulatedScheduledEvent | None = None
    submission: SimulatedSubmission | None = None
    no_show: SimulatedNoShow | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class _HalfDelivery:
    """How the two deliveries of a reschedule are sent."""

    order: HalfOrder
    delay: timedelta
    sequence: DeliverySequence | None


class Engine:
    """The simulated Calendly's behaviour, apart from HTTP."""

    def __init__(
        self,
        seed: str,
        world: World,
        clock: DrivenClock,
        database: SimulatorDatabase,
        bookings: Bookings,
        ledger: DeliveryLedger,
        sender: Sender,
    ) -> None:
        self.seed = seed
        self.world = world
        self.clock = clock
        self.bookings = bookings
        self.ledger = ledger
        self.sender = sender
        self._database = database
        self.changes = Changes(database, world)
        known = database.meta("faults")
        if known:
            sender.faults = FAULTS.validate_json(known)
        sender.app_key = database.meta("app_key") or oauth_app(seed).signing_key
        self.outbox = Outbox(seed, world, clock, bookings, ledger, sender)
        sender.meeting_end = bookings.meeting_end

    def book(
        self,
        details: BookingDetails,
        sequence: DeliverySequence | None = None,
        draws: Draws | None = None,
        delay: timedelta = timedelta(),
    ) -> OperationResult:
        """Book a meeting, or a place in a group event; its webhook goes out after so much of the simulator's time.

        Raises:
            SimulatedRefusal: the organization, event type or event is unknown; the event is full or canceled.
        """
        number = self.bookings.next_number("invitee")
        draws = draws or Draws(self.seed, "invitee", number)
        now = self.clock.now()
        event = self._event_for(details, draws, now)
        invitee = new_invitee(details, event, number, draws, now)
        self.bookings.put_event(event)
        self.bookings.put_invitee(invitee)
        return self._close(
            OperationResult(
                (invitee,),
                event,
                messages=self.outbox.write_invitee_event("invitee.created", invitee, event, sequence, delay),
            )
        )

    def cancel(
        self, invitee: str, by: Canceler = "invitee", reason: str | None = "", sequence: DeliverySequence | None = None
    ) -> OperationResult:
        """Cancel one invitee; a group event goes on without them.

        Raises:
            SimulatedRefusal: the booking is unknown, or already canceled.
        """
        found = self._active(invitee)
        event = self._event(found.event)
        now = self.clock.now()
        name = self.world.users[event.host].name if by == "host" else found.name or "Invitee"
        ended, event = self._end(found, event, SimulatedCancellation(name, by, now, reason), now)
        return self._close(
            OperationResult(
                (ended,), event, messages=self.outbox.write_invitee_event("invitee.canceled", ended, event, sequence)
            )
        )

    def cancel_event(self, ident: str, canceled_by: str, reason: str | None) -> OperationResult:
        """Cancel a scheduled event for all its active invitees, as a host does.

        Source: docs/reference/calendly.md, "REST".

        Raises:
            SimulatedRefusal: the event is unknown, in the past or already canceled.
        """
        event = self._event(ident)
        now = self.clock.now()
        if event.status == "canceled":
            raise forbidden("Event is already canceled")
        if event.end <= now:
            raise forbidden("Event in the past")
        cancellation = SimulatedCancellation(canceled_by, "host", now, reason)
        event = replace(event, status="canceled", cancellation=cancellation, updated_at=now)
        self.bookings.put_event(event)
        ended = []
        for invitee in self.bookings.invitees_of(ident, "active"):
            ended.append(replace(invitee, status="canceled", cancellation=cancellation, updated_at=now))
            self.bookings.put_invitee(ended[-1])
        messages = [
            each
            for invitee in ended
            for each in self.outbox.write_invitee_event("invitee.canceled", invitee, event, None)
        ]
        return self._close(OperationResult(tuple(ended), event, messages=tuple(messages)))

    def reschedule(
        self,
        invitee: str,
        start: datetime | None = None,
        order: HalfOrder = "random",
        delay: timedelta = timedelta(),
        sequence: DeliverySequence | None = None,
    ) -> OperationResult:
        """Move a booking: cancel the old invitee, create a new one, and send both halves in `order`.

        `delay` holds back the second half by so much of the simulator's time; `together` sends both at once.
        Source: docs/reference/calendly.md, "Reschedule".

        Raises:
            SimulatedRefusal: the booking is unknown, or already canceled.
        """
        old = self._active(invitee)
        event = self._event(old.event)
        now = self.clock.now()
        draws = Draws(self.seed, "move", self.bookings.next_number("move"))
        moved = new_event(self.world.event_types[event.event_type], start, None, draws, now)
        self.bookings.put_event(moved)
        return self._close(self._move(old, moved, "invitee", _HalfDelivery(order, delay, sequence), now))

    def move_event(
        self, ident: str, start: datetime | None = None, order: HalfOrder = "random", delay: timedelta = timedelta()
    ) -> OperationResult:
        """Move a scheduled event as its host does; each active invitee is rescheduled with two deliveries.

        Raises:
            SimulatedRefusal: the booking is unknown, or already canceled.
        """
        event = self._event(ident)
        if event.status == "canceled":
            raise forbidden("Event is already canceled")
        now = self.clock.now()
        draws = Draws(self.seed, "move", self.bookings.next_number("move"))
        moved = new_event(self.world.event_types[event.event_type], start, None, draws, now)
        self.bookings.put_event(moved)
        cancellation = SimulatedCancellation(self.world.users[event.host].name, "host", now, "")
        self.bookings.put_event(replace(event, status="canceled", cancellation=cancellation, updated_at=now))
        halves = _HalfDelivery(order, delay, None)
        pairs = [self._move(each, moved, "host", halves, now) for each in self.bookings.invitees_of(event.id, "active")]
        return self._close(
            OperationResult(
                tuple(invitee for pair in pairs for invitee in pair.invitees),
                moved,
                messages=tuple(message for pair in pairs for message in pair.messages),
            )
        )

    def mark_no_show(self, invitee: str, sequence: DeliverySequence | None = None) -> OperationResult:
        """Mark an invitee as a no-show.

        Raises:
            SimulatedRefusal: the invitee is unknown, or already marked.
        """
        found = self.bookings.invitee(invitee)
        if found is None:
            raise not_found()
        if found.no_show:
            raise SimulatedRefusal(409, "Already Exists", "Invitee is already marked as no show")
        number = self.bookings.next_number("no_show")
        mark = SimulatedNoShow(Draws(self.seed, "no_show", number).uuid(), self.clock.now())
        marked = replace(found, no_show=mark)
        self.bookings.put_invitee(marked)
        event = self._event(found.event)
        messages = self.outbox.write_invitee_event("invitee_no_show.created", marked, event, sequence)
        return self._close(OperationResult((marked,), event, no_show=mark, messages=messages))

    def clear_no_show(
        self, invitee: str, sequence: DeliverySequence | None = None, *, absent: bool | None = None
    ) -> OperationResult:
        """Delete a no-show mark. The delivery has `no_show` null or, if `absent`, leaves it out; None: drawn.

        Source: docs/reference/calendly.md, "Payloads".

        Raises:
            SimulatedRefusal: the invitee is unknown, or not marked.
        """
        found = self.bookings.invitee(invitee)
        if found is None or found.no_show is None:
            raise not_found()
        omit = Draws(self.seed, "clear", found.no_show.id).chance(0.5) if absent is None else absent
        cleared = with_mark_cleared(found)
        self.bookings.put_invitee(cleared)
        event = self._event(found.event)
        messages = self.outbox.write_invitee_event(
            "invitee_no_show.deleted", cleared, event, sequence, omit_no_show=omit
        )
        return self._close(OperationResult((cleared,), event, no_show=found.no_show, messages=messages))

    def submit_form(
        self, organization: str | None = None, invitee: str | None = None, sequence: DeliverySequence | None = None
    ) -> OperationResult:
        """Submit a routing form; with an invitee, one that led to this booking.

        Source: docs/reference/calendly.md, "Payloads".

        Raises:
            SimulatedRefusal: the organization or invitee is unknown.
        """
        tenant = self.organization(organization)
        led_to = self.bookings.invitee(invitee) if invitee else None
        if invitee and not led_to:
            raise not_found()
        number = self.bookings.next_number("submission")
        draws = Draws(self.seed, "submission", number)
        form = next(each for each in self.world.routing_forms.values() if each.organization == tenant)
        offer = draws.pick(self.world.offers(tenant))
        given, family = full_name(draws)
        answers = (
            (draws.uuid(), "Your name", f"{given} {family}"),
            (draws.uuid(), "How many are you?", draws.pick(("1-10", "11-50", None))),
        )
        results: tuple[Json, ...] = (
            {"type": "event_type", "value": uri("event_types", offer.id)},
            {"type": "external_url", "value": "https://www.example.com/contact"},
            {"type": "custom_message", "value": {"headline": "Thank you", "body": "We will write to you."}},
        )
        result = results[0] if led_to else draws.pick(results)
        value = SimulatedSubmission(
            draws.uuid(), tenant, form.id, answers, result, led_to.uri if led_to else None, self.clock.now()
        )
        self.bookings.put_submission(value)
        payload = payloads.encode(payloads.submission(value))
        messages = self.outbox.write_payload("routing_form_submission.created", value.uri, payload, tenant, sequence)
        return self._close(OperationResult(submission=value, messages=messages))

    def organization(self, wanted: str | None) -> str:
        """Return the id of an organization given by id or URI; without one, that of the first.

        Raises:
            SimulatedRefusal: the organization is unknown.
        """
        ident = wanted.rsplit("/", 1)[-1] if wanted else next(iter(self.world.organizations))
        if ident not in self.world.organizations:
            raise not_found()
        return ident

    def advance(self, by: timedelta) -> None:
        """Move the clock, and store its offset for a restart."""
        self.clock.advance(by)
        self._database.set_meta("clock_offset_seconds", repr(self.clock.offset.total_seconds()))
        self._database.commit()

    def set_faults(self, faults: Faults) -> None:
        """Inject these faults from now on, also after a restart."""
        self.sender.faults = faults
        self._database.set_meta("faults", FAULTS.dump_json(faults).decode())
        self._database.commit()

    def set_app_key(self, key: str) -> None:
        """Sign with this key of the OAuth app from now on, also after a restart."""
        self.sender.app_key = key
        self._database.set_meta("app_key", key)

    def commit(self) -> None:
        """Commit the state. Callers do this before they answer."""
        self._database.commit()

    def _close(self, result: OperationResult) -> OperationResult:
        self._database.commit()
        self.sender.submit(result.messages)
        return result

    def _event(self, ident: str) -> SimulatedScheduledEvent:
        event = self.bookings.event(ident)
        if event is None:
            raise not_found()
        return event

    def _active(self, ident: str) -> SimulatedInvitee:
        invitee = self.bookings.invitee(ident)
        if invitee is None:
            raise not_found()
        if invitee.status != "active":
            raise forbidden("Event is already canceled")
        return invitee

    def _event_for(self, details: BookingDetails, draws: Draws, now: datetime) -> SimulatedScheduledEvent:
        if details.event:
            event = self._event(details.event)
            if event.status != "active" or self.bookings.counts(event.id)[1] >= event.limit:
                raise forbidden("The event is full or canceled")
            return event
        tenant = self.organization(details.organization)
        if details.event_type:
            offer = self.world.event_types.get(details.event_type)
            if offer is None or offer.organization != tenant:
                raise not_found()
        else:
            offer = draws.pick([each for each in self.world.offers(tenant) if each.limit == 1])
        return new_event(offer, details.start, details.location, draws, now, details.guests)

    def _move(
        self, old: SimulatedInvitee, moved: SimulatedScheduledEvent, by: Canceler, halves: _HalfDelivery, now: datetime
    ) -> OperationResult:
        event = self._event(old.event)
        draws = Draws(self.seed, "invitee", self.bookings.next_number("invitee"))
        new = replace(
            old,
            id=draws.uuid(),
            event=moved.id,
            old_invitee=old.uri,
            new_invitee=None,
            no_show=None,
            created_at=now,
            updated_at=now,
        )
        name = self.world.users[event.host].name if by == "host" else old.name or "Invitee"
        cancellation = SimulatedCancellation(name, by, now, draws.pick(REASONS))
        ended, event = self._end(replace(old, rescheduled=True, new_invitee=new.uri), event, cancellation, now)
        self.bookings.put_invitee(new)
        pair = [("invitee.canceled", ended, event), ("invitee.created", new, moved)]
        if halves.order == "created-first" or (halves.order == "random" and draws.chance(0.5)):
            pair.reverse()
        link = halves.sequence or (None if halves.order == "together" else DeliverySequence())
        first = self.outbox.write_invitee_event(*pair[0], link)
        second = self.outbox.write_invitee_event(*pair[1], link, halves.delay)
        return OperationResult((ended, new), moved, messages=(*first, *second))

    def _end(
        self, invitee: SimulatedInvitee, event: SimulatedScheduledEvent, why: SimulatedCancellation, now: datetime
    ) -> tuple[SimulatedInvitee, SimulatedScheduledEvent]:
        ended = replace(invitee, status="canceled", cancellation=why, updated_at=now)
        self.bookings.put_invitee(ended)
        # A group event goes on when an invitee leaves, even the last one.
        # Source: docs/reference/calendly.md, "Payloads".
        if event.limit == 1:
            event = replace(event, status="canceled", cancellation=why, updated_at=now)
            self.bookings.put_event(event)
        return ended, event
