"""Ends an OAuth connection: first what hangs on it at Calendly, then its grant, then its row.

Subscriptions that were made through it are replaced through another admin's connection, so that nothing is missed;
without one they are deleted, and wanted still: whoever connects next gets them again. A personal access token is only
forgotten, because we cannot revoke it.
"""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.connection_records import OAUTH, ConnectionRecord, StoredConnection, read_stored
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.subscription_facts import SubscriptionRecord
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")
_log = get_logger("connections")


async def disconnect(organizations: Organizations, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
    """End a connection, and return it as it was.

    Raises:
        RequestRefused: there is no such connection, or it belongs to another organization (`not_found`).
        CalendlyError: Calendly failed; what was done stays, and disconnecting again goes on.
    """
    stored = await read_stored(organizations.pool, connection_id, org)
    if stored.record.kind != OAUTH:
        return await organizations.connections.delete(connection_id, org)
    mine = await _made_through(organizations, stored)
    if mine:
        await _end_subscriptions(organizations, stored, mine)
    await _revoke(organizations, stored)
    await organizations.connections.forget(stored)
    return stored.record


async def _made_through(organizations: Organizations, stored: StoredConnection) -> tuple[SubscriptionRecord, ...]:
    with translated():
        rows = await organizations.pool.fetch(_SQL["subscriptions_through"], stored.record.id)
    ids = {row["id"] for row in rows}
    return tuple(item for item in await organizations.subscriptions.live(stored.record.org) if item.id in ids)


async def _end_subscriptions(
    organizations: Organizations, stored: StoredConnection, mine: tuple[SubscriptionRecord, ...]
) -> None:
    """Replace subscriptions through another admin's connection, or delete them through this one while it works."""
    record, connections = stored.record, organizations.connections
    with translated():
        other = await organizations.pool.fetchval(_SQL["another_administrator"], record.org, record.id)
    if other is not None:
        async with connections.acting(await connections.get(other, record.org)) as calendly:
            await _replace(organizations, calendly, record, mine)
    elif record.status.able:
        try:
            async with connections.acting(record) as calendly:
                await _delete(organizations, calendly, record, mine)
        except CalendlyError as error:
            if error.problem is not CalendlyProblem.CREDENTIAL:
                raise
            _log.warning("subscriptions_left", connection=str(record.id), subscriptions=len(mine))


async def _replace(
    organizations: Organizations,
    calendly: CalendlyTransport,
    record: ConnectionRecord,
    mine: tuple[SubscriptionRecord, ...],
) -> None:
    """Make the replacements; the subscription manager deletes the old ones when the new ones are seen to serve."""
    with translated():
        await organizations.pool.execute(_SQL["renew_through"], record.id, organizations.clock.now())
    result = await organizations.subscriptions.reconcile(calendly, record.organization)
    made = {item.replaces for item in (*result.created, *result.serving.values())}
    left = [item for item in mine if item.id not in made and await _is_wanted(organizations, item)]
    if left:
        raise RequestRefused(
            f"{len(left)} subscriptions could not be replaced yet",
            code="changed_meanwhile",
            remedy="Disconnect again in a minute.",
        )


async def _is_wanted(organizations: Organizations, item: SubscriptionRecord) -> bool:
    wanted = await organizations.subscriptions.wanted(item.org)
    return any((want.scope, want.subject) == (item.scope, item.subject) for want in wanted)


async def _delete(
    organizations: Organizations,
    calendly: CalendlyTransport,
    record: ConnectionRecord,
    mine: tuple[SubscriptionRecord, ...],
) -> None:
    subscriptions = organizations.subscriptions
    wanted = {(want.scope, want.subject): want for want in await subscriptions.wanted(record.org)}
    for item in mine:
        await subscriptions.delete(calendly, item, record.organization)
        want = wanted.get((item.scope, item.subject))
        if want is not None:
            await subscriptions.want(record.org, want)


async def _revoke(organizations: Organizations, stored: StoredConnection) -> None:
    oauth = organizations.connections.oauth
    if oauth is not None:
        await oauth.revoke(stored)
