"""The keys with which Calendly signs for our OAuth app: one list for all of its subscriptions.

The list is the setting's. Each start of `slotwire control` makes the database follow it: each subscription that the app
made gets a sealed row for each valid key, beside the keys that we mint for others, and rows of keys that are no longer
listed are revoked. So `serve` and the door treat them alike, and no subscription at Calendly is touched. Only a start
does that: while two versions of the list run side by side, the one that started last counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from slotwire.ingest.errors import DatabaseUnavailable, RequestRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.postgres import Connection, Pool, borrowed, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.signing_keys import signing_key_context
from slotwire.ingest.keys.vault import Vault

if TYPE_CHECKING:
    import asyncpg

AGAIN_SECONDS = 5.0
"""How soon a start that did not reach Postgres tries again."""
REFUSED_AGAIN_SECONDS = 60.0
"""How soon one tries again that cannot follow the setting, for example because a key in the database does not open."""
AFTER_END = timedelta(hours=48)
"""Subscriptions that ended less long ago still get a new key: Calendly retries for a day."""

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")
_log = get_logger("signing_keys")


@dataclass(frozen=True, slots=True)
class AppKeysChange:
    """What a start changed.

    Attributes:
        added: keys that are new in the list.
        removed: keys that are no longer in it.
        given: rows that subscriptions got.
        revoked: rows that were revoked.
    """

    added: int
    removed: int
    given: int
    revoked: int


async def run(pool: Pool, vault: Vault, settings: OAuthSettings, clock: Clock) -> None:
    """Make the database follow the setting, once, as soon as Postgres answers; then wait to be cancelled."""
    while settings.client_id:
        try:
            change = await follow(pool, vault, settings, clock)
        except DatabaseUnavailable as problem:
            _log.warning("app_keys_wait", error=problem.message)
            await asyncio.sleep(AGAIN_SECONDS)
        except SlotwireError as problem:
            _log.error("app_keys_not_followed", error=problem.message, remedy=problem.remedy)
            await asyncio.sleep(REFUSED_AGAIN_SECONDS)
        else:
            if change != AppKeysChange(0, 0, 0, 0):
                counts = {"given": change.given, "revoked": change.revoked}
                _log.info("app_keys_changed", added=change.added, removed=change.removed, **counts)
            break
    await asyncio.Event().wait()


async def follow(pool: Pool, vault: Vault, settings: OAuthSettings, clock: Clock) -> AppKeysChange:
    """Make the database follow the setting; return what that changed.

    Raises:
        DatabaseUnavailable: nothing changed, or all but some revocations: the next start does the rest.
        RequestRefused: the list is empty, and a subscription needs a key (`app_keys_missing`); nothing changed.
        SecretUnreadable: a key in the database does not open with the vault's keys; nothing changed.
    """
    wanted = {key.get_secret_value().encode() for key in settings.signing_keys}
    now = clock.now()
    async with borrowed(pool) as connection, connection.transaction():
        # A subscription that is made now waits, or is seen.
        await connection.execute(_SQL["lock_app_keys"])
        known = {row["id"]: _open(vault, row) for row in await connection.fetch(_SQL["app_keys"])}
        gone = [key_id for key_id, key in known.items() if key not in wanted]
        await connection.execute(_SQL["delete_app_keys"], gone)
        fresh = wanted - set(known.values())
        for key in sorted(fresh):
            key_id = uuid4()
            sealed = vault.seal(key, context=app_key_context(key_id))
            await connection.execute(_SQL["insert_app_key"], key_id, sealed, now)
        given = 0
        for row in await connection.fetch(_SQL["app_signed"], now - AFTER_END):
            given += await give(connection, vault, row["org"], row["id"], clock)
    return AppKeysChange(len(fresh), len(gone), given, await _revoke_surplus(pool))


async def give(connection: Connection, vault: Vault, org: str, subscription_id: UUID, clock: Clock) -> int:
    """Give a subscription the keys of the list that it lacks; return how many. Within a transaction.

    Raises:
        RequestRefused: there is no key (`app_keys_missing`).
    """
    await connection.execute(_SQL["share_app_keys"])
    rows = await connection.fetch(_SQL["app_keys"])
    if not rows:
        raise RequestRefused(
            "no signing key of the OAuth app is known, so no delivery of its subscriptions would be accepted",
            code="app_keys_missing",
            remedy="Set SLOTWIRE_OAUTH__SIGNING_KEYS, and start `slotwire control`.",
        )
    has = {row["app_key"] for row in await connection.fetch(_SQL["app_keys_of"], subscription_id)}
    lacking: Sequence[UUID] = [row["id"] for row in rows if row["id"] not in has]
    keys = {row["id"]: _open(vault, row) for row in rows if row["id"] not in has}
    for app_key in lacking:
        key_id = uuid4()
        sealed = vault.seal(keys[app_key], context=signing_key_context(org, subscription_id, key_id))
        await connection.execute(_SQL["give_app_key"], key_id, subscription_id, sealed, clock.now(), app_key)
    return len(lacking)


async def in_force(connection: Connection, vault: Vault) -> frozenset[bytes]:
    """Read the list that the last start of `slotwire control` put into force.

    Raises:
        SecretUnreadable: a key does not open with the vault's keys.
    """
    with translated():
        rows = await connection.fetch(_SQL["app_keys"])
    return frozenset(_open(vault, row) for row in rows)


def app_key_context(key_id: UUID) -> tuple[str, ...]:
    """Return the context a sealed key of the app is bound to."""
    return ("app_signing_keys", str(key_id))


def _open(vault: Vault, row: asyncpg.Record) -> bytes:
    return vault.open(row["sealed"], context=app_key_context(row["id"]))


async def _revoke_surplus(pool: Pool) -> int:
    revoked = 0
    with translated():
        for row in await pool.fetch(_SQL["surplus_app_keys"]):
            await pool.fetch(_SQL["revoke_app_key"], row["org"], row["subscription_id"], row["id"])
            revoked += 1
    return revoked
