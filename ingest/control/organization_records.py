"""Rows of organizations, and their names: an external id belongs to one organization, and stays once it is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slotwire.ingest.errors import RequestRefused, RowRefused, SchemaMismatch
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.ids import OrganizationUri, shard_of

MAX_EXTERNAL_ID = 200
"""Characters of the user's own name for an organization."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")


@dataclass(frozen=True, slots=True)
class OrganizationRecord:
    """A stored organization.

    Attributes:
        org: the last segment of its URI.
        uri: its URI at Calendly.
        external_id: the user's own name for it.
        created_at: when it was first added.
        ended_at: when it was removed; None while it is not.
        backfill_from: a backfill of meetings that start then or later is due; None when none is.
        subscriptions: how many are not ended.
        connections: the states of its connections, oldest first.
    """

    org: str
    uri: OrganizationUri
    external_id: str | None
    created_at: datetime
    ended_at: datetime | None
    backfill_from: datetime | None
    subscriptions: int
    connections: tuple[str, ...]


async def store(pool: Pool, org: str, uri: OrganizationUri, external_id: str | None, *, now: datetime) -> None:
    """Store an organization, or store it again after it was removed.

    Args:
        pool: the database.
        org: the last segment of its URI.
        uri: its URI at Calendly.
        external_id: the user's own name for it; None leaves the present one.
        now: when it is added.

    Raises:
        RequestRefused: it has another external id (`external_id_set`), another organization has this one, or it is
            known from another address (`organization_refused`).
        SchemaMismatch: there is no log yet.
    """
    with translated():
        shards = await pool.fetchval(_SQL["log_shards"])
    if shards is None:
        raise SchemaMismatch("the database has no log yet", remedy="Run `slotwire migrate`.")
    try:
        with translated():
            row = await pool.fetchrow(_SQL["upsert_organization"], org, uri, external_id, shard_of(uri, shards), now)
    except RowRefused as error:
        raise _name_refused() from error
    if row is None:
        raise RequestRefused(
            f"the organization {org} has another external id, and adding it again does not change that",
            code="external_id_set",
            remedy=f"Leave --external-id out, or change it: slotwire organizations rename {org} NAME",
        )
    if row["uri"] != uri:
        raise RequestRefused(
            "an organization with this identifier is known from another Calendly address",
            code="organization_refused",
            remedy="Use a separate database for each Calendly (or simulator).",
        )


async def store_name(pool: Pool, org: str, external_id: str | None) -> None:
    """Give an organization another external id, or none.

    Raises:
        RequestRefused: another organization has it (`organization_refused`).
    """
    try:
        with translated():
            await pool.execute(_SQL["rename_organization"], org, external_id)
    except RowRefused as error:
        raise _name_refused() from error


def _name_refused() -> RequestRefused:
    return RequestRefused(
        "the organization cannot be stored: its identifier or external id is invalid or already used",
        code="organization_refused",
        remedy="Give another external id.",
    )
