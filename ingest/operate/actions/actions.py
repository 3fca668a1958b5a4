"""Operations on actions: what callers have done at Calendly, once for each of their keys."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.control.actions import deciding
from slotwire.ingest.control.actions.perform import Performer
from slotwire.ingest.control.actions.preparing import AskedAction
from slotwire.ingest.control.actions.records import read_action, read_actions, remember
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate.action_models import (
    ActionItem,
    ActionPage,
    ActionQuery,
    ActionRequest,
    DecideRequest,
    RestoreConfirmed,
    action_item,
)
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class PerformedActions(ResourceActions):
    """Actions, each done once for its caller's key."""

    async def list(self, who: Principal, query: ActionQuery) -> ActionPage:
        """List actions, newest first."""
        who.require(Role.READER)
        before = None if query.cursor is None else read_id_place("actions", query.cursor)
        with narrowed_by(query):
            reach = who.reach(query.organization)
            found = await read_actions(self.pool, reach, before=before, state=query.state, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("actions", found[-1].id) if more else None
        return ActionPage(items=tuple(map(action_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, action: UUID) -> ActionItem:
        """Read one action."""
        who.require(Role.READER)
        return action_item(await read_action(self.pool, action, who.org))

    async def create(self, who: Principal, request: ActionRequest) -> tuple[ActionItem, bool]:
        """Do something at Calendly, unless the caller's key was used. Returns also whether the action is new."""
        async with self.audited(who, "actions.create", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            org = who.reach(request.organization)
            organizations = self.organizations(who)
            organization = await (organizations.get(org) if org else organizations.only())
            entry.org = organization.org
            if organization.ended_at is not None:
                raise RequestRefused(
                    "the organization was removed: it has no credential to act with",
                    code="organization_refused",
                    remedy="Add it again: slotwire organizations add --token-file FILE",
                )
            performer = Performer.from_settings(self.settings, self.pool, self.clock, self.calendly)
            asked = AskedAction(
                organization.org,
                who.actor,
                request.idempotency_key,
                request.action,
                request.connection,
                request.retry_not_seen,
            )
            record, new = await performer.act(asked)
            entry.target = record.id
        return action_item(record), new

    async def decide(self, who: Principal, action: UUID, request: DecideRequest) -> ActionItem:
        """Settle an action as a person found out."""
        async with self.audited(who, "actions.decide", org=None, target=action) as entry:
            who.require(Role.OPERATOR)
            record = await read_action(self.pool, action, who.org)
            entry.org = record.org
            decided = await deciding.decide(
                self.pool, self.clock, record, request.outcome, who=who.actor, why=request.why
            )
        return action_item(decided)

    async def confirm_restore(self, who: Principal) -> RestoreConfirmed:
        """Let actions call without looking first again, after this database was restored, copied or failed over."""
        async with self.audited(who, "actions.confirm_restore", org=None):
            who.require(Role.ADMIN)
            who.require_everywhere()
            return RestoreConfirmed(changed=await remember(self.pool, self.clock.now()))
