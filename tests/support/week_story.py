"""What people do in a simulated week, as drawn from its seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.ledger import MessageFilter
from slotwire.ingest.simulator.model import SimulatedEventType, SimulatedInvitee, SimulatedScheduledEvent, uri
from tests.support.week_world import WeekWorld

Attends = Literal["came", "absent", "unknown", "corrected", "others", "forgiven"]
"""Whether somebody came, or nobody knows; it was said late, somebody else marked them, or took our mark back."""
ATTENDS: tuple[tuple[Attends, int], ...] = (
    ("came", 3),
    ("absent", 3),
    ("unknown", 1),
    ("corrected", 2),
    ("others", 1),
    ("forgiven", 2),
)


ELSEWHERE = "Stranger"
"""Begins the names of those who book in the other organization."""


@dataclass
class Person:
    """Somebody who books once, and may move or cancel that.

    Attributes:
        away: whether they booked a time in which nobody is there.
        group: whether they booked a group event.
        seen_to: whether somebody has done what people do about their mark.
        marked: whether they are to be marked in the end, if their meeting took place.
    """

    name: str
    email: str
    attends: Attends
    away: bool = False
    group: bool = False
    invitees: list[str] = field(default_factory=list)
    seen_to: bool = False
    marked: bool = field(init=False)

    def __post_init__(self) -> None:
        """Expect what follows from what the source of attendance says at first."""
        self.marked = self.attends in {"absent", "corrected", "forgiven"}


@dataclass
class WeekStory:
    """What happened, and to whom.

    Attributes:
        people: by their e-mail addresses.
        ended: the event type that ended, if one has.
    """

    world: WeekWorld
    seed: int
    people: dict[str, Person] = field(default_factory=dict)
    ended: str = ""

    def day(self, number: int, bookings: int) -> None:
        """Let people do what they do on a day: book, move, cancel, and see to who came the day before."""
        draws = Draws("week", self.seed, number)
        self._see_to_marks()
        for place in range(bookings):
            person = self._booked(draws, f"{number}{place}")
            if person.group or person.away:
                continue
            if draws.chance(0.3):
                self._engine.reschedule(person.invitees[-1], self._start(draws))
                person.invitees.append(self.of(person)[-1].id)
            elif draws.chance(0.25):
                self._engine.cancel(person.invitees[-1], reason="“\n09:00-09:30      “Board”")

    def away(self, number: int, bookings: int) -> None:
        """Let people book times in which nobody is there; the first of them a group event."""
        draws = Draws("week", self.seed, "away", number)
        for place in range(bookings):
            start = self.world.away + timedelta(hours=9 + place % 7)
            self._booked(draws, f"{number}{place}a", start=start, group=place == 0)

    def elsewhere(self, number: int) -> None:
        """Let somebody book in the other organization who does not come, and somebody while nobody is there."""
        tomorrow = self.world.now.replace(hour=10, minute=0, second=0, microsecond=0) + timedelta(days=1)
        for place, start in enumerate((tomorrow, self.world.away + timedelta(hours=10 + number))):
            name = f"{ELSEWHERE} {number}{place}"
            self.world.receivers.came[name] = False
            self._engine.book(BookingDetails(organization=self.world.other, name=name, start=start))

    def end_an_event_type(self) -> None:
        """Switch one off that nobody books any more."""
        [offer] = self._offers("15 Minute Call")
        self._engine.changes.event_type(replace(offer, active=False))
        self.ended = uri("event_types", offer.id)

    def _booked(self, draws: Draws, number: str, *, start: datetime | None = None, group: bool | None = None) -> Person:
        is_group = draws.chance(0.15) if group is None else group
        mail, away = f"guest{number}@example.com", start is not None
        person = Person(f"Guest {number}", mail, draws.weighted(ATTENDS), away, is_group)
        offers = self._offers("Product Webinar" if is_group else "30 Minute Meeting", of_all=not (is_group or away))
        offer = draws.pick(offers)
        details = BookingDetails(
            organization=self.world.org,
            event_type=offer.id,
            email=person.email,
            name=person.name,
            start=start or self._start(draws),
        )
        made = self._engine.book(details).invitees[0]
        person.invitees.append(made.id)
        self.people[person.email] = person
        if person.attends != "unknown":
            self.world.receivers.came[person.name] = person.attends in {"came", "others"}
        return person

    def _start(self, draws: Draws) -> datetime:
        """Draw a full hour of a day to come on which somebody is there."""
        day = self.world.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1 + draws.below(2))
        while day.date() == self.world.away.date():
            day += timedelta(days=1)
        return day + timedelta(hours=9 + draws.below(7))

    def _see_to_marks(self) -> None:
        """Do, once for each meeting that is over, what people do about marks before the last look at it."""
        for person in self.people.values():
            last = self.of(person)[-1]
            over = self.meeting(last).end < self.world.now and last.status == "active"
            if not over or person.seen_to:
                continue
            person.seen_to = True
            if person.attends == "corrected":
                self.world.receivers.came[person.name], person.marked = True, False
            elif person.attends == "others":
                self._engine.mark_no_show(last.id)
                person.marked = True
            elif person.attends == "forgiven" and last.no_show is not None:
                self._engine.clear_no_show(last.id)
                person.marked = False

    def of(self, person: Person) -> list[SimulatedInvitee]:
        """Return somebody's invitees, in the order in which they were made."""
        bookings = self._engine.bookings
        rows = bookings._database.rows("SELECT event FROM invitees GROUP BY event")
        every = [each for (event,) in rows for each in bookings.invitees_of(event)]
        return sorted((each for each in every if each.email == person.email), key=lambda each: each.created_at)

    def meeting(self, invitee: SimulatedInvitee) -> SimulatedScheduledEvent:
        """Return the meeting of an invitee."""
        found = self._engine.bookings.event(invitee.event)
        assert found is not None
        return found

    def changes(self, host: str | None = None) -> Counter[tuple[str, str]]:
        """Return what has happened, each once: what it is, and to whom."""
        found = Counter[tuple[str, str]]()
        for person in self.people.values():
            theirs = self.of(person)
            if host is not None and self.meeting(theirs[0]).host != host:
                continue
            found["New", person.name] += 1
            found["Moved", person.name] += len(theirs) - 1
            found["Canceled", person.name] += theirs[-1].status == "canceled"
            for kind, event in (("No-show", "invitee_no_show.created"), ("No-show cleared", "invitee_no_show.deleted")):
                sent = self._engine.ledger.listing(MessageFilter(None, event, None, None), 0, 1_000)
                ids = {each.id for each in theirs}
                found[kind, person.name] += sum(
                    message.resource.rpartition("/")[2] in ids and message.duplicate_of is None for message, _ in sent
                )
        return +found

    @property
    def _engine(self) -> Engine:
        return self.world.calendly.engine

    def _offers(self, title: str, *, of_all: bool = False) -> list[SimulatedEventType]:
        """Return the event types with a title: the owner's, or of all members who have one."""
        world, org = self.world.calendly.world, self.world.org
        owner = world.members(org)[0].id
        return [each for each in world.offers(org) if each.name == title and (of_all or each.owner == owner)]
