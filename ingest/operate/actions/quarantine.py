"""Operations on deliveries that could not be understood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import quarantine_pages
from slotwire.ingest.operate.actions.base import WRITER_SECONDS, ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.quarantine_models import (
    DiscardRequest,
    QuarantineDetail,
    QuarantineItem,
    QuarantinePage,
    QuarantineQuery,
    quarantine_detail,
    quarantine_item,
)
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.receive.accept import until_settled

RETRY_PAGE = 200
"""Ids that are read at a time while quarantined deliveries are retried."""


class QuarantineActions(ResourceActions):
    """Deliveries that could not be understood."""

    async def list(self, who: Principal, query: QuarantineQuery) -> QuarantinePage:
        """List quarantined deliveries, newest first."""
        who.require(Role.READER)
        state = None if query.state == "all" else query.state
        only = quarantine_pages.QuarantineFilter(who.reach(query.organization), query.reason, state)
        before = None if query.cursor is None else read_id_place("quarantine", query.cursor)
        with narrowed_by(query):
            found = await quarantine_pages.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("quarantine", found[-1].delivery_id) if more else None
        return QuarantinePage(items=tuple(map(quarantine_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, delivery_id: UUID) -> QuarantineDetail:
        """Read one quarantined delivery. Only operators and admins see its body."""
        who.require(Role.READER)
        found = await quarantine_pages.read_one(self.pool, delivery_id, who.org)
        if found is None:
            raise _not_quarantined()
        return quarantine_detail(found, with_body=who.role.rank >= Role.OPERATOR.rank)

    async def retry(self, who: Principal, delivery_id: UUID, *, seconds: float = WRITER_SECONDS) -> QuarantineItem:
        """Read a quarantined delivery again. It becomes events, or stays with the reason it has now.

        Waits `seconds` for the writer; then the delivery is shown as it still is, with where the retry is accepted.
        """
        accepted_at = None
        async with self.audited(who, "quarantine.retry", org=None, target=delivery_id) as entry:
            who.require(Role.OPERATOR)
            found = await quarantine_pages.read_one(self.pool, delivery_id, who.org)
            if found is None:
                raise _not_quarantined()
            entry.org = found.org
            if found.state != "retried":
                position = await quarantine_pages.retry(self.pool, found, now=self.clock.now())
                if not await until_settled(self.pool, found.shard, position, seconds=seconds):
                    accepted_at = position
                found = await quarantine_pages.read_one(self.pool, delivery_id, who.org) or found
        return quarantine_item(found, accepted_at=accepted_at)

    async def count_waiting(self, who: Principal, reason: str, org: str | None) -> int:
        """Count the deliveries that wait in quarantine with one reason."""
        who.require(Role.READER)
        return await quarantine_pages.count_waiting(self.pool, reason, who.reach(org))

    async def retry_waiting(self, who: Principal, reason: str, org: str | None) -> AsyncIterator[QuarantineItem]:
        """Retry each delivery that waits with one reason, in the order of arrival, and yield it as it is then.

        Once one was not written in time, the others are accepted without waiting.
        """
        who.require(Role.READER)  # each retry requires more, and is in the audit
        reached, after, seconds = who.reach(org), UUID(int=0), WRITER_SECONDS
        while ids := await quarantine_pages.waiting_ids(self.pool, reason, reached, after=after, limit=RETRY_PAGE):
            for delivery_id in ids:
                item = await self.retry(who, delivery_id, seconds=seconds)
                seconds = WRITER_SECONDS if item.accepted_at is None else 0.0
                yield item
            after = ids[-1]

    async def discard(self, who: Principal, delivery_id: UUID, request: DiscardRequest) -> QuarantineItem:
        """Mark a quarantined delivery as not wanted. Its body stays. A second time changes nothing."""
        async with self.audited(who, "quarantine.discard", org=None, target=delivery_id) as entry:
            who.require(Role.OPERATOR)
            if await quarantine_pages.read_one(self.pool, delivery_id, who.org) is None:
                raise _not_quarantined()
            await quarantine_pages.discard(self.pool, delivery_id, request.why, now=self.clock.now())
            found = await quarantine_pages.read_one(self.pool, delivery_id, who.org)
            if found is None:
                raise _not_quarantined()
            entry.org = found.org
            if found.state == "retried":
                raise RequestRefused(
                    "it was retried and is no longer in quarantine",
                    code="retried_already",
                    remedy="`slotwire events list` shows what it became.",
                )
        return quarantine_item(found)


def _not_quarantined() -> RequestRefused:
    return RequestRefused(
        "there is no such delivery in quarantine within reach",
        code="not_found",
        remedy="Give the id of a delivery from `slotwire quarantine list`.",
    )
