"""What a body may cost: its parts are counted before it is modelled, and its events are bounded in bytes."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from slotwire.ingest.log import batch as stage
from slotwire.ingest.log.batch import MAX_FACT_BYTES, AppendTooLarge, Batch
from slotwire.ingest.log.booking import MAX_HOSTS, MAX_WORDS
from slotwire.ingest.log.delivery import Origin
from slotwire.ingest.log.join import MAX_TOGGLES
from slotwire.ingest.log.normalize import QuarantineFact, normalize
from slotwire.ingest.log.parts import MAX_PARTS, count_parts
from tests.support.public_endpoint import invitee_body
from tests.support.worst_bodies import MAX_BODY_BYTES, URI, WorstBody, clears_of_many_marks, worst_bodies
from tests.support.writing import ARRIVED, accepted

BYTES_PER_PART = 64
"""What one part can become, at the most: `{}` among an event type's questions is written with seven fields."""
BYTES_PER_EVENT = 4_096
"""What an event has beside what its body said."""
EVENTS_PER_FACT = 2
"""That a delivery about an invitee without a story makes: an inferred `created` and its own."""


def folded(*bodies: bytes) -> Batch:
    """Take bodies through normalize and join in one batch."""
    deliveries = [accepted(body, position=position) for position, body in enumerate(bodies, start=1)]
    return Batch([fact for delivery in deliveries for fact in normalize(delivery)])


def reasons(body: bytes, origin: Origin = Origin.WEBHOOK) -> list[str]:
    """Return why a body is quarantined; nothing if it is not."""
    return [fact.reason for fact in normalize(accepted(body, origin=origin)) if isinstance(fact, QuarantineFact)]


def body_of(parts: int, filling: bytes = b"1") -> bytes:
    """Write a body with exactly so many parts."""
    empty = invitee_body(unheard_of="here")
    room = parts - count_parts(empty)
    made = empty.replace(b'"here"', b"[" + b",".join([filling] * room) + b"]")
    assert count_parts(made) == parts or parts > MAX_PARTS
    return made


@pytest.mark.parametrize("filling", [b"1", b'""', rb'"a,[{\"b"', rb'"\\"'])
def test_a_body_at_the_limit_of_parts_is_read_and_one_past_it_is_not(filling: bytes) -> None:
    """What separates and opens values is counted outside of texts only."""
    assert reasons(body_of(MAX_PARTS, filling)) == []
    assert reasons(body_of(MAX_PARTS + 1, filling)) == ["too_many_parts"]


@pytest.mark.parametrize("origin", [Origin.BACKFILL, Origin.RECONCILE])
def test_what_was_fetched_has_the_same_limit(origin: Origin) -> None:
    """REST's documents are counted, too."""
    payload = orjson.loads(body_of(MAX_PARTS - 1))["payload"]
    meeting = payload.pop("scheduled_event")
    told = {"invitee": payload, "scheduled_event": meeting}
    short = MAX_PARTS - count_parts(orjson.dumps(told))
    payload["unheard_of"] += [1] * short
    assert reasons(orjson.dumps(told), origin) == []
    payload["unheard_of"].append(1)
    assert reasons(orjson.dumps(told), origin) == ["too_many_parts"]


def test_a_long_text_full_of_separators_is_one_part() -> None:
    """Notes and transcripts have commas and brackets; they are no reason to quarantine a booking."""
    assert reasons(invitee_body(unheard_of="a, b [c] {d} " * 70_000)) == []


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b"," * 1_000_000,
        b'"' * 1_000_000,
        b'\\"' * 500_000,
        b"{" * 1_000_000,
        b'{"a":' * 200_000,
        b'"\\' * 500_000,
    ],
)
def test_a_body_that_is_no_json_is_quarantined_whatever_its_count(body: bytes) -> None:
    """Counting never fails, and what passes it is read by the parser."""
    assert reasons(body) in (["not_json"], ["too_many_parts"])


def check_growth(worst: WorstBody) -> None:
    """The events of a body are bounded by its bytes and its parts."""
    made = folded(worst.body)
    parts = count_parts(worst.body)
    assert parts <= MAX_PARTS
    assert len(made.appending) <= EVENTS_PER_FACT, worst.name
    for each in made.appending:
        assert len(each.data) <= len(worst.body) + BYTES_PER_PART * parts + BYTES_PER_EVENT, worst.name


