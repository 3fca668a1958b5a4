"""Signing keys in the management API."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from slotwire.ingest.control.signing_keys import SigningKeyRecord
from slotwire.ingest.control.subscription_plan import SubscriptionState
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


def signing_key_item(key: SigningKeyRecord) -> SigningKeyItem:
    """Show a signing key."""
    return SigningKeyItem(
        id=key.id,
        organization=key.org,
        subscription_id=key.subscription_id,
        subscription_state=key.subscription_state,
        created_at=key.created_at,
    )
