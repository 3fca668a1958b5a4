"""What REST tells becomes the facts that webhooks would have told, and the clear of a mark that it does not show."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import orjson
import pytest

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.delivery import Delivery, Origin
from slotwire.ingest.log.normalize import InviteeFact, QuarantineFact, ResourceFact, normalize
from slotwire.ingest.receive.accept import fetched_resource, fetched_row
from tests.support.log_model import Model
from tests.support.writing import ARRIVED, accepted

INVITEE = "https://api.calendly.com/scheduled_events/E/invitees/I"
ONE, TWO = (f"https://api.calendly.com/invitee_no_shows/{name}" for name in ("M1", "M2"))
CONTACT = "https://api.calendly.com/contacts/C"


def mark(uri: str, seconds: int) -> dict[str, str]:
    """Write a mark that was set so many seconds after nine."""
    return {"uri": uri, "created_at": f"2026-11-23T08:00:{seconds:02}.000000Z"}


def document(shown: dict[str, str] | None = None) -> dict[str, Any]:
    """Write an invitee as REST shows it."""
    return {"uri": INVITEE, "status": "active", "created_at": "2026-11-23T07:00:00.000000Z", "no_show": shown}


def webhook(position: int, event: str, at: int, shown: dict[str, str] | None) -> Delivery:
    """Make a webhook's delivery."""
    envelope = {"event": event, "created_at": f"2026-11-23T08:00:{at:02}.000000Z", "payload": document(shown)}
    return accepted(orjson.dumps(envelope), position=position)


def fetched(position: int, shown: dict[str, str] | None, *marks: str) -> Delivery:
    """Make a fetched delivery: what REST shows, and the marks that were known before it was asked."""
    meeting = {"uri": "https://api.calendly.com/scheduled_events/E"}
    row = fetched_row(
        "A", origin="reconcile", invitee=document(shown), scheduled_event=meeting, now=ARRIVED, marks=marks
    )
    return accepted(row.body or b"", position=position, origin=Origin.RECONCILE)


def fold(*deliveries: Delivery) -> Model:
    """Write deliveries one after the other."""
    model = Model()
    for each in deliveries:
        facts = normalize(each)
        model.append(Batch(facts, model.read(facts)))
    return model


def cleared(model: Model) -> dict[Any, bool]:
    """Return the marks whose clear is in the log, each with whether it is inferred."""
    rows = [row for row in model.log if row.type == "com.calendly.invitee_no_show.deleted.v1"]
    return {orjson.loads(row.data)["cleared_mark"]: row.inferred for row in rows}


SET_ONE = webhook(1, "invitee_no_show.created", 10, mark(ONE, 10))
CLEAR = webhook(2, "invitee_no_show.deleted", 20, None)
SET_TWO = webhook(3, "invitee_no_show.created", 30, mark(TWO, 30))


def test_a_mark_that_is_not_shown_any_more_is_cleared() -> None:
    """Known before Calendly was asked and not shown: cleared, inferred, at the time of the answer, once."""
    model = fold(SET_ONE, fetched(4, None, ONE), fetched(5, None, ONE))
    assert cleared(model) == {ONE: True}
    [row] = [row for row in model.log if row.type.endswith("deleted.v1")]
    assert row.time == ARRIVED
    [booking] = model.bookings.values()
    assert not booking.no_show


def test_another_mark_that_is_shown_stays_set() -> None:
    """The known mark is cleared and the shown one is set, though its time is before that of the answer."""
    model = fold(SET_ONE, fetched(4, mark(TWO, 30), ONE))
    assert cleared(model) == {ONE: True}
    [booking] = model.bookings.values()
    assert [each.cleared_at is None for each in booking.marks] == [False, True]


def test_a_mark_that_nobody_knew_before_is_not_cleared() -> None:
    """A mark that is set after Calendly was asked is not shown by that answer, and stays."""
    model = fold(SET_ONE, fetched(4, None))
    assert cleared(model) == {}


@pytest.mark.parametrize("order", [*permutations((CLEAR, SET_TWO, fetched(4, mark(TWO, 30), ONE)))])
def test_the_order_of_clears_changes_nothing(order: tuple[Delivery, ...]) -> None:
    """Calendly's own clear of the mark, before or after the inferred one, is the same event, and clears no other."""
    model = fold(SET_ONE, *order)
    assert set(cleared(model)) == {ONE}
    assert len([row for row in model.log if row.type.endswith("deleted.v1")]) == 1
    [booking] = model.bookings.values()
    assert [(each.uri, each.cleared_at is None) for each in booking.marks] == [(ONE, False), (TWO, True)]


def resource(body: bytes, origin: Origin) -> ResourceFact:
    """Read a delivery about a contact."""
    [fact] = normalize(accepted(body, origin=origin))
    assert isinstance(fact, ResourceFact)
    return fact


def test_what_rest_adds_changes_no_id() -> None:
    """A contact that was delivered and the same one fetched, which has `app_url` besides, are one event."""
    payload = {"uri": CONTACT, "name": "N", "updated_at": "2026-11-23T08:00:00.000000Z", "phone_numbers": None}
    told = orjson.dumps({"event": "contact.updated", "created_at": "2026-11-23T08:00:01.000000Z", "payload": payload})
    read = {**payload, "app_url": "https://calendly.example.test/app/contacts/C", "company": None}
    row = fetched_resource("A", event="contact.updated", payload=read, now=ARRIVED)
    delivered, shown = resource(told, Origin.WEBHOOK), resource(row.body or b"", Origin.RECONCILE)
    assert delivered.discriminator == shown.discriminator
    changed = orjson.dumps({"event": "contact.updated", "payload": {**payload, "name": "M"}})
    assert resource(changed, Origin.WEBHOOK).discriminator != delivered.discriminator


def test_a_resource_that_is_gone_is_inferred() -> None:
    """The tombstone of a resource that is not there any more has the id of Calendly's, and says that it is inferred."""
    row = fetched_resource("A", event="contact.deleted", payload={"uri": CONTACT}, now=ARRIVED, inferred=True)
    fact = resource(row.body or b"", Origin.RECONCILE)
    assert (fact.inferred, fact.discriminator) == (True, "")
    [event] = Batch([fact]).events
    assert (event.inferred, event.time) == (True, ARRIVED)


@pytest.mark.parametrize("body", [{}, {"event": "invitee.created", "payload": {}}, {"event": "contact.updated"}, []])
def test_what_nobody_fetched_is_quarantined(body: object) -> None:
    """A fetched row that is neither an invitee with its meeting nor a resource is quarantined."""
    [fact] = normalize(accepted(orjson.dumps(body), origin=Origin.RECONCILE))
    assert isinstance(fact, QuarantineFact)
    assert fact.reason == "not_fetched"
    assert not isinstance(fact, InviteeFact)
