"""Operations on the audit of credential uses."""

from __future__ import annotations

from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.operate import uses
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.uses_models import UsesPage, UsesQuery, use_item


class UseActions(ResourceActions):
    """What was done with customers' credentials."""

    async def list(self, who: Principal, query: UsesQuery) -> UsesPage:
        """List calls to Calendly, newest first."""
        who.require(Role.ADMIN)
        only = uses.UseFilter(
            org=who.reach(query.organization),
            user=query.user,
            action=query.action,
            actor=query.actor,
            agent=query.agent,
            event=query.event,
            target=query.target,
            people=None if query.email is None else Vault.from_settings(self.settings.vault).marks(query.email),
            since=query.since,
            until=query.until,
        )
        before = None if query.cursor is None else read_id_place("uses", query.cursor)
        with narrowed_by(query):
            found = await uses.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("uses", found[-1].id) if more else None
        return UsesPage(items=tuple(map(use_item, found)), next_cursor=cursor)
