"""Operations on the audit."""

from __future__ import annotations

from slotwire.ingest.operate import audit
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.audit import AuditEntry
from slotwire.ingest.operate.audit_models import AuditPage, AuditQuery, audit_item
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class AuditActions(ResourceActions):
    """Who changed what."""

    async def list(self, who: Principal, query: AuditQuery) -> AuditPage:
        """List changes, newest first."""
        who.require(Role.ADMIN)
        only = audit.AuditFilter(who.reach(query.organization), query.action, query.actor)
        before = None if query.cursor is None else read_id_place("audit", query.cursor)
        with narrowed_by(query):
            found = await audit.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("audit", found[-1].id) if more else None
        return AuditPage(items=tuple(map(audit_item, found)), next_cursor=cursor)

    async def refused(self, who: Principal, action: str, *, org: str | None, target: str | None) -> None:
        """Write, or count, that a caller was refused for too low a role before the operation was called."""
        entry = AuditEntry(who.org or org, target)
        if not self.refusals.has_room(who) and self.refusals.count(who, entry.org, action, "role_too_low"):
            return
        self.refusals.take(who)
        now = self.clock.now()
        await audit.write(self.pool, who, action, entry, result="refused", now=now, code="role_too_low")
