"""What a fetch reads for which subscriptions, and with whose credential."""

from __future__ import annotations

from slotwire.ingest.control.fetch_plan import plan_fetch
from slotwire.ingest.control.fetch_progress import NAMED_OF_A_KIND, FetchProgress, Unprovable, progress_of
from slotwire.ingest.control.meetings import MAX_NAME, MAX_NAMED, Skipped, plain_name
from slotwire.ingest.control.subscription_facts import WantedSubscription

ME, HER, GROUP = (f"https://api.calendly.com/{name}" for name in ("users/ME", "users/HER", "groups/G"))


def test_the_organizations_bookings_cover_everybodys() -> None:
    """Where the whole organization's bookings are wanted its meetings are listed once, and its own lists are read."""
    events = ("invitee.created", "routing_form_submission.created", "event_type.updated")
    plan = plan_fetch([WantedSubscription(events), WantedSubscription(("invitee.created",), "user", HER)], ME)
    assert plan.hosts == (("organization", ""),)
    assert plan.events == {"routing_form_submission.created", "event_type.updated"}
    assert (plan.event_types_of, plan.out_of_reach) == (None, ())


def test_some_hosts_bookings_are_listed_by_host() -> None:
    """Without one for the organization each user's and group's meetings are listed, and nobody else's."""
    wanted = [
        WantedSubscription(("invitee.created",), "user", HER),
        WantedSubscription(("invitee_no_show.created",), "group", GROUP),
        WantedSubscription(("event_type.created",), "user", ME),
    ]
    plan = plan_fetch(wanted, ME)
    assert plan.hosts == (("user", HER), ("group", GROUP))
    assert plan.events == {"event_type.created"}
    assert plan.event_types_of == ME


def test_another_users_lists_are_out_of_reach() -> None:
    """Recaps are lists of the credential's own user: another user's are named, and not read."""
    recaps = ("meeting_recap.created", "meeting_recap.deleted")
    plan = plan_fetch([WantedSubscription(recaps, "user", HER), WantedSubscription(recaps, "user", ME)], ME)
    assert plan.hosts == ()
    assert plan.events == set(recaps)
    assert plan.out_of_reach == (f"meeting_recaps of {HER}",)


def test_without_any_subscription_the_organizations_meetings_are_read() -> None:
    """Who asks for a reconciliation before anything is wanted gets the bookings."""
    assert plan_fetch([], ME).hosts == (("organization", ""),)


def test_what_is_named_is_bounded() -> None:
    """At the limits everything is counted, and no more is named; a thing that is named is counted once."""
    skipped, progress = Skipped(), FetchProgress()
    for number in range(MAX_NAMED + 1):
        skipped.add(f"uri {number}", "why")
        skipped.add("uri 0", "why")
    assert (skipped.count, len(skipped.named)) == (MAX_NAMED + 1, MAX_NAMED)
    for _ in range(2):
        progress.cannot_prove(Unprovable.NEIGHBOURS, [f"uri {number}" for number in range(NAMED_OF_A_KIND)])
    progress.cannot_prove(Unprovable.NEIGHBOURS, ["one more"])
    found = progress.unprovable[Unprovable.NEIGHBOURS]
    assert (found.count, len(found.named)) == (NAMED_OF_A_KIND + 1, NAMED_OF_A_KIND)
    assert plain_name('a"\\\u00e9b' + "c" * MAX_NAME) == "ab" + "c" * (MAX_NAME - 5)


def test_what_another_version_kept_is_begun_anew() -> None:
    """Progress that this version cannot read costs a beginning, and never the process."""
    kept = FetchProgress(meetings=7).model_dump(mode="json")
    assert progress_of(kept).meetings == 7
    assert progress_of({**kept, "stage": "of the future"}) == FetchProgress()
