"""The reconciliation plan: compares wanted subscriptions, our subscriptions and Calendly's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.keys.hooks import HookId

SubscriptionState = Literal["creating", "active", "ended"]

UNFINISHED_AFTER = timedelta(minutes=2)
"""A creation that Calendly does not list after this long has failed; none of our requests runs longer."""


@dataclass(frozen=True, slots=True)
class WantedSubscription:
    """A subscription that should exist at Calendly; at most one per scope and subject.

    Attributes:
        events: names as Calendly writes them.
        scope: `organization`, `user` or `group`.
        subject: the user's or group's URI; empty for the organization.
        max_age_seconds: quarantines authentic deliveries that are older; None accepts any age.
    """

    events: tuple[str, ...]
    scope: Scope = "organization"
    subject: str = ""
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A stored subscription.

    Attributes:
        id: ours.
        org: the last segment of the organization's URI.
        hook_id: the id its address is made from; not secret.
        provider_uri: Calendly's URI for it; None until it is known.
        scope: `organization`, `user` or `group`.
        events: names as Calendly writes them.
        state: `creating` until Calendly has accepted it, then `active`, then `ended`.
        max_age_seconds: quarantines authentic deliveries that are older; None accepts any age.
        created_at: when it was stored, before Calendly was asked.
        ended_at: when it ended; its hook stays valid for a while after. None while it has not.
        subject: the user's or group's URI; empty for the organization.
    """

    id: UUID
    org: str
    hook_id: HookId
    provider_uri: str | None
    scope: Scope
    events: tuple[str, ...]
    state: SubscriptionState
    max_age_seconds: int | None
    created_at: datetime
    ended_at: datetime | None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class CalendlySubscription:
    """A subscription as Calendly lists it, its address already parsed.

    Attributes:
        uri: Calendly's URI for it.
        hook_id: the id of the hook in its address; None if the hook is not ours.
        here: whether the address is under our current public address.
        state: `active` or `disabled`.
        events: names as Calendly writes them.
        retry_started_at: when Calendly last began to retry; None while deliveries succeed.
        scope: `organization`, `user` or `group`.
        subject: the user's or group's URI; empty for the organization.
    """

    uri: str
    hook_id: HookId | None
    here: bool
    state: str
    events: frozenset[str]
    retry_started_at: datetime | None = None
    scope: str = "organization"
    subject: str = ""


@dataclass(frozen=True, slots=True)
class ReconcilePlan:
    """The steps that make the three lists agree, in this order.

    Attributes:
        adopt: creations whose answer was lost, with the URI Calendly gave them.
        lost: ours that Calendly does not have.
        serving: the subscription that serves each wanted one.
        create: wanted ones that nothing serves.
        delete: ours that are unwanted or replaced, with Calendly's URI.
        orphans: Calendly's that lead here and are not in our list: URI and hook id. Check again that a hook is not
            ours before deleting: it may have been created after the list was read.
    """

    adopt: tuple[tuple[SubscriptionRecord, str], ...] = ()
    lost: tuple[SubscriptionRecord, ...] = ()
    serving: dict[WantedSubscription, SubscriptionRecord] = field(default_factory=dict)
    create: tuple[WantedSubscription, ...] = ()
    delete: tuple[tuple[SubscriptionRecord, str], ...] = ()
    orphans: tuple[tuple[str, HookId], ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.adopt or self.lost or self.create or self.delete or self.orphans)


def match(ours: SubscriptionRecord, theirs: Iterable[CalendlySubscription]) -> CalendlySubscription | None:
    """Find our subscription among Calendly's: by its URI, or by its hook if the URI was never learned."""
    for item in theirs:
        if item.uri == ours.provider_uri or item.hook_id == ours.hook_id:
            return item
    return None


def plan(
    wanted: Sequence[WantedSubscription],
    ours: Sequence[SubscriptionRecord],
    theirs: Sequence[CalendlySubscription],
    now: datetime,
    *,
    skip_in_progress: bool = False,
) -> ReconcilePlan:
    """Compare what is wanted with what exists.

    A wanted subscription is served by the oldest one of its scope and subject that Calendly calls active, that leads
    here, and that has the same events and maximum age. One that no longer serves is deleted only once another does,
    and only if Calendly has nothing left to deliver to it: a retrying one still has, a disabled one does not.

    Args:
        wanted: at most one per scope and subject.
        ours: those that are not ended, oldest first, read before `theirs`.
        theirs: everything Calendly lists for the organization, in every known scope and subject.
        now: the time.
        skip_in_progress: leave alone what another process may be creating now.
    """
    adopt: list[tuple[SubscriptionRecord, str]] = []
    lost: list[SubscriptionRecord] = []
    in_progress: set[tuple[str, str]] = set()
    live: list[tuple[SubscriptionRecord, CalendlySubscription]] = []
    for item in ours:
        found = match(item, theirs)
        if found is not None:
            live.append((item, found))
            if item.state == "creating":
                adopt.append((item, found.uri))
        elif item.state == "active" or now - item.created_at > UNFINISHED_AFTER:
            lost.append(item)
        else:
            in_progress.add((item.scope, item.subject))
    serving = {want: item for want in wanted for item, found in reversed(live) if _serves(item, found, want)}
    create = tuple(
        want
        for want in wanted
        if want not in serving and not (skip_in_progress and (want.scope, want.subject) in in_progress)
    )
    return ReconcilePlan(
        tuple(adopt), tuple(lost), serving, create, _surplus(wanted, live, serving), _orphans(ours, theirs)
    )


def _serves(item: SubscriptionRecord, found: CalendlySubscription, want: WantedSubscription) -> bool:
    return (
        (item.scope, item.subject, item.max_age_seconds) == (want.scope, want.subject, want.max_age_seconds)
        and found.state == "active"
        and found.here
        and found.events == frozenset(want.events)
    )


def _surplus(
    wanted: Sequence[WantedSubscription],
    live: Iterable[tuple[SubscriptionRecord, CalendlySubscription]],
    serving: dict[WantedSubscription, SubscriptionRecord],
) -> tuple[tuple[SubscriptionRecord, str], ...]:
    wants = {(want.scope, want.subject): want for want in wanted}
    found: list[tuple[SubscriptionRecord, str]] = []
    for item, theirs in live:
        want = wants.get((item.scope, item.subject))
        if want is None:
            found.append((item, theirs.uri))
        elif (server := serving.get(want)) is not None and server.id != item.id:
            owes = theirs.state == "active" and theirs.retry_started_at is not None
            if not owes:
                found.append((item, theirs.uri))
    return tuple(found)


def _orphans(
    ours: Sequence[SubscriptionRecord], theirs: Iterable[CalendlySubscription]
) -> tuple[tuple[str, HookId], ...]:
    known = {item.hook_id for item in ours}
    return tuple(
        (item.uri, item.hook_id)
        for item in theirs
        if item.here and item.hook_id is not None and item.hook_id not in known
    )
