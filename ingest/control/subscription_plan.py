"""What we know of an organization's subscriptions against what Calendly has. Pure: two lists in, a plan out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from ingest.control.hooks import HookId

State = Literal["creating", "active", "ended"]

UNFINISHED_AFTER = timedelta(minutes=2)
"""A creation that Calendly knows nothing of after this long has failed; no request of ours lives longer."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as we know it.

    Attributes:
        id: ours.
        org: the last segment of the organization's URI.
        hook_id: what its address is made from; not secret.
        provider_uri: Calendly's URI for it, once it is known.
        scope: `organization`.
        events: names as Calendly writes them.
        state: `creating` before Calendly said yes, `active`, `ended`.
        max_age_seconds: an older authentic delivery is quarantined; None takes any age.
        created_at: when it was written, before Calendly was asked.
        ended_at: when it ended; its hook stays valid for a while.
    """

    id: UUID
    org: str
    hook_id: HookId
    provider_uri: str | None
    scope: str
    events: tuple[str, ...]
    state: State
    max_age_seconds: int | None
    created_at: datetime
    ended_at: datetime | None


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
    """

    uri: str
    hook_id: HookId | None
    here: bool
    state: str
    events: frozenset[str]
    retry_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do before a new subscription is made.

    Attributes:
        adopt: creations whose answer was lost, with the URI Calendly gave them.
        lost: what Calendly does not have.
        existing: what already does what is wanted.
    """

    adopt: tuple[tuple[Subscription, str], ...]
    lost: tuple[Subscription, ...]
    existing: Subscription | None


def match(ours: Subscription, theirs: Iterable[AtCalendly]) -> AtCalendly | None:
    """Find what Calendly has of a subscription: by its URI, or by its address where the URI was never learnt."""
    for item in theirs:
        if item.uri == ours.provider_uri or item.hook_id == ours.hook_id:
            return item
    return None


def plan_creation(
    ours: Sequence[Subscription], theirs: Sequence[AtCalendly], events: Iterable[str], now: datetime
) -> Plan:
    """Compare before creating.

    Args:
        ours: what is not ended, read before `theirs`, oldest first.
        theirs: everything Calendly lists for the organization.
        events: what is wanted.
        now: the time.
    """
    wanted = frozenset(events)
    adopt: list[tuple[Subscription, str]] = []
    lost: list[Subscription] = []
    existing: Subscription | None = None
    for item in ours:
        found = match(item, theirs)
        if found is None:
            if item.state == "active" or now - item.created_at > UNFINISHED_AFTER:
                lost.append(item)
            continue
        if item.state == "creating":
            adopt.append((item, found.uri))
        if existing is None and found.state == "active" and found.here and found.events == wanted:
            existing = item
    return Plan(tuple(adopt), tuple(lost), existing)
