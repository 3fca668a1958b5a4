"""What a payload's objects do with fields they do not know."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from slotwire.schemas.calendly import Cancellation, InviteePayload
from slotwire.schemas.codec import encode_data
from slotwire.schemas.events import BookingState, ContactCreated, InviteeCreated

URI = "https://api.calendly.com/contacts/CONTACT"


@pytest.mark.parametrize("told", ["text", ["list"], None, 7])
@pytest.mark.parametrize("others", [{}, {"unknown": 1}])
def test_a_provider_field_named_extra_is_preserved(told: object, others: dict[str, int]) -> None:
    """Should Calendly send a field `extra` that is no object, it is kept like any unknown one, and read back so."""
    data = ContactCreated.model_validate({"uri": URI, "extra": told, **others})
    assert data.extra == {"extra": told, **others}
    assert ContactCreated.model_validate_json(encode_data(data)) == data


def test_an_object_named_extra_is_read_as_ours() -> None:
    """What we wrote under `extra` stays there when it is read, beside what is unknown now."""
    data = ContactCreated.model_validate({"uri": URI, "extra": {"kept": 1}, "unknown": 2})
    assert data.extra == {"kept": 1, "unknown": 2}


def test_known_fields_make_no_extra() -> None:
    """Without unknown fields nothing is written under `extra`, and what is no object is refused, not taken apart."""
    assert Cancellation.model_validate({"reason": ""}).model_dump(exclude_unset=True) == {"reason": ""}
    with pytest.raises(ValueError, match="valid dictionary or instance of Cancellation"):
        Cancellation.model_validate("reason")


def test_unknown_nested_fields_stay_in_their_object() -> None:
    """Unknown fields of objects inside, in lists too, are kept under `extra` of their own object, by both readers."""
    host = {"user": "U", "mood": "good"}
    body = {"uri": URI, "scheduled_event": {"uri": URI, "colour": 3, "event_memberships": [host, {}]}, "payment": {}}
    for read in (InviteePayload.model_validate(body), InviteePayload.model_validate_json(json.dumps(body))):
        assert read.scheduled_event is not None
        assert (read.extra, read.scheduled_event.extra) == ({}, {"colour": 3})
        assert [each.extra for each in read.scheduled_event.event_memberships] == [{"mood": "good"}, {}]


def test_invalid_json_is_refused() -> None:
    """Broken JSON is refused as such."""
    with pytest.raises(ValidationError, match="Invalid JSON"):
        InviteePayload.model_validate_json(b'{"uri": ')


def test_made_parts_equal_validated_parts() -> None:
    """`made` of validated fields equals validating the same values, and is written the same."""
    payload = InviteePayload.model_validate({"uri": URI, "name": "Ada", "tracking": {"utm_term": "x"}, "unknown": [1]})
    state = BookingState.made({}, state="active", revision=3, no_show=False, chain_root=URI)
    data = InviteeCreated.made(payload.__dict__, booking=state)
    checked = InviteeCreated.model_validate({**payload.model_dump(), "booking": state.model_dump()})
    assert data == checked
    assert json.loads(encode_data(data)) == json.loads(encode_data(checked))
    assert InviteeCreated.model_validate_json(encode_data(data)) == data
