"""The plan: what is wanted against what Calendly has, whatever we remember."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

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
from slotwire.ingest.control.subscription_plan import (
    UNFINISHED_AFTER,
    CalendlySubscription,
    ReconcilePlan,
    SubscriptionRecord,
    WantedSubscription,
    plan,
)
from slotwire.ingest.control.subscriptions import check_callback
from slotwire.ingest.errors import ConfigurationError, RequestRefused
from slotwire.ingest.keys.hooks import HookId
from slotwire.ingest.log.normalize import KNOWN_EVENTS

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVENTS = ("invitee.created",)
ACTIVE = SubscriptionRecord(
    UUID(int=1), "ORG", HookId("h1"), "uri/1", "organization", EVENTS, "active", None, NOW - timedelta(days=1), None
)
CREATING = replace(ACTIVE, id=UUID(int=2), hook_id=HookId("h2"), provider_uri=None, state="creating", created_at=NOW)
THEIRS = CalendlySubscription("uri/1", HookId("h1"), here=True, state="active", events=frozenset(EVENTS))


def want(**changes: Any) -> WantedSubscription:
    """Want these events of the organization."""
    return replace(WantedSubscription(EVENTS), **changes)


def test_three_empty_lists_need_no_step() -> None:
    """If nothing is wanted and nothing exists, the plan has no steps."""
    assert plan([], [], [], NOW).done


def test_a_wanted_subscription_without_a_server_is_created() -> None:
    """A wanted subscription that nothing serves is created."""
    assert plan([want()], [], [], NOW) == ReconcilePlan(create=(want(),))


def test_a_serving_subscription_needs_no_step() -> None:
    """An active subscription with the wanted events and our address serves, and the plan has no steps."""
    found = plan([want()], [ACTIVE], [THEIRS], NOW)
    assert (found.done, found.serving) == (True, {want(): ACTIVE})


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
def test_a_subscription_that_no_longer_serves_stays_until_another_does(theirs: CalendlySubscription) -> None:
    """A disabled one, one at another address or with other events is deleted only once a new one serves."""
    assert plan([want()], [ACTIVE], [theirs], NOW) == ReconcilePlan(create=(want(),))
    newer = replace(ACTIVE, id=UUID(int=3), hook_id=HookId("h3"), provider_uri="uri/3")
    both = [theirs, replace(THEIRS, uri="uri/3", hook_id=HookId("h3"))]
    found = plan([want()], [ACTIVE, newer], both, NOW)
    assert (found.serving, found.delete, found.create) == ({want(): newer}, ((ACTIVE, "uri/1"),), ())


def test_a_replaced_subscription_with_outstanding_deliveries_stays() -> None:
    """A replaced subscription is not deleted while Calendly retries to it; a disabled one is."""
    newer = replace(ACTIVE, id=UUID(int=3), hook_id=HookId("h3"), provider_uri="uri/3")
    owing = replace(THEIRS, here=False, retry_started_at=NOW)
    there = replace(THEIRS, uri="uri/3", hook_id=HookId("h3"))
    assert plan([want()], [ACTIVE, newer], [owing, there], NOW).done
    given_up = replace(owing, state="disabled")
    assert plan([want()], [ACTIVE, newer], [given_up, there], NOW).delete == ((ACTIVE, "uri/1"),)


@pytest.mark.parametrize("changes", [{"max_age_seconds": 60}, {"scope": "user", "subject": "U"}])
def test_another_age_or_scope_needs_another_subscription(changes: dict[str, Any]) -> None:
    """A subscription serves only its own scope, subject and maximum age."""
    assert plan([want(**changes)], [ACTIVE], [THEIRS], NOW).create == (want(**changes),)


def test_scopes_and_subjects_do_not_affect_each_other() -> None:
    """The organization's and a user's subscriptions exist together; only the one no longer wanted is deleted."""
    users = replace(ACTIVE, id=UUID(int=4), hook_id=HookId("h4"), provider_uri="uri/4", scope="user", subject="U")
    there = replace(THEIRS, uri="uri/4", hook_id=HookId("h4"), scope="user", subject="U")
    theirs = want(scope="user", subject="U")
    found = plan([want(), theirs], [ACTIVE, users], [THEIRS, there], NOW)
    assert (found.done, found.serving) == (True, {want(): ACTIVE, theirs: users})
    assert plan([want()], [ACTIVE, users], [THEIRS, there], NOW).delete == ((users, "uri/4"),)


def test_an_unwanted_subscription_is_deleted() -> None:
    """An active subscription that is not wanted is deleted at once, even while Calendly retries to it."""
    assert plan([], [ACTIVE], [replace(THEIRS, retry_started_at=NOW)], NOW).delete == ((ACTIVE, "uri/1"),)


def test_a_subscription_missing_at_calendly_is_lost() -> None:
    """An active subscription that Calendly does not list is lost at once, and created again if it is wanted."""
    assert plan([want()], [ACTIVE], [], NOW) == ReconcilePlan(lost=(ACTIVE,), create=(want(),))


@pytest.mark.parametrize(
    ("age", "lost"), [(timedelta(0), False), (UNFINISHED_AFTER, False), (UNFINISHED_AFTER + timedelta.resolution, True)]
)
def test_an_unfinished_creation_is_lost_after_a_while(age: timedelta, lost: bool) -> None:
    """A creation that Calendly does not list is lost only once no request of ours can still be running."""
    young = replace(CREATING, created_at=NOW - age)
    assert plan([], [young], [], NOW).lost == ((young,) if lost else ())


@pytest.mark.parametrize("skip_in_progress", [True, False])
def test_a_creation_in_progress_is_skipped_on_request(skip_in_progress: bool) -> None:
    """A round creates nothing beside a creation that may be in progress; an explicit request does."""
    found = plan([want()], [CREATING], [], NOW, skip_in_progress=skip_in_progress)
    assert found.create == (() if skip_in_progress else (want(),))


def test_an_unfinished_creation_is_adopted_by_its_address() -> None:
    """A creation whose answer was lost is known by its hook, gets Calendly's URI, and serves."""
    there = replace(THEIRS, uri="uri/2", hook_id=HookId("h2"))
    found = plan([want()], [CREATING], [there], NOW)
    assert found == ReconcilePlan(adopt=((CREATING, "uri/2"),), serving={want(): CREATING})


def test_the_oldest_of_two_serves() -> None:
    """Of two subscriptions that could serve, the older one does, and the other is deleted."""
    younger = replace(ACTIVE, id=UUID(int=3), hook_id=HookId("h3"), provider_uri="uri/3")
    theirs = [replace(THEIRS, uri="uri/3", hook_id=HookId("h3")), THEIRS]
    found = plan([want()], [ACTIVE, younger], theirs, NOW)
    assert (found.serving, found.delete) == ({want(): ACTIVE}, ((younger, "uri/3"),))


def test_foreign_subscriptions_are_ignored() -> None:
    """A subscription at Calendly whose address we did not make needs no step, wherever it leads."""
    foreign = CalendlySubscription("uri/9", None, here=True, state="active", events=frozenset(EVENTS))
    assert plan([], [], [foreign], NOW).done


def test_what_leads_here_and_is_unknown_is_an_orphan() -> None:
    """An address we made, that leads here, of which we have no key: named with its hook, to be asked about again."""
    assert plan([], [], [THEIRS], NOW).orphans == (("uri/1", HookId("h1")),)
    assert plan([], [], [replace(THEIRS, here=False)], NOW).done


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
