"""What the management API takes and gives about webhook subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from slotwire.ingest.control.catalogue import DEFAULT_EVENTS, Scope
from slotwire.ingest.control.subscription_plan import SubscriptionRecord, SubscriptionState, WantedSubscription
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
    """What Calendly says of a subscription."""

    state: Literal["active", "disabled", "missing"]
    """`missing`: Calendly has no such subscription."""
    retry_started_at: datetime | None
    """When Calendly began to retry; null while all is well."""


class SubscriptionItem(Model):
    """A webhook subscription. Its address is a secret and is not shown."""

    id: UUID
    organization: str
    scope: Scope
    subject: str | None
    """The URI of the user or group it is for; null for the whole organization."""
    events: tuple[str, ...]
    state: SubscriptionState
    """`creating` before Calendly said yes, `active`, `ended`."""
    provider_uri: str | None
    """Calendly's URI for it."""
    max_age_seconds: int | None
    """Older authentic deliveries are quarantined; null takes any age."""
    created_at: datetime
    ended_at: datetime | None
    """Its address stays valid for 48 h after this."""
    at_calendly: AtCalendlyItem | None
    """Null when Calendly was not asked."""


class SubscriptionPage(Page):
    """Webhook subscriptions."""

    items: tuple[SubscriptionItem, ...]


class SubscriptionQuery(PageQuery):
    """Which subscriptions, and whether Calendly is asked about them."""

    at_calendly: bool = False
    """Ask Calendly what it says of those that are not ended; needs a connection that can act."""


class SubscriptionRequest(Model):
    """What shall be subscribed to, for the organization, or for one user or group of it.

    It takes the place of what was wanted there before: other events make a new subscription first, and the one
    before is deleted once Calendly owes it nothing. Asking twice finds the first.
    """

    events: EventNames = ()
    """All events about bookings and routing forms when left out."""
    user: Subject | None = None
    """For one user, by URI: the only way to `meeting_recap.*`."""
    group: Subject | None = None
    """For one group of hosts, by URI."""
    max_age_seconds: MaxAge | None = None
    """Quarantine older authentic deliveries; Calendly retries for a day, so mind what this loses."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if self.user is not None and self.group is not None:
            raise ValueError("give `user` or `group`, not both")
        return self

    @property
    def scope(self) -> Scope:
        """What it covers."""
        return "user" if self.user is not None else "group" if self.group is not None else "organization"

    @property
    def subject(self) -> str:
        """The user's or group's URI; empty for the organization."""
        return self.user or self.group or ""


class WantedItem(Model):
    """What shall be subscribed to in one scope."""

    scope: Scope
    subject: str | None
    """The URI of the user or group; null for the whole organization."""
    events: tuple[str, ...]
    max_age_seconds: int | None


def wanted_item(want: WantedSubscription) -> WantedItem:
    """Show what is wanted."""
    return WantedItem(
        scope=want.scope, subject=want.subject or None, events=want.events, max_age_seconds=want.max_age_seconds
    )


def subscription_item(
    subscription: SubscriptionRecord, listed: SubscriptionComparison | None = None
) -> SubscriptionItem:
    """Show a subscription, with Calendly's word where it was asked for."""
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
