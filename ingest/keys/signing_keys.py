"""Signing keys: minted by us, stored sealed with their subscription, opened when a delivery comes.

Calendly neither returns nor changes a key, so we mint and store it before we subscribe.
Source: docs/reference/calendly.md, "Webhook signature", signing key.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.keys.hooks import HookId
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import OrganizationUri

SIGNING_KEY_BYTES = 32
"""Random octets of a key. Calendly signs with the characters of the string, not with the octets they encode."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")


@dataclass(frozen=True, slots=True)
class HookRecord:
    """The subscription of a hook, with everything needed to verify its deliveries.

    Attributes:
        organization: the organization's URI at Calendly.
        org: its last segment.
        shard: the organization's shard of the log.
        external_id: the user's own name for the organization.
        subscription_id: our id of the subscription.
        state: `creating`, `active` or `ended`. Deliveries may come before `active` is written.
        ended_at: when it ended; None while it has not.
        max_age: older authentic deliveries are quarantined; None accepts any age.
        keys: signing keys by id, as the octets that Calendly signs with, newest first; never shown. None where all are
            revoked.
    """

    organization: OrganizationUri
    org: str
    shard: int
    external_id: str | None
    subscription_id: UUID
    state: str
    ended_at: datetime | None
    max_age: timedelta | None
    keys: Mapping[UUID, bytes] = field(repr=False)


def mint_signing_key() -> str:
    """Make a signing key: 43 characters of base64url, like Calendly's own example."""
    return encode_base64url(secrets.token_bytes(SIGNING_KEY_BYTES))


def signing_key_context(org: str, subscription_id: UUID, key_id: UUID) -> tuple[str, ...]:
    """Return the context a sealed signing key is bound to: it opens only in this row of this organization."""
    return ("signing_keys", org, str(subscription_id), str(key_id))


async def load_keys(connection: Connection, vault: Vault, hook_id: HookId) -> HookRecord | None:
    """Load the subscription of a hook and its signing keys, in one query.

    Args:
        connection: any connection with the rights of the runtime role.
        vault: opens the keys.
        hook_id: from `HookAddresses.read`.

    Returns:
        The record, or None if no subscription has this hook.

    Raises:
        DatabaseUnavailable: Postgres did not answer; the hook may still exist.
        SecretUnreadable: a key does not open with the vault's keys.
    """
    with translated():
        row = await connection.fetchrow(_SQL["load_hook"], hook_id)
    if row is None:
        return None
    keys = {
        key_id: vault.open(sealed, context=signing_key_context(row["org"], row["subscription_id"], key_id))
        for key_id, sealed in zip(row["key_ids"], row["sealed_keys"], strict=True)
    }
    seconds = row["max_age_seconds"]
    return HookRecord(
        organization=OrganizationUri(row["uri"]),
        org=row["org"],
        shard=row["shard"],
        external_id=row["external_id"],
        subscription_id=row["subscription_id"],
        state=row["state"],
        ended_at=row["ended_at"],
        max_age=None if seconds is None else timedelta(seconds=seconds),
        keys=keys,
    )
