"""Operations on what agents ask people to approve."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from uuid import UUID

from slotwire.ingest.control.approval_links import ApprovalLinks
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import approval_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.approval_models import (
    ApprovalItem,
    ApprovalLinkCreated,
    ApprovalPage,
    ApprovalQuery,
    DecisionRequest,
    approval_item,
)
from slotwire.ingest.operate.approval_pages import ApprovalRow
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class ApprovalActions(ResourceActions):
    """What agents ask people to approve."""

    async def list(self, who: Principal, query: ApprovalQuery) -> ApprovalPage:
        """List approvals, newest first. Only operators and admins see what they are for."""
        who.require(Role.READER)
        only = AgentFilter(who.reach(query.organization), query.agent, query.state)
        before = None if query.cursor is None else read_time_place("approvals", query.cursor)
        with narrowed_by(query):
            found = await approval_pages.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("approvals", (found[-1].asked_at, found[-1].id)) if more else None
        items = tuple(approval_item(each, with_data=_sees(who)) for each in found)
        return ApprovalPage(items=items, next_cursor=cursor)

    async def get(self, who: Principal, approval_id: UUID) -> ApprovalItem:
        """Read one approval. Only operators and admins see what it is for."""
        who.require(Role.READER)
        return approval_item(await self._one(who, approval_id), with_data=_sees(who))

    async def decide(self, who: Principal, approval_id: UUID, request: DecisionRequest) -> ApprovalItem:
        """Approve or deny what an agent asks for: once, in time, and for the digest that was seen."""
        async with self.audited(who, "approvals.decide", org=None, target=approval_id) as entry:
            who.require(Role.OPERATOR)
            asked = await self._one(who, approval_id)
            entry.org = asked.org
            decided = await approval_pages.decide(
                self.pool,
                approval_id,
                bytes.fromhex(request.digest),
                approved=request.decision == "approve",
                by=who.actor,
                now=self.clock.now(),
            )
            if not decided:
                raise _refused(await self._one(who, approval_id), request.digest)
        return approval_item(await self._one(who, approval_id), with_data=True)

    async def link(self, who: Principal, approval_id: UUID) -> ApprovalLinkCreated:
        """Make the link under which a person decides in the browser, and return its address, once.

        An earlier link of the same approval ends with it.
        """
        async with self.audited(who, "approvals.link", org=None, target=approval_id) as entry:
            who.require(Role.OPERATOR)
            asked = await self._one(who, approval_id)
            entry.org = asked.org
            links = self.links()
            if not links.has_pages:
                raise RequestRefused(
                    "`slotwire control` has no pages for browsers, so a link would lead nowhere",
                    code="pages_missing",
                    remedy="Set SLOTWIRE_OAUTH__PUBLIC_URL to the https address of its public listener.",
                )
            made = await links.make(approval_id, by=who.actor)
            if made is None:
                raise _refused(await self._one(who, approval_id), asked.digest.hex())
        return ApprovalLinkCreated(approval_id=approval_id, url=made[1].get_secret_value(), expires_at=made[0])

    def links(self) -> ApprovalLinks:
        """What makes links and reads them back."""
        return ApprovalLinks.from_settings(self.settings, self.pool, self.clock)

    def decided_by_link(self, link_id: UUID, org: str, approval_id: UUID) -> AbstractAsyncContextManager[object]:
        """Wrap a decision in the browser, so that the audit has it: the link is the actor."""
        who = Principal(Role.OPERATOR, org=org, name=str(link_id))
        return self.audited(who, "approvals.decide", org=org, target=approval_id)

    async def _one(self, who: Principal, approval_id: UUID) -> ApprovalRow:
        found = await approval_pages.read_one(self.pool, approval_id, who.org)
        if found is None:
            raise RequestRefused(
                "there is no such approval within reach, or its run has ended",
                code="not_found",
                remedy="List them: slotwire agents approvals list",
            )
        return found


def _sees(who: Principal) -> bool:
    return who.role.rank >= Role.OPERATOR.rank


def _refused(asked: ApprovalRow, digest: str) -> RequestRefused:
    if asked.digest.hex() != digest:
        why, remedy = "this is the digest of something else", "Read the approval again, and decide about what it says."
    elif asked.state in {"approved", "denied"}:
        why, remedy = f"it was {asked.state} before", "A decision stays."
    else:
        why, remedy = "its time is over", "The agent has gone on without an approval."
    return RequestRefused(why, code="approval_refused", remedy=remedy)
