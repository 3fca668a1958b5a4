"""The events that are published about subscriptions. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from slotwire.ingest.control.subscription_facts import SubscriptionRecord
from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.events import SubscriptionDisabled, SubscriptionRestored
from slotwire.schemas.ids import OrganizationUri, event_id


def disabled_event(
    item: SubscriptionRecord,
    organization: OrganizationUri,
    reason: Literal["disabled", "gone"],
    retrying_since: datetime | None,
    now: datetime,
) -> OwnEvent:
    """Make the event that says that nothing comes over a subscription any more; the same one has always the same id.

    Args:
        item: the subscription.
        organization: its organization's URI.
        reason: Calendly has disabled it, or does not have it any more.
        retrying_since: since when deliveries failed, as far as Calendly said.
        now: when it was noticed.
    """
    data = SubscriptionDisabled(
        subscription_id=item.id,
        organization=organization,
        scope=item.scope,
        subject=item.subject or None,
        events=list(item.events),
        reason=reason,
        retry_started_at=retrying_since,
        last_delivery_at=item.last_delivery_at,
        noticed_at=now,
    )
    made = event_id(organization, "subscription.disabled", str(item.id), "")
    return OwnEvent(made, data, subject=item.subject or organization, key=organization, time=now)


def restored_event(
    lost: SubscriptionRecord,
    by: SubscriptionRecord,
    organization: OrganizationUri,
    missing: tuple[str, ...],
    now: datetime,
) -> OwnEvent:
    """Make the event that says that the place of a lost subscription is served again; once for each that was lost.

    Args:
        lost: the one that was disabled or gone.
        by: the one that serves its place now.
        organization: their organization's URI.
        missing: wanted events that it does not have, because Calendly refused them.
        now: when that was seen.
    """
    data = SubscriptionRestored(
        subscription_id=by.id,
        replaces=lost.id,
        organization=organization,
        scope=by.scope,
        subject=by.subject or None,
        events=list(by.events),
        missing_events=list(missing),
        lost_at=lost.lost_at or now,
        restored_at=now,
    )
    made = event_id(organization, "subscription.restored", str(lost.id), "")
    return OwnEvent(made, data, subject=by.subject or organization, key=organization, time=now)
