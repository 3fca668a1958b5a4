"""Signing keys in the management API."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from slotwire.ingest.control.signing_keys import RenewedKey, SigningKeyRecord
from slotwire.ingest.control.subscription_facts import SubscriptionState
from slotwire.ingest.operate.models import Model, Page


class SigningKeyItem(Model):
    """A signing key: Calendly signs the deliveries of one subscription with it. The key itself is never shown."""

    id: UUID
    organization: str
    subscription_id: UUID
    subscription_state: SubscriptionState
    """The key of an ended subscription is accepted for 48 h longer."""
    created_at: datetime


class SigningKeyPage(Page):
    """Signing keys."""

    items: tuple[SigningKeyItem, ...]


class SigningKeyRevoked(Model):
    """The result of revoking a signing key."""

    id: UUID
    """Nothing that this key signed is accepted any more."""
    organization: str
    subscription_id: UUID
    subscription_ended: bool
    """Whether its subscription has no other key, and was ended: Calendly gives a subscription no new key."""
    replaced_by: UUID | None
    """The new subscription in its place, with a new address and key; null if none is wanted, or none could be made."""
    problem: str | None
    """Why Calendly could not be asked. `slotwire control` tries again in its rounds."""


class RotatedItem(Model):
    """A subscription that gets another signing key: it is replaced, because Calendly gives it no new one."""

    organization: str
    subscription_id: UUID
    """The one with the old key. It is deleted when a delivery has come over the new one, and none is retried on it."""
    by: UUID | None
    """The one with the new key; null until it is made."""


class SigningKeysRotated(Model):
    """Which subscriptions get another signing key."""

    subscriptions: tuple[RotatedItem, ...]
    problem: str | None
    """Why the new ones could not be made at once. `slotwire control` makes them in its rounds."""


def rotated_item(key: RenewedKey, by: UUID | None) -> RotatedItem:
    """Show a subscription that gets another signing key."""
    return RotatedItem(organization=key.org, subscription_id=key.subscription_id, by=by)


def signing_key_item(key: SigningKeyRecord) -> SigningKeyItem:
    """Show a signing key."""
    return SigningKeyItem(
        id=key.id,
        organization=key.org,
        subscription_id=key.subscription_id,
        subscription_state=key.subscription_state,
        created_at=key.created_at,
    )
