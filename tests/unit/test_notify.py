"""What the shipped agent `notify` writes, and of which events: without a network."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slotwire.handlers.agents import notify
from slotwire.handlers.agents.notify import MAX_BODY_BYTES, MAX_TYPED_CHARACTERS, is_wanted, line_of, plain, webhook_of
from slotwire.handlers.testing import event_of
from slotwire.ingest.foundation.agent_settings import NotifySettings
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import (
    BookingState,
    EventData,
    EventTypeUpdated,
    InviteeCanceled,
    InviteeCreated,
    InviteeRescheduled,
)

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
URL = "https://receiver.example.com/hook"
INVITEE = "https://api.calendly.com/scheduled_events/E/invitees/I"
TYPED = (
    "<!channel> @here [click](https://evil.example/) *now* evil.example\r\n\u202emore & <@U123|x> :tada: #general `x`"
)


def wanting(**fields: object) -> NotifySettings:
    """Make settings."""
    return NotifySettings.read({"url": URL, "secret": SECRET, **fields}, allow_local=False)


def booked(cls: type[EventData] = InviteeCreated, *, origin: str = "webhook", **fields: object) -> Event[EventData]:
    """Make an event of a booking with everything that opens something."""
    payload = {
        "uri": INVITEE,
        "name": "Jane <b>Doe</b>",
        "cancel_url": "https://calendly.com/cancellations/secret",
        "reschedule_url": "https://calendly.com/reschedulings/secret",
        "scheduled_event": {
            "uri": "https://api.calendly.com/scheduled_events/E",
            "name": TYPED,
            "start_time": "2026-12-01T10:00:00Z",
            "end_time": "2026-12-01T10:30:00Z",
            "event_type": "https://api.calendly.com/event_types/HALF",
            "location": {"type": "zoom", "join_url": "https://zoom.example/secret", "data": {"password": "secret"}},
            "extra": {"host_link": "https://example.com/secret"},
        },
        "booking": BookingState(state="active", revision=1, chain_root=INVITEE).model_dump(),
        **fields,
    }
    return event_of(cls.model_validate(payload), origin=origin)


def test_a_webhook_has_the_event_and_nothing_that_opens_something() -> None:
    """The body has `type`, `timestamp`, `data` and the context; links that act are sent only where it is wished."""
    event = booked()
    told = orjson.loads(webhook_of(event, wanting()))
    assert (told["type"], told["id"], told["timestamp"]) == (event.type, str(event.id), "2026-01-01T00:00:00Z")
    assert (told["source"], told["subject"], told["origin"]) == ("/organizations/TRIAL", INVITEE, "webhook")
    assert told["data"]["scheduled_event"]["name"] == TYPED
    assert b"secret" not in webhook_of(event, wanting())
    whole = orjson.loads(webhook_of(event, wanting(capability_urls=True)))["data"]
    assert whole["cancel_url"].endswith("secret")
    assert whole["scheduled_event"]["location"]["data"] == {"password": "secret"}


def test_a_body_has_a_limit() -> None:
    """A body at the limit goes as it is; past it there is a reference in place of the data."""
    room = MAX_BODY_BYTES - len(webhook_of(booked(name=""), wanting()))
    whole = webhook_of(booked(name="x" * room), wanting())
    assert len(whole) == MAX_BODY_BYTES
    event = booked(name="x" * (room + 1))
    told = orjson.loads(webhook_of(event, wanting()))
    assert (told["data"], told["dataref"]) == (None, f"/v1/events/{event.id}")


def test_a_chat_reads_one_line_without_names() -> None:
    """The line says what happened and when; the invitee only where it is wished; a move from where to where."""
    line = line_of(booked(), name_invitees=False)
    assert line.startswith("Booked: ")
    assert line.endswith(" on Tue 01 Dec 2026, 10:00 UTC")
    assert "Jane" not in line
    assert "Jane \u2039b\u203aDoe" in line_of(booked(), name_invitees=True)
    assert line_of(booked(InviteeCanceled, rescheduled=True), name_invitees=False).startswith("Moved away: ")
    at = datetime(2026, 12, 1, 9, tzinfo=UTC)
    state = BookingState(state="active", revision=2, chain_root=INVITEE)
    moved = InviteeRescheduled(uri=INVITEE, old_invitee=INVITEE, start_time=at, old_start_time=None, booking=state)
    assert line_of(event_of(moved), name_invitees=True) == "Moved: from an unknown time to Tue 01 Dec 2026, 09:00 UTC"
    changed = EventTypeUpdated.model_validate({"uri": "https://api.calendly.com/event_types/HALF"})
    assert line_of(event_of(changed), name_invitees=True) == "Event type updated"


@given(st.text(max_size=200))
@example(TYPED)
@example(".:")
@example("a..b c.-d .")
@settings(max_examples=50)
def test_what_people_typed_means_nothing_to_a_chat(text: str) -> None:
    """No mention, link, markup, hidden character or second line is left of any text, and not too much of it."""
    shown = plain(text)
    assert not set(shown) & set("<>&@*_~`|[]()#\\:/\r\n\u202e\u200b\u2028")
    assert not any("." in word.rstrip(".") for word in shown.split())
    assert len(shown) <= MAX_TYPED_CHARACTERS
    assert plain("Dr. Who, 2nd floor - ok?") == "Dr. Who, 2nd floor - ok?"


def test_only_what_is_wanted_is_told() -> None:
    """Type, origin and event type decide; by default a backfill is not told."""
    assert is_wanted(booked(), wanting())
    assert not is_wanted(booked(origin="backfill"), wanting())
    assert is_wanted(booked(origin="backfill"), wanting(origins=["backfill"]))
    assert not is_wanted(booked(), wanting(types=InviteeCanceled.type))
    assert is_wanted(booked(), wanting(types=f"{InviteeCanceled.type}, {InviteeCreated.type}"))
    assert is_wanted(booked(), wanting(event_types="https://api.calendly.com/event_types/HALF"))
    assert not is_wanted(booked(), wanting(event_types="OTHER"))
    changed = EventTypeUpdated.model_validate({"uri": "https://api.calendly.com/event_types/HALF"})
    assert is_wanted(event_of(changed), wanting(event_types="HALF"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "http://receiver.example.com/hook"}, "https"),
        ({"url": "http://127.0.0.1/hook"}, "https"),
        ({"url": "https://127.0.0.1/hook"}, "is this machine"),
        ({"url": "https://169.254.169.254/hunter2"}, "not on the public network"),
        ({"url": "https://[::ffff:10.0.0.1]/hunter2"}, "not on the public network"),
        ({"url": "https://user:hunter2@receiver.example.com/"}, "user"),
        ({"secret": "hunter2"}, "whsec_"),
        ({"secret": None}, "secret to sign with"),
        ({"types": "com.calendly.invitee.made.v1"}, "did you mean com.calendly.invitee"),
        ({"origins": "hunter2"}, "must be some of"),
        ({"colour": "red"}, "colour"),
        ({"types": ["com.calendly.invitee.created.v1"] * 101}, "types"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, object], said: str) -> None:
    """Each wrong value is named with its field, and is not shown."""
    with pytest.raises(ConfigurationError) as raised:
        wanting(**fields)
    assert said in raised.value.message
    assert "error" not in raised.value.message
    assert wanting(url="https://10.0.0.1/hook").url, "its process may be allowed to"
    assert "hunter2" not in raised.value.in_one_line
    assert notify.agent.form is NotifySettings
