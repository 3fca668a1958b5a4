"""`POST /invitees`: a booking by API, with what refuses it, and its webhook before, with or after the answer.

Source: docs/reference/calendly.md, "REST", and for what those pages leave open "Simulator assumptions".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import Caller, RestGate, body_of, resource
from slotwire.ingest.simulator.meeting_limits import reached
from slotwire.ingest.simulator.model import BookingAnswer, Message, SimulatedEventType, uri
from slotwire.ingest.simulator.people import QUESTIONS
from slotwire.ingest.simulator.problems import SimulatedRefusal, forbidden, invalid, not_found

MAX_GUESTS = 10
WAIT_SECONDS = 5.0
"""How long an answer waits for the first attempt of its webhook, where that comes first."""
LATE = timedelta(seconds=1)
"""How long after the answer the webhook goes out, by the simulator's clock, where it comes last."""
_MAIL = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _AskedInvitee(_Asked):
    email: _MAIL
    timezone: str = Field(min_length=1)
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    text_reminder_number: str | None = None


class _AskedLocation(_Asked):
    kind: str
    location: str | None = None


class _AskedAnswer(_Asked):
    question: str
    answer: str
    position: int


class _AskedTracking(_Asked):
    # All six must be there, each a text or null (docs/reference/calendly.md, "REST").
    utm_campaign: str | None
    utm_source: str | None
    utm_medium: str | None
    utm_content: str | None
    utm_term: str | None
    salesforce_uuid: str | None


class _AskedBooking(_Asked):
    event_type: str
    start_time: AwareDatetime
    invitee: _AskedInvitee
    location: _AskedLocation | None = None
    questions_and_answers: tuple[_AskedAnswer, ...] = ()
    tracking: _AskedTracking | None = None
    event_guests: tuple[_MAIL, ...] = Field((), max_length=MAX_GUESTS)


class InviteeCalls:
    """The call that books."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/invitees", gate.guard("scheduled_events:write", self.book))]

    async def book(self, request: web.Request, caller: Caller) -> web.Response:
        """Book a slot of an event type for somebody."""
        try:
            asked = _AskedBooking.model_validate(await body_of(request))
        except ValidationError as error:
            raise _refusal(error) from None
        offer = self._offer(asked.event_type, caller)
        self._check(asked, offer)
        joined = self._slot(offer, asked.start_time)
        webhook = self._engine.sender.faults.booking_webhook
        result = self._engine.book(_details(asked, offer, joined), delay=LATE if webhook == "after" else timedelta())
        if webhook == "before":
            await self._tried(result.messages)
        return resource(payloads.invitee(result.invitees[0]), 201)

    def _offer(self, given: str, caller: Caller) -> SimulatedEventType:
        ident = given.rpartition("/")[2]
        if given != uri("event_types", ident):
            raise invalid(("event_type", "must be the URI of an event type"))
        offer = self._engine.world.event_types.get(ident)
        if offer is None:
            raise not_found()
        if offer.organization != caller.user.organization:
            raise forbidden()
        return offer

    def _check(self, asked: _AskedBooking, offer: SimulatedEventType) -> None:
        wrong = []
        if asked.start_time.utcoffset():
            wrong.append(("start_time", "must be in UTC"))
        if asked.start_time <= self._engine.clock.now():
            wrong.append(("start_time", "must be in the future"))
        if not (asked.invitee.name or asked.invitee.first_name):
            wrong.append(("invitee.name", "is missing"))
        kind = "zoom_conference" if offer.location == "zoom" else offer.location
        if asked.location is not None and asked.location.kind != kind:
            wrong.append(("location.kind", f"must be {kind}"))
        if kind == "outbound_call" and (asked.location is None or not asked.location.location):
            wrong.append(("location.location", "is missing"))
        wrong += [
            (f"questions_and_answers[{place}].question", "is not a question of this event type")
            for place, each in enumerate(asked.questions_and_answers)
            if each.question not in QUESTIONS
        ]
        if wrong:
            raise invalid(*wrong)

    def _slot(self, offer: SimulatedEventType, start: datetime) -> str | None:
        """Return the group event that has a place, or None for a free slot.

        Raises:
            SimulatedRefusal: 409, the slot is taken.
        """
        end = start + timedelta(minutes=offer.minutes)
        for event in self._engine.bookings.active_around(offer.owner, start, end):
            same = (event.event_type, event.start) == (offer.id, start)
            if same and offer.limit > self._engine.bookings.counts(event.id)[1] and offer.limit > 1:
                return event.id
            raise SimulatedRefusal(409, "Already Exists", "This time is no longer available.")
        if reached(self._engine.bookings, offer.owner)(start):
            raise SimulatedRefusal(409, "Already Exists", "This time is no longer available.")
        return None

    async def _tried(self, messages: Sequence[Message]) -> None:
        sender = self._engine.sender
        async with asyncio.timeout(WAIT_SECONDS):
            while any(sender.untried(each.id) for each in messages):
                await sender.progressed()


def _details(asked: _AskedBooking, offer: SimulatedEventType, joined: str | None) -> BookingDetails:
    tracking = {} if asked.tracking is None else asked.tracking.model_dump(exclude_none=True)
    person = asked.invitee
    split = person.name is None
    return BookingDetails(
        organization=offer.organization,
        event_type=offer.id,
        event=joined,
        email=person.email,
        name=person.name or " ".join(part for part in (person.first_name, person.last_name) if part),
        first_name=person.first_name if split else None,
        last_name=person.last_name if split else None,
        start=asked.start_time.astimezone(UTC),
        timezone=person.timezone,
        tracking=tuple(tracking.items()),
        text_reminder_number=person.text_reminder_number,
        answers=tuple(BookingAnswer(each.question, each.answer, each.position) for each in asked.questions_and_answers),
        guests=asked.event_guests,
        scheduling_method="api",
    )


def _refusal(error: ValidationError) -> SimulatedRefusal:
    details = []
    for issue in error.errors(include_url=False, include_input=False, include_context=False):
        name = ""
        for part in issue["loc"]:
            name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
        details.append((name or "body", "is missing" if issue["type"] == "missing" else issue["msg"]))
    return invalid(*details)