@pytest.mark.parametrize(
    "event", ["invitee.canceled", "event_type.updated", "routing_form_submission.created", "contact.updated"]
)
def test_no_body_grows_past_its_parts(event: str) -> None:
    """Every field of a payload, filled in every way, in bodies of 3,000 bytes: larger ones grow alike."""
    bodies = list(worst_bodies(event, size=3_000))
    assert len(bodies) > 150
    for worst in bodies:
        check_growth(worst)


@pytest.mark.soak
def test_no_body_of_the_largest_size_grows_past_its_parts() -> None:
    """The same for all events and bodies of 1 MiB."""
    for worst in worst_bodies():
        check_growth(worst)


def test_the_largest_event_of_the_largest_body_is_within_the_limits() -> None:
    """1 MiB and all its parts: three events, as backfill makes them, fit into what one fact may make."""
    assert 3 * (MAX_BODY_BYTES + BYTES_PER_PART * MAX_PARTS + BYTES_PER_EVENT) <= MAX_FACT_BYTES


def clears(marks: int, padding: int) -> Batch:
    """Set so many marks, then clear them with one delivery that has so much text."""
    return folded(*clears_of_many_marks(marks, padding=padding))


def test_one_delivery_that_ends_many_marks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mark's end has the payload of the clear: at the limit they are written, one byte less room and none is."""
    made = clears(MAX_TOGGLES, padding=10)
    ends = [each for each in made.appending if each.event.data.type.endswith("no_show.deleted.v1")]
    assert len(ends) == MAX_TOGGLES
    size = sum(len(each.data) for each in ends)
    monkeypatch.setattr(stage, "MAX_FACT_BYTES", size)
    assert clears(MAX_TOGGLES, padding=10).results[-1].reason is None
    monkeypatch.setattr(stage, "MAX_FACT_BYTES", size - 1)
    refused = clears(MAX_TOGGLES, padding=10)
    assert refused.results[-1].reason == "too_large"
    assert len(refused.appending) == len(made.appending) - MAX_TOGGLES


def test_a_delivery_that_is_too_large_changes_nothing() -> None:
    """A megabyte of text in the clear of two hundred marks is quarantined; the booking's row has no clear of it."""
    made = clears(MAX_TOGGLES, padding=MAX_BODY_BYTES - 500)
    assert made.results[-1].reason == "too_large"
    [row] = made.merged().values()
    assert (len(row.marks), row.clears) == (MAX_TOGGLES, ())


def test_an_append_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the events go in together; one byte less room, and the writer has to halve the deliveries."""
    bodies = [invitee_body() for _ in range(4)]
    size = sum(len(each.data) for each in folded(*bodies).appending)
    monkeypatch.setattr(stage, "MAX_APPEND_BYTES", size)
    assert len(folded(*bodies).appending) == 4
    monkeypatch.setattr(stage, "MAX_APPEND_BYTES", size - 1)
    with pytest.raises(AppendTooLarge):
        folded(*bodies)


def row_of(**changes: object) -> Sequence[object]:
    """Return the status, scheduled event, place and hosts of a booking's row."""
    body = orjson.loads(invitee_body())
    meeting = {
        "uri": URI,
        "location": {"type": changes.pop("place", None)},
        "event_memberships": changes.pop("hosts", []),
    }
    body["payload"] |= {"scheduled_event": meeting, **changes}
    [row] = folded(orjson.dumps(body)).merged().values()
    return row.provider_status, row.scheduled_event, row.location_type, row.hosts


def test_a_booking_s_row_stays_small() -> None:
    """A row is read with each delivery about it: at the limits it has what was told, past them it goes without."""
    text, longer = "x" * MAX_WORDS, "x" * (MAX_WORDS + 1)
    hosts = [{"user": f"u{n}"} for n in range(MAX_HOSTS + 1)]
    names = tuple(host["user"] for host in hosts[:MAX_HOSTS])
    assert row_of(status=text, event=text, place=text, hosts=hosts[:-1]) == (text, text, text, names)
    assert row_of(status=longer, event=longer, place=longer, hosts=hosts) == (None, URI, None, names)
    assert row_of(hosts=[{"user": text}, {"user": longer}])[3] == (text,)


def test_rows_are_the_same_in_every_order() -> None:
    """What a row leaves out does not depend on which delivery came first."""
    first, second = invitee_body(status="x" * (MAX_WORDS + 1)), invitee_body(status="active")
    for bodies in ((first, second), (second, first)):
        assert all(row.provider_status in {None, "active"} for row in folded(*bodies).merged().values())


def test_what_was_measured_is_what_is_stored() -> None:
    """The rows have the data that was measured, byte for byte."""
    made = folded(invitee_body())
    assert [row.data for row in made.event_rows(ARRIVED)] == [each.data for each in made.appending]
