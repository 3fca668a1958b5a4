"""The plan: what is wanted against what Calendly has, whatever we remember."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from slotwire.ingest.control.subscription_facts import (
    OVERLAP,
    SKEW,
    CalendlySubscription,
    Circumstances,
    Loss,
    PlaceState,
    SubscriptionRecord,
    WantedSubscription,
    begin_of_hole,
)
from slotwire.ingest.control.subscription_plan import ASK_AGAIN, UNFINISHED_AFTER, Creation, ReconcilePlan, plan
from slotwire.ingest.control.subscriptions import check_callback
from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.keys.hooks import HookId

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVENTS = ("invitee.created",)
ACTIVE = SubscriptionRecord(
    UUID(int=1), "ORG", HookId("h1"), "uri/1", "organization", EVENTS, "active", None, NOW - timedelta(days=1), None
)
CREATING = replace(ACTIVE, id=UUID(int=2), hook_id=HookId("h2"), provider_uri=None, state="creating", created_at=NOW)
THEIRS = CalendlySubscription("uri/1", HookId("h1"), here=True, state="active", events=frozenset(EVENTS))


NEWER = replace(ACTIVE, id=UUID(int=3), hook_id=HookId("h3"), provider_uri="uri/3", created_at=NOW, replaces=ACTIVE.id)
THERE = replace(THEIRS, uri="uri/3", hook_id=HookId("h3"))


def kinds(found: ReconcilePlan) -> list[str]:
    """Return what a plan finds wrong, in order."""
    return [item.kind.value for item in found.findings]


def want(**changes: Any) -> WantedSubscription:
    """Want these events of the organization."""
    return replace(WantedSubscription(EVENTS), **changes)


def test_three_empty_lists_need_no_step() -> None:
    """If nothing is wanted and nothing exists, the plan has no steps."""
    assert plan([], [], [], NOW).done


def test_a_wanted_subscription_without_a_server_is_created() -> None:
    """A wanted subscription that nothing serves is created."""
    found = plan([want()], [], [], NOW)
    assert (found.create, kinds(found)) == ((Creation(want(), EVENTS),), ["missing"])


def test_a_serving_subscription_needs_no_step() -> None:
    """An active subscription with the wanted events and our address serves, and the plan has no steps."""
    found = plan([want()], [ACTIVE], [THEIRS], NOW)
    assert (found.done, found.serving, found.findings) == (True, {want(): ACTIVE}, ())


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        (replace(THEIRS, state="disabled"), "disabled"),
        (replace(THEIRS, here=False), "wrong_address"),
        (replace(THEIRS, events=frozenset({"invitee.created", "invitee.canceled"})), "wrong_events"),
        (replace(THEIRS, events=frozenset()), "wrong_events"),
        (replace(THEIRS, creator="LEFT"), "orphaned"),
    ],
    ids=["disabled", "old_address", "more_events", "no_events", "creator_left"],
)
def test_what_no_longer_serves_stays_until_another_is_verified(theirs: CalendlySubscription, kind: str) -> None:
    """One that does not serve is replaced by one that names it, and deleted once that one is verified, not before."""
    known = Circumstances(departed=frozenset({"LEFT"}))
    found = plan([want()], [ACTIVE], [theirs], NOW, known=known)
    assert (found.create, found.delete) == ((Creation(want(), EVENTS, ACTIVE.id),), ())
    assert kinds(found) == [kind]
    both = [theirs, THERE]
    found = plan([want()], [ACTIVE, NEWER], both, NOW, known=known)
    assert (found.serving, found.delete, found.create) == ({want(): NEWER}, (), ())
    assert kinds(found) == ["replacing"]
    found = plan([want()], [ACTIVE, replace(NEWER, first_delivery_at=NOW)], both, NOW, known=known)
    assert found.delete == ((ACTIVE, "uri/1"),)


def test_a_new_one_is_verified_by_a_delivery_or_by_a_silence_of_both() -> None:
    """Without a delivery the new one is verified after the overlap, unless the old one had one meanwhile."""
    old = replace(THEIRS, here=False)
    for age, last, deleted in (
        (OVERLAP - timedelta.resolution, None, False),
        (OVERLAP, None, True),
        (OVERLAP, NOW - OVERLAP - timedelta.resolution, True),
        (OVERLAP, NOW - OVERLAP, False),
        (OVERLAP, NOW, False),
    ):
        newer, before = replace(NEWER, created_at=NOW - age), replace(ACTIVE, last_delivery_at=last)
        found = plan([want()], [before, newer], [old, THERE], NOW)
        assert bool(found.delete) is deleted, (age, last)
        assert kinds(found) == (["replacing"] if deleted or age < OVERLAP else ["unverified"])


def test_a_replaced_subscription_with_outstanding_deliveries_stays() -> None:
    """A replaced subscription is not deleted while Calendly retries to it; a disabled one is."""
    newer = replace(NEWER, first_delivery_at=NOW)
    owing = replace(THEIRS, here=False, retry_started_at=NOW)
    before = replace(ACTIVE, retrying_since=NOW)
    assert plan([want()], [before, newer], [owing, THERE], NOW).done
    given_up = replace(owing, state="disabled")
    assert plan([want()], [before, newer], [given_up, THERE], NOW).delete == ((before, "uri/1"),)


def test_a_retrying_one_serves_and_is_noted_once() -> None:
    """One that Calendly retries to goes on serving; that it began, and that it ended, is noted once each."""
    retrying = replace(THEIRS, retry_started_at=NOW)
    found = plan([want()], [ACTIVE], [retrying], NOW)
    assert (found.serving, found.retries, kinds(found)) == ({want(): ACTIVE}, ((ACTIVE, NOW),), ["retrying"])
    noted = replace(ACTIVE, retrying_since=NOW)
    assert plan([want()], [noted], [retrying], NOW).done
    assert plan([want()], [noted], [THEIRS], NOW).retries == ((noted, None),)


def test_another_key_is_made_beside_the_old_one() -> None:
    """One whose key shall be renewed serves until its replacement does, and both stay until that is verified."""
    old = replace(ACTIVE, renew_at=NOW, last_delivery_at=NOW)
    found = plan([want()], [old], [THEIRS], NOW)
    assert (found.serving, found.create) == ({want(): old}, (Creation(want(), EVENTS, old.id),))
    assert kinds(found) == ["renewal"]
    found = plan([want()], [old, NEWER], [THEIRS, THERE], NOW)
    assert (found.serving, found.done, kinds(found)) == ({want(): NEWER}, True, ["replacing"])
    found = plan([want()], [old, replace(NEWER, first_delivery_at=NOW)], [THEIRS, THERE], NOW)
    assert found.delete == ((old, "uri/1"),)
    # Lost before it was verified: the old one goes on, and another is made.
    found = plan([want()], [old, NEWER], [THEIRS], NOW)
    assert (found.serving, found.gone, found.delete) == ({want(): old}, (NEWER,), ())


def test_a_lost_one_is_told_and_restored_once() -> None:
    """A disabled one is told once; it is restored when another serves its place, and not while that is only made."""
    disabled = replace(THEIRS, state="disabled", retry_started_at=NOW)
    noted = replace(ACTIVE, retrying_since=NOW)
    assert plan([want()], [noted], [disabled], NOW).disabled == ((noted, NOW),)
    told = replace(noted, lost_at=NOW, lost_reason="disabled")
    known = Circumstances(unrestored=(told,))
    found = plan([want()], [told], [disabled], NOW, known=known)
    assert (found.disabled, found.restored) == ((), ())
    newer = replace(NEWER, replaces=told.id)
    assert plan([want()], [told, newer], [disabled, THERE], NOW, known=known).restored == ((told, newer),)
    assert plan([], [ACTIVE], [disabled], NOW).disabled == ()  # nobody wants it


@pytest.mark.parametrize(
    ("losses", "made", "contested"),
    [
        ([], False, False),  # first it is written that it is gone
        ([(1, True)], True, False),
        ([(1, False)], True, False),
        ([(2, True), (1, True)], False, False),
        ([(1, False), (1, False), (1, False)], True, False),  # all that was there, deleted at once
        ([(16, False), (16, False), (15.5, False)], True, False),
        ([(20, True), (15, True)], True, False),
        ([(20, True), (15, False)], True, False),
        ([(20, False), (15, False)], False, True),
        ([(40, True), (20, True), (15, True)], False, True),
        ([(24 * 60, True), (20, True), (15, True)], True, False),
        ([(24 * 60, False), (15, False)], True, False),
    ],
)
def test_what_is_gone_is_made_again_with_a_back_off(
    losses: list[tuple[float, bool]], made: bool, contested: bool
) -> None:
    """The first loss at once, the second after a while; three in a day, or two unexplained ones, are contested."""
    ours = [] if losses else [ACTIVE]
    state = PlaceState(losses=tuple(Loss(NOW - timedelta(minutes=ago), failed) for ago, failed in losses))
    known = Circumstances(places={("organization", ""): state})
    found = plan([want()], ours, [], NOW, known=known)
    assert (bool(found.create), bool(found.contest)) == (made, contested)
    assert found.gone == tuple(ours)
    if contested:
        assert "contested" in kinds(found)
        told = replace(state, contested_at=NOW)
        again = plan(
            [want()], [], [], NOW + timedelta(days=9), known=Circumstances(places={("organization", ""): told})
        )
        assert (again.create, again.contest, kinds(again)) == ((), (), ["contested"])
        resumed = replace(state, resumed_at=NOW)
        known = Circumstances(places={("organization", ""): resumed})
        assert plan([want()], [], [], NOW, known=known).create


def test_what_we_began_to_delete_is_not_lost() -> None:
    """One that is missing after we began to delete it is ended, and no loss."""
    found = plan([want()], [replace(ACTIVE, deleting_at=NOW)], [], NOW)
    assert (found.lost, found.gone, found.create) == (
        (replace(ACTIVE, deleting_at=NOW),),
        (),
        (Creation(want(), EVENTS),),
    )


def test_refused_events_are_left_out_and_asked_for_again() -> None:
    """What Calendly refused is left out, said, and asked for again after a day; until then less serves."""
    more = want(events=("invitee.created", "routing_form_submission.created"))
    state = PlaceState({"routing_form_submission.created": "plan"}, NOW - ASK_AGAIN + timedelta.resolution)
    known = Circumstances(places={("organization", ""): state})
    assert plan([more], [], [], NOW, known=known).create == (Creation(more, EVENTS),)
    found = plan([more], [ACTIVE], [THEIRS], NOW, known=known)
    assert (found.serving, found.done, kinds(found)) == ({more: ACTIVE}, True, ["plan_lost"])
    assert (found.findings[0].events, found.findings[0].applied) == (("routing_form_submission.created",), False)
    known = Circumstances(places={("organization", ""): replace(state, refused_at=NOW - ASK_AGAIN)})
    found = plan([more], [ACTIVE], [THEIRS], NOW, known=known)
    assert (found.serving, found.create) == ({more: ACTIVE}, (Creation(more, more.events, ACTIVE.id),))


def test_deletions_are_proposed_where_they_are_not_confirmed() -> None:
    """After a restore nothing is deleted: each deletion is a finding that somebody has to confirm."""
    known = Circumstances(may_delete=False)
    stray = replace(THEIRS, uri="uri/8", hook_id=HookId("h8"))
    found = plan([], [ACTIVE], [THEIRS, stray], NOW, known=known)
    assert (found.delete, found.orphans) == ((), ())
    assert {(item.kind, item.remedy, item.applied) for item in found.findings} == {
        ("unwanted", "confirm", False),
        ("stray", "confirm", False),
    }


@pytest.mark.parametrize("changes", [{"max_age_seconds": 60}, {"scope": "user", "subject": "U"}])
def test_another_age_or_scope_needs_another_subscription(changes: dict[str, Any]) -> None:
    """A subscription serves only its own scope, subject and maximum age."""
    wanted = want(**changes)
    replaces = None if "subject" in changes else ACTIVE.id
    assert plan([wanted], [ACTIVE], [THEIRS], NOW).create == (Creation(wanted, EVENTS, replaces),)


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


def test_a_subscription_missing_at_calendly_is_gone() -> None:
    """An active subscription that Calendly does not list is gone; of one that nobody wants that is no loss."""
    found = plan([want()], [ACTIVE], [], NOW)
    assert (found.gone, found.lost, found.create, kinds(found)) == ((ACTIVE,), (), (), ["gone"])
    assert plan([], [ACTIVE], [], NOW).lost == (ACTIVE,)


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
    assert found.create == (() if skip_in_progress else (Creation(want(), EVENTS),))


def test_an_unfinished_creation_is_adopted_by_its_address() -> None:
    """A creation whose answer was lost is known by its hook, gets Calendly's URI, and serves."""
    there = replace(THEIRS, uri="uri/2", hook_id=HookId("h2"))
    found = plan([want()], [CREATING], [there], NOW)
    assert found == ReconcilePlan(adopt=((CREATING, "uri/2"),), serving={want(): CREATING})


