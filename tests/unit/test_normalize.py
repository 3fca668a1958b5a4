"""The usual delivery is read in one pass: it must come out as the careful way has it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import cast

import orjson
import pytest

from slotwire.ingest.log import normalize as stage
from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.normalize import (
    Fact,
    InviteeEvent,
    InviteeFact,
    QuarantineFact,
    ResourceFact,
    normalize,
)
from slotwire.ingest.log.parts import MAX_DEPTH
from tests.support.public_endpoint import invitee_body
from tests.support.writing import accepted
from tools.expected import outcome_of, scenarios


def read(body: bytes) -> Fact:
    """Normalize a body that Calendly signed: it tells one fact."""
    [fact] = normalize(accepted(body))
    return fact


def read_carefully(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Fact:
    """Normalize it without the short way."""
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_read_usual", lambda _: None)
        return read(body)


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_fast_and_careful_parsing_agree_on_every_scenario(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scenario becomes the same fact by the short way and by the careful one."""
    body = path.read_bytes()
    assert read(body) == read_carefully(body, monkeypatch)


def zoom(data: object) -> bytes:
    """Write a booking over Zoom with the provider's data."""
    body = orjson.loads(invitee_body())
    body["payload"]["scheduled_event"]["location"] = {"type": "zoom", "data": data}
    return orjson.dumps(body)


def nested(levels: int) -> object:
    """Make an object so many levels deep."""
    made: object = 1
    for _ in range(levels):
        made = {"x": made}
    return made


