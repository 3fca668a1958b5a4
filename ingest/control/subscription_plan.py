"""What is wanted of an organization, what we know, and what Calendly has. Pure: three lists in, a plan out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.keys.hooks import HookId

State = Literal["creating", "active", "ended"]

UNFINISHED_AFTER = timedelta(minutes=2)
"""A creation that Calendly knows nothing of after this long has failed; no request of ours lives longer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One subscription that shall be there: one a scope and subject.

    Attributes:
        events: names as Calendly writes them.
        scope: `organization`, `user` or `group`.
        subject: the user's or group's URI; empty for the organization.
        max_age_seconds: an older authentic delivery is quarantined; None takes any age.
    """

    events: tuple[str, ...]
    scope: Scope = "organization"
    subject: str = ""
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as we know it.

    Attributes:
        id: ours.
        org: the last segment of the organization's URI.
        hook_id: what its address is made from; not secret.
        provider_uri: Calendly's URI for it, once it is known.
        scope: `organization`, `user` or `group`.
        events: names as Calendly writes them.
        state: `creating` before Calendly said yes, `active`, `ended`.
        max_age_seconds: an older authentic delivery is quarantined; None takes any age.
        created_at: when it was written, before Calendly was asked.
        ended_at: when it ended; its hook stays valid for a while.
        subject: the user's or group's URI; empty for the organization.
    """

    id: UUID
    org: str
    hook_id: HookId
    provider_uri: str | None
    scope: Scope
    events: tuple[str, ...]
    state: State
    max_age_seconds: int | None
    created_at: datetime
    ended_at: datetime | None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class AtCalendly:
    """A subscription as Calendly tells it, its address already read.

    Attributes:
        uri: Calendly's URI for it.
        hook_id: the hook in its address, if the address is one of ours.
        here: whether the address leads to our public address of today.
        state: `active` or `disabled`.
        events: names as Calendly writes them.
        retry_started_at: when Calendly last began to retry; None while all is well.
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
class Plan:
    """What makes the three lists agree, in this order.

    Attributes:
        adopt: creations whose answer was lost, with the URI Calendly gave them.
        lost: what Calendly does not have.
        serving: what already does what is wanted, by it.
        make: what is wanted and nothing does.
        drop: what nobody wants, or another does, with Calendly's URI for it.
        orphans: what leads here and is not in our list, with its hook. Ask again whether it is ours before it is
            deleted: it may have been made since the list was read.
    """

    adopt: tuple[tuple[Subscription, str], ...] = ()
    lost: tuple[Subscription, ...] = ()
    serving: dict[Wanted, Subscription] = field(default_factory=dict)
    make: tuple[Wanted, ...] = ()
    drop: tuple[tuple[Subscription, str], ...] = ()
    orphans: tuple[tuple[str, HookId], ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.adopt or self.lost or self.make or self.drop or self.orphans)


def match(ours: Subscription, theirs: Iterable[AtCalendly]) -> AtCalendly | None:
    """Find what Calendly has of a subscription: by its URI, or by its address where the URI was never learnt."""
    for item in theirs:
        if item.uri == ours.provider_uri or item.hook_id == ours.hook_id:
            return item
    return None


def plan(
    wanted: Sequence[Wanted],
    ours: Sequence[Subscription],
    theirs: Sequence[AtCalendly],
    now: datetime,
    *,
    patient: bool = False,
) -> Plan:
    """Compare what is wanted with what there is.

    What serves a wish is the oldest subscription of its scope and subject that Calendly calls active, that leads
    here, and that has its events and age. One that no longer serves is dropped only when another does, and only
    while Calendly owes it nothing: one that is retrying still holds deliveries, a disabled one holds none.

    Args:
        wanted: at most one a scope and subject.
        ours: what is not ended, read before `theirs`, oldest first.
        theirs: everything Calendly lists for the organization, in every scope and subject that is known.
        now: the time.
        patient: leave what somebody may be making at this moment to them.
    """
    adopt: list[tuple[Subscription, str]] = []
    lost: list[Subscription] = []
    under_way: set[tuple[str, str]] = set()
    live: list[tuple[Subscription, AtCalendly]] = []
    for item in ours:
        found = match(item, theirs)
        if found is not None:
            live.append((item, found))
            if item.state == "creating":
                adopt.append((item, found.uri))
        elif item.state == "active" or now - item.created_at > UNFINISHED_AFTER:
            lost.append(item)
        else:
            under_way.add((item.scope, item.subject))
    serving = {wish: item for wish in wanted for item, found in reversed(live) if _serves(item, found, wish)}
    make = tuple(
        wish for wish in wanted if wish not in serving and not (patient and (wish.scope, wish.subject) in under_way)
    )
    return Plan(tuple(adopt), tuple(lost), serving, make, _surplus(wanted, live, serving), _orphans(ours, theirs))


def _serves(item: Subscription, found: AtCalendly, wish: Wanted) -> bool:
    return (
        (item.scope, item.subject, item.max_age_seconds) == (wish.scope, wish.subject, wish.max_age_seconds)
        and found.state == "active"
        and found.here
        and found.events == frozenset(wish.events)
    )


def _surplus(
    wanted: Sequence[Wanted], live: Iterable[tuple[Subscription, AtCalendly]], serving: dict[Wanted, Subscription]
) -> tuple[tuple[Subscription, str], ...]:
    wishes = {(wish.scope, wish.subject): wish for wish in wanted}
    found: list[tuple[Subscription, str]] = []
    for item, theirs in live:
        wish = wishes.get((item.scope, item.subject))
        if wish is None:
            found.append((item, theirs.uri))
        elif (server := serving.get(wish)) is not None and server.id != item.id:
            owes = theirs.state == "active" and theirs.retry_started_at is not None
            if not owes:
                found.append((item, theirs.uri))
    return tuple(found)


def _orphans(ours: Sequence[Subscription], theirs: Iterable[AtCalendly]) -> tuple[tuple[str, HookId], ...]:
    known = {item.hook_id for item in ours}
    return tuple(
        (item.uri, item.hook_id)
        for item in theirs
        if item.here and item.hook_id is not None and item.hook_id not in known
    )
