"""Signing keys as they are listed and revoked. Once a revocation has returned, nothing the key signed is accepted.

No process is told and none has to listen: the door asks for a delivery's key in the commit that accepts it, and a
revocation waits for the commits under way. What was accepted before stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slotwire.ingest.control.subscription_facts import SubscriptionState
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_OAUTH = read_queries("slotwire.ingest.sql", "oauth.sql")
_ROUNDS = read_queries("slotwire.ingest.sql", "subscriptions.sql")


@dataclass(frozen=True, slots=True)
class SigningKeyRecord:
    """A stored signing key, without the key itself.

    Attributes:
        id: ours; Calendly has none for it.
        org: the organization.
        subscription_id: the subscription whose deliveries it signs.
        subscription_state: a key of an ended subscription is good for 48 h longer.
        created_at: when it was minted.
    """

    id: UUID
    org: str
    subscription_id: UUID
    subscription_state: SubscriptionState
    created_at: datetime


async def read_page(
    pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
) -> tuple[SigningKeyRecord, ...]:
    """List signing keys of one organization, or of all (None), oldest first."""
    created_at, key_id = after or (None, None)
    with translated():
        if org is None:
            rows = await pool.fetch(_SQL["signing_keys_page"], created_at, key_id, limit)
        else:
            rows = await pool.fetch(_SQL["signing_keys_of_org"], created_at, key_id, limit, org)
    return tuple(SigningKeyRecord(**dict(row)) for row in rows)


async def read_one(pool: Pool, key_id: UUID, org: str | None) -> SigningKeyRecord:
    """Read one signing key of an organization, or of any (None).

    Raises:
        RequestRefused: there is no such key, it is revoked already, or belongs to another organization (`not_found`).
    """
    with translated():
        row = await pool.fetchrow(_SQL["signing_key"], key_id, org)
    if row is None:
        raise RequestRefused(
            "there is no such signing key within reach: it may be revoked already",
            code="not_found",
            remedy="List them: slotwire keys signing list",
        )
    return SigningKeyRecord(**dict(row))


async def revoke_all(pool: Pool, org: str, subscription_id: UUID | None = None) -> tuple[UUID, ...]:
    """Revoke the keys of one subscription or, without one, of all of an organization; return those that were there."""
    with translated():
        rows = await pool.fetch(_SQL["revoke_signing_keys"], org, subscription_id, None)
    return tuple(row["id"] for row in rows)


async def revoke_one(pool: Pool, key: SigningKeyRecord, now: datetime) -> bool:
    """Revoke a key, and end its subscription if it has no other; return whether it was ended.

    Raises:
        RequestRefused: it is one of the OAuth app's (`key_of_the_app`).
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_OAUTH["is_app_key"], key.id):
                raise RequestRefused(
                    "this key is the OAuth app's, and all of its subscriptions have it",
                    code="key_of_the_app",
                    remedy="Take it out of SLOTWIRE_OAUTH__SIGNING_KEYS and restart `slotwire control`.",
                )
            await connection.execute(_SQL["revoke_signing_keys"], key.org, None, key.id)
            ended = await connection.fetchval(_SQL["end_without_keys"], key.subscription_id, now)
    return ended is not None


@dataclass(frozen=True, slots=True)
class RenewedKey:
    """A subscription for which another signing key was asked for.

    Attributes:
        subscription_id: the subscription; Calendly gives it no new key, so it is replaced.
        org: its organization.
    """

    subscription_id: UUID
    org: str


async def renew(pool: Pool, org: str | None, now: datetime) -> tuple[RenewedKey, ...]:
    """Ask for another signing key for the subscriptions of one organization, or of all (None).

    The next round makes a subscription with a new key beside each. The old one goes on, with its key, until the new one
    is verified; what is on its way then is accepted for 48 h longer. Where an OAuth app's keys sign, nothing changes.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_ROUNDS["renew_keys"], org, now)
            for each in {row["org"] for row in rows}:
                await connection.execute(_ROUNDS["hurry"], each)
    return tuple(RenewedKey(row["id"], row["org"]) for row in rows)