@pytest.mark.parametrize(
    "body",
    [
        zoom(nested(MAX_DEPTH - 4)),
        zoom(nested(MAX_DEPTH - 3)),
        zoom({"id": 90071992547409931}),
        zoom({"id": "NaN"}),
        zoom({"id": 1}).replace(b'{"id":1}', b'{"id":NaN}'),
        zoom({"id": 1}).replace(b'{"id":1}', b'{"id":-Infinity}'),
        invitee_body(extra={"kept": True}),
        invitee_body(extra={"n": 1}).replace(b'{"n":1}', b'{"n":NaN}'),
        invitee_body(extra="text"),
        invitee_body(payment={"amount": 12.5}),
        invitee_body(payment={"amount": 1}).replace(b'{"amount":1}', b'{"amount":NaN}'),
        invitee_body(payment={"amount": 1}).replace(b'{"amount":1}', b'{"amount":1e999}'),
        invitee_body(weather=1).replace(b'"weather":1', b'"weather":-1e400'),
        invitee_body(extra={"n": 1}).replace(b'{"n":1}', b'{"n":1e400}'),
        zoom({"id": 1}).replace(b'{"id":1}', b'{"id":1e400}'),
        zoom({"id": 1}).replace(b'{"id":1}', b'{"id":' + b"1" * 400 + b"}"),
        zoom({"id": 1}).replace(b'{"id":1}', b'{"id": -' + b"1" * 25 + b"}"),
        invitee_body(extra={"n": [1]}).replace(b"[1]", b"[" + b"1" * 21 + b"]"),
        zoom({"id": 1}).replace(b'{"id":1}', rb'{"\u0069d":NaN}'),
        invitee_body(extra={"n": 1}).replace(b'"extra":{"n":1}', rb'"\u0065xtra":{"n":NaN}'),
        invitee_body(extra={"n": nested(MAX_DEPTH)}).replace(b"extra", rb"\u0065xtra"),
        invitee_body(questions_and_answers=[{"position": 2**53 - 1}]),
        invitee_body(questions_and_answers=[{"position": 2**53}]),
        invitee_body(told_at="1700000000"),
        invitee_body(told_at="0001-01-01T00:00:00+14:00"),
        invitee_body(unheard_of=1, tracking={"unheard_of": 2}),
        invitee_body("invitee_no_show.created"),
        invitee_body("invitee.moved"),
        invitee_body(told_at="yesterday"),
        invitee_body(told_at="2026-11-23T09:00:00"),
        invitee_body(name="Grace").replace(b"Grace", b"\xff"),
        invitee_body(name="Grace").replace(b"Grace", rb"\ud800"),
        b"\xef\xbb\xbf" + invitee_body(),
        invitee_body(old_invitee=""),
        invitee_body(no_show={}),
        invitee_body().replace(b'"created_by":null', b'"created_by":7'),
        invitee_body()[:-1],
        b"",
        b"[]",
    ],
)
def test_fast_and_careful_parsing_agree_on_odd_bodies(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are none, depth, unknown fields, broken JSON: one answer, whichever way it is read first."""
    assert read(body) == read_carefully(body, monkeypatch)


def test_a_plain_booking_is_parsed_fast() -> None:
    """A plain booking goes the short way; one with an unknown field cannot."""
    assert stage._read_usual(invitee_body()) is not None
    assert stage._read_usual(invitee_body(unheard_of=1)) is None


def test_the_limit_of_depth_holds_in_free_form_fields_too() -> None:
    """At the limit a body is taken, past it it is quarantined, also inside a field that holds anything."""
    at, past = read(zoom(nested(MAX_DEPTH - 4))), read(zoom(nested(MAX_DEPTH - 3)))
    assert isinstance(at, InviteeFact)
    assert isinstance(past, QuarantineFact)
    assert past.reason == "too_deep"


@pytest.mark.parametrize(
    "time", ["0001-01-01T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
@pytest.mark.parametrize("event", ["invitee.created", "invitee_no_show.deleted"])
def test_a_time_outside_utc_is_refused(time: str, event: str) -> None:
    """At either end of the calendar an offset leads out of it: such a time is quarantined where it is needed."""
    refused = read(invitee_body(event, created_at=time))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_payload", "created_at")
    told = read(invitee_body(event, told_at=time))
    assert isinstance(told, QuarantineFact) is (event == "invitee_no_show.deleted")


MARK, TIME = {"uri": "https://api.calendly.com/invitee_no_shows/N"}, "2026-11-23T09:00:01Z"


@pytest.mark.parametrize(
    ("body", "hangs"),
    [
        (invitee_body(told_at="yesterday"), False),
        (invitee_body("invitee.canceled", told_at="yesterday"), False),
        (orjson.dumps({"event": "contact.deleted", "created_at": [], "payload": {"uri": "https://x/C"}}), False),
        (invitee_body("invitee_no_show.created", no_show={**MARK, "created_at": TIME}, told_at="yesterday"), False),
        (invitee_body("invitee_no_show.created", no_show=MARK, told_at="yesterday"), True),
        (invitee_body("invitee_no_show.deleted", told_at="yesterday"), True),
    ],
)
def test_an_unreadable_time_of_the_envelope_costs_what_has_no_other(body: bytes, hangs: bool) -> None:
    """Without it nobody knows which mark was cleared. Elsewhere the signature's time stands in, and it is counted."""
    fact = read(body)
    if hangs:
        assert isinstance(fact, QuarantineFact)
        assert (fact.reason, fact.detail) == ("unknown_time", "created_at")
    else:
        assert isinstance(fact, InviteeFact | ResourceFact)
        assert (fact.told_at, fact.drifted) == (fact.delivery.signed_at, (stage.ENVELOPE_TIME,))
        assert Batch([fact]).event_rows(fact.told_at)


@pytest.mark.parametrize("time", ["0001-01-02T23:59:00+23:59", "9999-12-29T00:01:00-23:59"])
def test_the_outermost_times_are_written_in_utc(time: str) -> None:
    """A day inside either end every offset is taken, and the event says it in UTC."""
    [event] = outcome_of(invitee_body(created_at=time))["events"]
    assert event["time"].endswith("Z")
    assert datetime.fromisoformat(event["time"]) == datetime.fromisoformat(time)


def test_a_defect_of_ours_quarantines_one_delivery() -> None:
    """A fact on which the join fails is quarantined by the place in our code, and the others go on."""
    bodies = (invitee_body(), invitee_body(), CONTACT)
    good, other, contact = (
        fact for position, body in enumerate(bodies, start=1) for fact in normalize(accepted(body, position=position))
    )
    assert isinstance(other, InviteeFact)
    assert isinstance(contact, ResourceFact)
    no_time = cast("datetime", None)
    batch = Batch(
        [
            other._replace(event=InviteeEvent.NO_SHOW_DELETED, told_at=no_time),
            replace(contact, discriminator="\ud800"),
            good,
        ]
    )
    assert [each.outcome for each in batch.results] == ["quarantined", "quarantined", "stored"]
    for refused in batch.results[:2]:
        assert re.fullmatch(
            r"defect (AttributeError at join|UnicodeEncodeError at ids)\.py:\d+", f"{refused.reason} {refused.detail}"
        )


def test_an_unforeseen_body_is_quarantined() -> None:
    """Whatever is raised while a body is read, the delivery is kept with the place where it was."""
    refused = read(cast("bytes", NotBytes()))
    assert isinstance(refused, QuarantineFact)
    assert re.fullmatch(r"defect \w+ at \w+\.py:\d+", f"{refused.reason} {refused.detail}")


class NotBytes:
    """Something no reader can have foreseen."""


CONTACT = orjson.dumps({"event": "contact.updated", "payload": {"uri": "https://api.calendly.com/contacts/C"}})
