"""The catalogue: which events can be subscribed to, in which scope, and what a token needs for them."""

from __future__ import annotations

import pytest

from slotwire.ingest.control.catalogue import (
    DEFAULT_EVENTS,
    ORGANIZATION_EVENTS,
    USER_EVENTS,
    Scope,
    checked_events,
    needed_scopes,
    split_events,
)
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.log.normalize import KNOWN_EVENTS


def test_without_names_bookings_and_routing_forms_are_subscribed() -> None:
    """The default asks for no more scopes than bookings and routing forms need; the rest is named."""
    assert checked_events(()) == DEFAULT_EVENTS
    assert {name.partition(".")[0] for name in DEFAULT_EVENTS} == {
        "invitee",
        "invitee_no_show",
        "routing_form_submission",
    }
    assert checked_events(("contact.created",)) == ("contact.created",)
    assert not set(ORGANIZATION_EVENTS) & set(USER_EVENTS)


def test_events_come_in_the_catalogues_order_and_once() -> None:
    """The order and repetitions of the caller do not matter."""
    wanted = ("invitee.canceled", "invitee.created", "invitee.canceled")
    assert checked_events(wanted) == ("invitee.created", "invitee.canceled")


@pytest.mark.parametrize(
    ("event", "code", "remedy"),
    [
        ("invitee.rescheduled", "event_unknown", "Did you mean invitee."),
        ("invitee.no_show.created", "event_unknown", "Did you mean invitee_no_show.created?"),
        ("nonsense", "event_unknown", "invitee.created"),
        ("", "event_unknown", "invitee.created"),
        ("meeting_recap.created", "event_of_another_scope", "Leave the event out"),
    ],
)
def test_events_that_cannot_be_are_refused_in_words(event: str, code: str, remedy: str) -> None:
    """What Calendly does not have for organizations is refused with the nearest name or what to do."""
    with pytest.raises(RequestRefused) as caught:
        checked_events(("invitee.created", event))
    assert caught.value.code == code
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("scope", "event", "fits"),
    [
        ("organization", "routing_form_submission.created", True),
        ("user", "routing_form_submission.created", False),
        ("group", "routing_form_submission.created", False),
        ("user", "meeting_recap.created", True),
        ("group", "meeting_recap.created", False),
        ("group", "contact.created", True),
    ],
)
def test_each_scope_has_its_events(scope: Scope, event: str, fits: bool) -> None:
    """Routing forms are the organization's, recaps a user's, the rest everybody's; defaults leave out what is not."""
    refused = False
    try:
        assert checked_events((event,), scope) == (event,)
    except RequestRefused as error:
        refused = error.code == "event_of_another_scope"
    assert refused is not fits
    assert ("routing_form_submission.created" in checked_events((), scope)) is (scope == "organization")


def test_events_are_split_by_scope() -> None:
    """Recaps go to a subscription of the user, all else to the organization's."""
    assert split_events(("meeting_recap.created", "invitee.created")) == (
        ("invitee.created",),
        ("meeting_recap.created",),
    )
    assert split_events(("meeting_recap.created",)) == ((), ("meeting_recap.created",))
    assert split_events(()) == (DEFAULT_EVENTS, ())


def test_scopes_follow_from_events() -> None:
    """What the token needs is what the manager and each family of events need."""
    assert needed_scopes(("invitee.created", "contact.created")) == (
        "users:read",
        "organizations:read",
        "webhooks:write",
        "contacts:read",
        "scheduled_events:read",
    )


def test_everything_that_can_be_subscribed_to_becomes_events() -> None:
    """Nothing of the catalogue would only lie in quarantine."""
    assert {*ORGANIZATION_EVENTS, *USER_EVENTS} == KNOWN_EVENTS
