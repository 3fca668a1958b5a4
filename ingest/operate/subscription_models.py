"""Webhook subscriptions in the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from slotwire.ingest.control.catalogue import DEFAULT_EVENTS, Scope
from slotwire.ingest.control.subscription_facts import SubscriptionRecord, SubscriptionState, WantedSubscription
from slotwire.ingest.control.subscriptions import SubscriptionComparison
from slotwire.ingest.operate.models import Model, Page, PageQuery

MAX_AGE_SECONDS = 2**31 - 1
MAX_SUBSCRIBED_EVENTS = 100

EventNames = Annotated[
    tuple[Annotated[str, Field(max_length=200)], ...],
    Field(max_length=MAX_SUBSCRIBED_EVENTS, examples=[list(DEFAULT_EVENTS)]),
]
"""Calendly's names."""
MaxAge = Annotated[int, Field(ge=1, le=MAX_AGE_SECONDS)]
"""Seconds."""
Subject = Annotated[str, Field(min_length=1, max_length=2000)]
"""A URI at Calendly."""


class AtCalendlyItem(Model):
    """Calendly's answer about a subscription."""

    state: Literal["active", "disabled", "missing"]
    """`missing`: Calendly has no such subscription."""
    retry_started_at: datetime | None
    """When Calendly began to retry; null if it does not."""


class SubscriptionItem(Model):
    """A webhook subscription. Its address is a secret and is not shown."""

    id: UUID
    organization: str
    scope: Scope
    subject: str | None
    """The URI of the user or group it is for; null for the whole organization."""
    events: tuple[str, ...]
    state: SubscriptionState
    """`creating` until Calendly has confirmed it, then `active`, at last `ended`."""
    provider_uri: str | None
    """Its URI at Calendly."""
    max_age_seconds: int | None
    """Signed deliveries that are older are quarantined; null accepts any age."""
    created_at: datetime
    ended_at: datetime | None
    """When it ended. Its address stays valid for 48 h longer, unless its signing keys were revoked."""
    at_calendly: AtCalendlyItem | None
    """Null when Calendly was not asked."""


class SubscriptionPage(Page):
    """Webhook subscriptions."""

    items: tuple[SubscriptionItem, ...]


class SubscriptionQuery(PageQuery):
    """Which subscriptions to list, and whether to ask Calendly about them."""

    at_calendly: bool = False
    """Ask Calendly about those that are not ended. Needs a connection that can act."""


class DeletionQuery(Model):
    """How to end a subscription."""

    now: bool = False
    """First revoke its signing keys, so that nothing more is accepted. Otherwise its address stays valid for 48 h."""


class SubscriptionRequest(Model):
    """A subscription for the organization, or for one user or group of it.

    It replaces the one wanted there before. For other events a new subscription is created first, and the old one is
    deleted once Calendly has nothing left to retry on it. The same request again finds the first subscription.
    """

    events: EventNames = ()
    """When left out: all events about bookings and routing forms."""
    user: Subject | None = None
    """For one user, by URI. `meeting_recap.*` needs this."""
    group: Subject | None = None
    """For one group of hosts, by URI."""
    max_age_seconds: MaxAge | None = None
    """Quarantine signed deliveries that are older. Calendly retries for a day, so less than that loses retries."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self.user is not None and self.group is not None:
            raise ValueError("give `user` or `group`, not both")
        return self

    @property
    def scope(self) -> Scope:
        """What the subscription covers."""
        return "user" if self.user is not None else "group" if self.group is not None else "organization"

    @property
    def subject(self) -> str:
        """The user's or group's URI; empty for the organization."""
        return self.user or self.group or ""


class WantedItem(Model):
    """A wanted subscription."""

    scope: Scope
    subject: str | None
    """The URI of the user or group; null for the whole organization."""
    events: tuple[str, ...]
    max_age_seconds: int | None


def wanted_item(want: WantedSubscription) -> WantedItem:
    """Show a wanted subscription."""
    return WantedItem(
        scope=want.scope, subject=want.subject or None, events=want.events, max_age_seconds=want.max_age_seconds
    )


def subscription_item(
    subscription: SubscriptionRecord, listed: SubscriptionComparison | None = None
) -> SubscriptionItem:
    """Show a subscription, with Calendly's answer if it was asked."""
    said = None
    if listed is not None and listed.asked:
        found = listed.found
        said = AtCalendlyItem(
            state="missing" if found is None else "active" if found.state == "active" else "disabled",
            retry_started_at=None if found is None else found.retry_started_at,
        )
    return SubscriptionItem(
        id=subscription.id,
        organization=subscription.org,
        scope=subscription.scope,
        subject=subscription.subject or None,
        events=subscription.events,
        state=subscription.state,
        provider_uri=subscription.provider_uri,
        max_age_seconds=subscription.max_age_seconds,
        created_at=subscription.created_at,
        ended_at=subscription.ended_at,
        at_calendly=said,
    )
