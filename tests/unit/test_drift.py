"""A field that is not as documented: under `extra` where nothing depends on it, quarantined where something does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from slotwire.ingest.log import drift
from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.delivery import Origin
from slotwire.ingest.log.drift import BOOKING, MARK, RESOURCE, read_drifted
from slotwire.ingest.log.normalize import Fact, InviteeFact, QuarantineFact, normalize
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.codec import encode_data
from tests.support.public_endpoint import invitee_body
from tests.support.writing import accepted
from tools.expected import FOLDER

MARK_SET = {"uri": "https://api.calendly.com/invitee_no_shows/N", "created_at": "2026-11-23T09:00:01Z"}
CONTACT = {"uri": "https://api.calendly.com/contacts/C"}
DATA = "scheduled_event.location.data"
NO_URI = {"created_at": "2026-11-23T09:00:01Z", "weather": {"sky": "blue"}}


def read(body: bytes, origin: Origin = Origin.WEBHOOK) -> Fact:
    """Normalize a body that tells one fact, or the first of several."""
    return normalize(accepted(body, origin=origin))[0]


def with_field(body: bytes, path: str, value: object) -> bytes:
    """Put a value into a payload."""
    told = orjson.loads(body)
    *holders, field = path.split(".")
    holder = told["payload"]
    for name in holders:
        holder = holder[name]
    holder[field] = value
    return orjson.dumps(told)


@pytest.mark.parametrize(
    ("scenario", "drifted"),
    [
        ("invitee.created/drifted_no_show_empty", ("no_show",)),
        ("invitee.created/drifted_links_empty", ("new_invitee", "old_invitee")),
        ("invitee.created/drifted_answer_list", ("questions_and_answers.answer",)),
        ("invitee.created/drifted_answer_and_position", ("questions_and_answers.answer",)),
        ("invitee.created/drifted_location_text", ("scheduled_event.location",)),
        ("invitee.created/drifted_event_type_object", ("scheduled_event.event_type",)),
        ("invitee.created/drifted_scheduled_event_without_uri", ("scheduled_event.uri",)),
        ("routing_form_submission.created/drifted_answer_list", ("questions_and_answers.answer",)),
    ],
)
def test_drift_is_named_by_its_field(scenario: str, drifted: tuple[str, ...]) -> None:
    """Each way a payload was found to drift becomes an event, and names the field that is counted."""
    fact = read((FOLDER / f"{scenario}.json").read_bytes())
    assert not isinstance(fact, QuarantineFact)
    [result] = Batch([fact]).results
    assert (result.outcome, result.drifted) == ("stored", drifted)


@pytest.mark.parametrize("path", sorted(BOOKING))
def test_an_essential_field_of_a_booking_quarantines(path: str) -> None:
    """Without what identity, order or state depend on there is no event; the detail names the field."""
    refused = read(with_field(invitee_body(), path, ["of another type"]))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_payload", path)


@pytest.mark.parametrize("path", sorted(MARK))
@pytest.mark.parametrize("origin", [Origin.WEBHOOK, Origin.BACKFILL])
def test_an_essential_field_of_a_mark_quarantines(path: str, origin: Origin) -> None:
    """A mark that cannot be read is none to set; on other events of a webhook it is of no matter."""
    body = with_field(invitee_body("invitee_no_show.created", no_show=MARK_SET), path, [1])
    payload = orjson.loads(body)["payload"]
    fetched = orjson.dumps({"invitee": payload, "scheduled_event": payload["scheduled_event"]})
    refused = read(body if origin is Origin.WEBHOOK else fetched, origin)
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_payload", path)
    if origin is Origin.WEBHOOK:
        told = body.replace(b"invitee_no_show.created", b"invitee.canceled")
        assert not isinstance(read(told), QuarantineFact)


@pytest.mark.parametrize("path", sorted(RESOURCE))
def test_an_essential_field_of_a_resource_quarantines(path: str) -> None:
    """The same of a resource of which we store nothing."""
    refused = read(orjson.dumps({"event": "contact.updated", "payload": {**CONTACT, path: {"of": "another type"}}}))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_payload", path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("no_show", NO_URI),
        ("no_show", {"uri": 7, "created_at": 7, "weather": 1}),
        ("questions_and_answers", [{"question": "Q", "weather": 1}, "text"]),
        ("scheduled_event.event_memberships", "text"),
        ("scheduled_event.location", [{"type": "zoom"}]),
        ("tracking", ["a"]),
    ],
)
def test_an_unreadable_object_is_preserved_as_it_came(path: str, value: object) -> None:
    """An object without what it must have, or a list with something else in it, is whole under `extra`."""
    fact = read(with_field(invitee_body(), path, value))
    assert isinstance(fact, InviteeFact)
    *holders, field = path.split(".")
    holder: Any = fact.payload
    for name in holders:
        holder = getattr(holder, name)
    assert fact.drifted == (path,)
    assert holder.extra == {field: value}
    assert not getattr(holder, field)


def test_an_empty_uri_of_the_meeting_is_none() -> None:
    """The scheduled event's URI is taken from `event` where it is empty, as where it is missing."""
    fact = read(with_field(invitee_body(), "scheduled_event.uri", ""))
    assert isinstance(fact, InviteeFact)
    assert fact.payload.scheduled_event is not None
    assert (fact.payload.scheduled_event.uri, fact.drifted) == (fact.payload.event, ("scheduled_event.uri",))


