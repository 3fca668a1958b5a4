"""Edits of a scheduled event of which Calendly tells nobody: another host, another time, guests, a place.

No webhook is known for these: docs/reference/calendly.md, "Events".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from slotwire.ingest.simulator.engine import Engine, OperationResult
from slotwire.ingest.simulator.model import Json
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found


@dataclass(frozen=True, slots=True)
class EventEdit:
    """What an edit changes; None leaves it as it is.

    Attributes:
        host: the user who hosts it from now on.
        start: it begins then, and lasts as long as before.
        end: it ends then.
        guests: mail addresses of all its guests.
        place: the text of a place in person.
    """

    host: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    guests: tuple[str, ...] | None = None
    place: str | None = None


def edit_event(engine: Engine, ident: str, edit: EventEdit) -> OperationResult:
    """Edit a scheduled event; nothing is sent.

    Raises:
        SimulatedRefusal: the event or the host is unknown, the event is canceled, or it would end before it starts.
    """
    event = engine.bookings.event(ident)
    if event is None or (edit.host is not None and edit.host not in engine.world.users):
        raise not_found()
    start = edit.start or event.start
    end = edit.end or start + (event.end - event.start)
    if event.status != "active" or end <= start:
        raise SimulatedRefusal(400, "Invalid Argument", "the event is canceled, or would end before it starts")
    place: Json = {"additional_info": None, "location": edit.place, "type": "physical"}
    edited = replace(
        event,
        host=edit.host or event.host,
        start=start,
        end=end,
        guests=event.guests if edit.guests is None else edit.guests,
        location=event.location if edit.place is None else place,
        updated_at=engine.clock.now(),
    )
    engine.bookings.put_event(edited)
    engine.commit()
    return OperationResult((), edited)
