"""What the subscription plan compares: wanted subscriptions, ours, Calendly's, and what happened to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias
from uuid import UUID

from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.keys.hooks import HookId

SubscriptionState = Literal["creating", "active", "ended"]
Place: TypeAlias = tuple[Scope, str]
"""A scope and its subject, the user's or group's URI; empty for the organization."""
LossReason = Literal["disabled", "gone"]

OVERLAP = timedelta(hours=24)
"""How long a new subscription may stay without a delivery before it counts as verified, if the old one has none
either. A setting; this is its default."""
GIVE_UP = timedelta(hours=24)
"""How long Calendly retries a delivery (docs/reference/calendly.md, "Delivery")."""
SKEW = timedelta(minutes=5)
"""How far Calendly's clock may be from ours."""


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

    @property
    def place(self) -> Place:
        """Its scope and subject."""
        return self.scope, self.subject


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
        replaces: the subscription whose place it takes.
        retrying_since: `retry_started_at` as Calendly last listed it.
        lost_at: when it was found disabled or gone; None if it was not.
        lost_reason: which of both.
        deleting_at: when we began to delete it at Calendly; None if we did not.
        renew_at: when somebody asked for another signing key; None if nobody did.
        first_delivery_at: when the first verified delivery came over it; None if none was counted.
        last_delivery_at: when the last one came.
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
    replaces: UUID | None = None
    retrying_since: datetime | None = None
    lost_at: datetime | None = None
    lost_reason: LossReason | None = None
    deleting_at: datetime | None = None
    renew_at: datetime | None = None
    first_delivery_at: datetime | None = None
    last_delivery_at: datetime | None = None

    @property
    def place(self) -> Place:
        """Its scope and subject."""
        return self.scope, self.subject


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
        creator: the URI of the user whose token created it; None where Calendly does not say.
    """

    uri: str
    hook_id: HookId | None
    here: bool
    state: str
    events: frozenset[str]
    retry_started_at: datetime | None = None
    scope: Scope = "organization"
    subject: str = ""
    creator: str | None = None

    @property
    def place(self) -> Place:
        """Its scope and subject."""
        return self.scope, self.subject

    @property
    def owes(self) -> bool:
        """Whether Calendly still has something to deliver to it: a retrying one has, a disabled one has not."""
        return self.state == "active" and self.retry_started_at is not None


@dataclass(frozen=True, slots=True)
class Loss:
    """A subscription of a place that was gone at Calendly.

    Attributes:
        at: when that was noticed.
        failed: whether deliveries to it had failed before, as far as Calendly listed it.
    """

    at: datetime
    failed: bool


@dataclass(frozen=True, slots=True)
class PlaceState:
    """What is known of a wanted place beside its subscriptions.

    Attributes:
        refused: events that Calendly refused for this place, each with `plan` or `scope`.
        refused_at: when it was last asked.
        contested_at: since when nothing is made here any more; None while something is.
        resumed_at: when somebody last let it be made again: earlier losses do not count.
        losses: subscriptions of this place that were gone, oldest first.
    """

    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    refused_at: datetime | None = None
    contested_at: datetime | None = None
    resumed_at: datetime | None = None
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides beside the three lists.

    Attributes:
        overlap: see `OVERLAP`.
        departed: users who are not in the organization any more.
        places: what is known of wanted places.
        unrestored: subscriptions that were lost and whose place was not yet seen served again, ended ones too.
        may_delete: whether deletions are carried out; if not (after a restore, until somebody confirms) they are
            proposed.
        dead: hooks of ended subscriptions without a signing key: nothing that comes there is accepted.
        well_at: when a whole rotation of listings began that found nothing disabled, gone or retrying.
    """

    overlap: timedelta = OVERLAP
    departed: frozenset[str] = frozenset()
    places: Mapping[Place, PlaceState] = field(default_factory=lambda: MappingProxyType({}))
    unrestored: tuple[SubscriptionRecord, ...] = ()
    may_delete: bool = True
    dead: frozenset[HookId] = frozenset()
    well_at: datetime | None = None

    def of(self, place: Place) -> PlaceState:
        """Return what is known of a place."""
        return self.places.get(place) or PlaceState()


def begin_of_hole(item: SubscriptionRecord, retrying_since: datetime | None, well_at: datetime | None) -> datetime:
    """Return since when a delivery over a subscription may be missing.

    Calendly drops what failed for `GIVE_UP`, so a delivery that came does not prove that all before it did.

    Args:
        item: the subscription.
        retrying_since: since when Calendly says that it retries.
        well_at: when a listing last found all well.
    """
    delivered = item.created_at if item.last_delivery_at is None else item.last_delivery_at - GIVE_UP
    return min(at for at in (delivered, retrying_since, well_at) if at is not None) - SKEW


def match(ours: SubscriptionRecord, theirs: Iterable[CalendlySubscription]) -> CalendlySubscription | None:
    """Find our subscription among Calendly's: by its URI, or by its hook if the URI was never learned."""
    for item in theirs:
        if item.uri == ours.provider_uri or item.hook_id == ours.hook_id:
            return item
    return None