def test_an_issue_of_no_field_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be moved out of the way, reading stops as a defect of ours, and does not try again for ever."""
    monkeypatch.setattr(drift, "_blamed", lambda _, told, *__: drift._Place("", told, "", told))
    with pytest.raises(AssertionError, match="an issue of no field"):
        read_drifted(InviteePayload, {"uri": "https://x/i", "tracking": 7}, BOOKING)


def test_a_byte_order_mark_is_ignored() -> None:
    """A body that begins with one says what it says without it."""
    body = invitee_body()
    fact = read(b"\xef\xbb\xbf" + body)
    assert isinstance(fact, InviteeFact)
    assert (fact.payload, fact.drifted) == (read(body).payload, ())  # type: ignore[union-attr]  # an InviteeFact


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (rb"Grace \ud83d", "Grace \ufffd"),
        (rb"\uDE00 Grace", "\ufffd Grace"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\\ud83d", "\\\ufffd"),
    ],
)
def test_half_a_character_costs_that_character(written: bytes, shown: str) -> None:
    """A name that was cut within an emoji is published with U+FFFD in its place, and counted."""
    fact = read(invitee_body(name="NAME").replace(b"NAME", written))
    assert isinstance(fact, InviteeFact)
    assert (fact.payload.name, fact.drifted) == (shown, ("name",))


def test_half_a_character_is_found_in_unknown_fields_and_keys() -> None:
    """In fields nobody knows it is replaced too, and counted as what holds them."""
    body = invitee_body(mood={"KEY": "x"}, scheduled_event={"uri": "https://x/e", "location": {"data": {"id": "KEY"}}})
    fact = read(body.replace(b"KEY", rb"\udc00"))
    assert isinstance(fact, InviteeFact)
    assert fact.payload.extra == {"mood": {"\ufffd": "x"}}
    assert fact.drifted == ("extra", "scheduled_event.location.data")
    assert Batch([fact]).event_rows(fact.told_at)


def test_a_backslash_before_a_u_is_not_half_a_character() -> None:
    """An escaped backslash and the letters after it are text."""
    fact = read(invitee_body(name="NAME").replace(b"NAME", rb"\\ud83d"))
    assert isinstance(fact, InviteeFact)
    assert (fact.payload.name, fact.drifted) == (r"\ud83d", ())


@pytest.mark.parametrize("path", ["uri", "old_invitee", "scheduled_event.uri"])
def test_half_a_character_in_an_identifier_is_quarantined(path: str) -> None:
    """With another character in its place it would be another invitee's."""
    refused = read(with_field(invitee_body(), path, "https://x/HALF").replace(b"HALF", rb"\ud83d"))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_utf8", path)


@pytest.mark.parametrize("broken", [rb'{"a": "\ud83d"', rb'"\ud83d" NaN', rb'{"a": NaN, "b": "\ud83d"}'])
def test_what_is_no_json_stays_none(broken: bytes) -> None:
    """A body that is broken besides is `not_json`."""
    refused = read(broken)
    assert isinstance(refused, QuarantineFact)
    assert refused.reason == "not_json"


@pytest.mark.parametrize("written", [b"1e400", b"-1e400", b"1" * 400, b"1" * 5000])
def test_a_number_beyond_all_readers_is_kept_as_its_text(written: bytes) -> None:
    """It is JSON. In fields nobody knows, in free-form ones and in known ones it costs no event, and is counted."""
    for body, drifted in (
        (invitee_body(weather={"n": 7777}), ("extra",)),
        (invitee_body(payment={"amount": 7777}), ("payment.amount",)),
        (invitee_body(name=7777), ("name",)),
        (with_field(invitee_body(), "scheduled_event.location", {"data": {"id": 7777}}), (DATA,)),
        (orjson.dumps({"event": "contact.created", "payload": {**CONTACT, "emails": [7777]}}), ("extra",)),
    ):
        fact = read(body.replace(b"7777", written))
        assert not isinstance(fact, QuarantineFact), fact.detail
        assert getattr(fact, "drifted", None) == drifted
        [event] = Batch([fact]).events
        assert b'"' + written + b'"' in encode_data(event.data)
    whole = read(invitee_body(weather=7777).replace(b"7777", b"1" * 30))
    assert isinstance(whole, InviteeFact)
    assert (whole.payload.extra, whole.drifted) == ({"weather": float("1" * 30)}, ())


@pytest.mark.parametrize("path", ["uri", "updated_at", "scheduled_event", "rescheduled"])
def test_a_number_beyond_all_readers_in_an_essential_field_is_quarantined(path: str) -> None:
    """By the field's name, as any other value that is not as documented."""
    refused = read(with_field(invitee_body(), path, 7777).replace(b"7777", b"1e400"))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("invalid_payload", path)


@pytest.mark.parametrize("path", ["uri", "old_invitee", "new_invitee"])
def test_a_null_character_in_an_identifier_is_quarantined(path: str) -> None:
    """Postgres has no text with one: the reason says so, and where it is. A copy of the letters around it is fine."""
    refused = read(with_field(invitee_body(), path, "https://x/\0"))
    assert isinstance(refused, QuarantineFact)
    assert (refused.reason, refused.detail) == ("null_character", path)
    mark = invitee_body("invitee_no_show.created", no_show={**MARK_SET, "uri": "\0"})
    contact = orjson.dumps({"event": "contact.deleted", "payload": {"uri": "https://x/\0"}})
    for body, where in ((mark, "no_show"), (contact, "uri")):
        refused = read(body)
        assert isinstance(refused, QuarantineFact)
        assert (refused.reason, refused.detail) == ("null_character", where)
    assert isinstance(read(with_field(invitee_body(), path, r"https://x/\u0000")), InviteeFact)
