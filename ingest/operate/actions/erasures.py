"""Operations on erasures: people whose data is taken out of everything that is stored."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.control import erasure
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate.actions.base import WRITER_SECONDS, ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.erasure_models import (
    ErasureItem,
    ErasurePage,
    ErasureQuery,
    ErasureRequest,
    erasure_item,
)
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class ErasureActions(ResourceActions):
    """People who were erased."""

    async def list(self, who: Principal, query: ErasureQuery) -> ErasurePage:
        """List erasures, newest first."""
        who.require(Role.READER)
        before = None if query.cursor is None else read_id_place("erasures", query.cursor)
        with narrowed_by(query):
            reach = who.reach(query.organization)
            found = await erasure.read_page(self.pool, reach, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("erasures", found[-1].id) if more else None
        return ErasurePage(items=tuple(map(erasure_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, erasure_id: UUID) -> ErasureItem:
        """Read one erasure, with its report once it has ended."""
        who.require(Role.READER)
        return erasure_item(await erasure.read_one(self.pool, erasure_id, who.org))

    async def create(self, who: Principal, request: ErasureRequest) -> ErasureItem:
        """Erase a person, for ever. The audit has the erasure's id, and neither address nor name."""
        async with self.audited(who, "erasures.create", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            org = who.reach(request.organization)
            if org is None:
                raise RequestRefused(
                    "the organization is not named",
                    code="organization_missing",
                    remedy="Name one of those that `slotwire organizations list` shows.",
                )
            found = await erasure.erase(
                self.pool,
                self.clock,
                org,
                address=request.email,
                invitees=request.invitees,
                by=who.actor,
                seconds=WRITER_SECONDS,
            )
            entry.target = found.id
        return erasure_item(found)