def test_the_oldest_of_two_serves() -> None:
    """Of two that serve, and of which neither replaces the other, the older one does; the other is deleted."""
    older = replace(ACTIVE, first_delivery_at=NOW)
    alone = replace(NEWER, replaces=None)
    found = plan([want()], [older, alone], [THERE, THEIRS], NOW)
    assert (found.serving, found.delete, kinds(found)) == ({want(): older}, ((alone, "uri/3"),), ["duplicated"])
    # The other way round where it was made to replace the older one.
    found = plan([want()], [older, NEWER], [THERE, THEIRS], NOW)
    assert (found.serving, found.delete, kinds(found)) == ({want(): NEWER}, (), ["replacing"])


def test_foreign_subscriptions_are_ignored() -> None:
    """A subscription at Calendly whose address we did not make needs no step, wherever it leads."""
    foreign = CalendlySubscription("uri/9", None, here=True, state="active", events=frozenset(EVENTS))
    assert plan([], [], [foreign], NOW).done


def test_what_leads_here_and_is_unknown_is_an_orphan() -> None:
    """An address we made, that leads here, of which we have no key: deleted once one that serves is verified."""
    assert plan([], [], [THEIRS], NOW).orphans == (("uri/1", HookId("h1")),)
    assert plan([], [], [replace(THEIRS, here=False)], NOW).done
    found = plan([want()], [NEWER], [THEIRS, THERE], NOW)
    assert (found.orphans, kinds(found)) == ((), ["stray"])
    assert plan([want()], [replace(NEWER, first_delivery_at=NOW)], [THEIRS, THERE], NOW).orphans


def test_a_hole_begins_before_the_first_delivery_that_may_be_missing() -> None:
    """It begins at the earliest of retrying, a day before the last delivery, and the last good listing, less 5 min."""
    hours = [NOW - timedelta(hours=each) for each in range(80)]
    last = replace(ACTIVE, last_delivery_at=hours[10])
    assert begin_of_hole(last, None, None) == hours[34] - SKEW
    assert begin_of_hole(last, hours[40], hours[2]) == hours[40] - SKEW
    assert begin_of_hole(last, hours[3], hours[50]) == hours[50] - SKEW
    assert begin_of_hole(ACTIVE, None, None) == ACTIVE.created_at - SKEW


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
