"""The comparison before a creation: what Calendly has decides, whatever we remember."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ingest.control.catalogue import DEFAULT_EVENTS, ORGANIZATION_EVENTS, USER_EVENTS, checked_events
from ingest.control.hooks import HookId
from ingest.control.subscription_plan import UNFINISHED_AFTER, AtCalendly, Plan, Subscription, plan_creation
from ingest.control.subscriptions import check_callback
from ingest.errors import ConfigurationError, RequestRefused
from ingest.normalize import KNOWN_EVENTS

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVENTS = ("invitee.created",)
ACTIVE = Subscription(
    UUID(int=1), "ORG", HookId("h1"), "uri/1", "organization", EVENTS, "active", None, NOW - timedelta(days=1), None
)
CREATING = replace(ACTIVE, id=UUID(int=2), hook_id=HookId("h2"), provider_uri=None, state="creating", created_at=NOW)
THEIRS = AtCalendly("uri/1", HookId("h1"), here=True, state="active", events=frozenset(EVENTS))


def test_nothing_on_either_side_is_nothing_to_do() -> None:
    """Without anything there is nothing to adopt, to end or to find."""
    assert plan_creation([], [], EVENTS, NOW) == Plan((), (), None)


def test_what_does_what_is_wanted_is_found() -> None:
    """An active one with these events and our address is what is wanted."""
    assert plan_creation([ACTIVE], [THEIRS], EVENTS, NOW).existing == ACTIVE


@pytest.mark.parametrize(
    "theirs",
    [
        replace(THEIRS, state="disabled"),
        replace(THEIRS, here=False),
        replace(THEIRS, events=frozenset({"invitee.created", "invitee.canceled"})),
        replace(THEIRS, events=frozenset()),
    ],
    ids=["disabled", "old_address", "more_events", "no_events"],
)
def test_what_does_not_do_what_is_wanted_is_left_alone(theirs: AtCalendly) -> None:
    """Disabled, sent elsewhere or with other events: neither what is wanted nor lost."""
    assert plan_creation([ACTIVE], [theirs], EVENTS, NOW) == Plan((), (), None)


def test_what_calendly_does_not_have_is_lost() -> None:
    """An active one that Calendly does not list is lost, at once."""
    assert plan_creation([ACTIVE], [], EVENTS, NOW) == Plan((), (ACTIVE,), None)


@pytest.mark.parametrize(
    ("age", "lost"), [(timedelta(0), False), (UNFINISHED_AFTER, False), (UNFINISHED_AFTER + timedelta.resolution, True)]
)
def test_an_unfinished_creation_has_its_time(age: timedelta, lost: bool) -> None:
    """A creation that Calendly does not list is lost only once no request of ours can still be under way."""
    young = replace(CREATING, created_at=NOW - age)
    assert plan_creation([young], [], EVENTS, NOW).lost == ((young,) if lost else ())


def test_an_unfinished_creation_is_adopted_by_its_address() -> None:
    """A creation whose answer was lost is known by its hook, gets Calendly's URI, and counts as existing."""
    there = replace(THEIRS, uri="uri/2", hook_id=HookId("h2"))
    assert plan_creation([CREATING], [there], EVENTS, NOW) == Plan(((CREATING, "uri/2"),), (), CREATING)


def test_the_oldest_is_kept_where_two_do_the_same() -> None:
    """Of two that do what is wanted the first one listed is found."""
    younger = replace(ACTIVE, id=UUID(int=3), hook_id=HookId("h3"), provider_uri="uri/3")
    theirs = [replace(THEIRS, uri="uri/3", hook_id=HookId("h3")), THEIRS]
    assert plan_creation([ACTIVE, younger], theirs, EVENTS, NOW).existing == ACTIVE


def test_what_belongs_to_somebody_else_is_nothing_to_us() -> None:
    """A subscription at Calendly that is not ours changes nothing."""
    foreign = AtCalendly("uri/9", None, here=False, state="active", events=frozenset(EVENTS))
    assert plan_creation([], [foreign], EVENTS, NOW) == Plan((), (), None)


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
        ("meeting_recap.created", "event_of_users_only", "leave the event out"),
    ],
)
def test_events_that_cannot_be_are_refused_in_words(event: str, code: str, remedy: str) -> None:
    """What Calendly does not have for organizations is refused with the nearest name or what to do."""
    with pytest.raises(RequestRefused) as caught:
        checked_events(("invitee.created", event))
    assert caught.value.code == code
    assert remedy in caught.value.remedy


def test_everything_that_can_be_subscribed_to_becomes_events() -> None:
    """Nothing of the catalogue would only lie in quarantine."""
    assert {*ORGANIZATION_EVENTS, *USER_EVENTS} == KNOWN_EVENTS


@pytest.mark.parametrize(
    ("url", "api", "fits"),
    [
        ("https://hooks.example.com/hooks/calendly/x", "https://api.calendly.com", True),
        ("https://hooks.example.com/hooks/calendly/x", "http://127.0.0.1:8090", True),
        ("http://127.0.0.1:8080/hooks/calendly/x", "http://127.0.0.1:8090", True),
        ("http://127.0.0.1:8080/hooks/calendly/x", "https://api.calendly.com", False),
        ("http://hooks.example.com/hooks/calendly/x", "https://api.calendly.com", False),
        ("http://hooks.example.com/hooks/calendly/x", "http://127.0.0.1:8090", False),
    ],
)
def test_calendly_is_told_https_addresses_only(url: str, api: str, fits: bool) -> None:
    """Plain http is for a simulator and an endpoint on one machine, nothing else."""
    refused = False
    try:
        check_callback(url, api)
    except ConfigurationError as error:
        refused = "https addresses only" in error.message
    assert refused is not fits
