"""Operations on signing keys."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.control.signing_keys import SigningKeyRecord, read_one, read_page, renew, revoke_one
from slotwire.ingest.control.subscription_records import read_one as read_subscription
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.signing_key_models import (
    SigningKeyPage,
    SigningKeyRevoked,
    SigningKeysRotated,
    rotated_item,
    signing_key_item,
)


class SigningKeyActions(ResourceActions):
    """Signing keys: one for each subscription, minted by us."""

    async def list(self, who: Principal, org: str | None, query: PageQuery) -> SigningKeyPage:
        """List signing keys, oldest first, those of ended subscriptions too."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_time_place("signing_keys", query.cursor)
        found = await read_page(self.pool, who.reach(org), after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("signing_keys", (found[-1].created_at, found[-1].id)) if more else None
        return SigningKeyPage(items=tuple(map(signing_key_item, found)), next_cursor=cursor)

    async def revoke(self, who: Principal, org: str | None, key_id: UUID) -> SigningKeyRevoked:
        """Revoke a key, effective at once. A subscription without another one ends, and is replaced if it is wanted."""
        async with self.audited(who, "signing_keys.revoke", org=org, target=key_id) as entry:
            who.require(Role.OPERATOR)
            key = await read_one(self.pool, key_id, who.reach(org))
            entry.org = key.org
            ended = await revoke_one(self.pool, key, self.clock.now())
            replaced_by, problem = await self._replace(who, key) if ended else (None, None)
        return SigningKeyRevoked(
            id=key.id,
            organization=key.org,
            subscription_id=key.subscription_id,
            subscription_ended=ended,
            replaced_by=replaced_by,
            problem=problem,
        )

    async def rotate(self, who: Principal, org: str) -> SigningKeysRotated:
        """Give an organization's subscriptions other signing keys, by replacing them: the new ones are made now."""
        async with self.audited(who, "signing_keys.rotate", org=org, target=org):
            who.require(Role.OPERATOR)
            who.reach(org)
            organizations = self.organizations(who)
            await organizations.get(org)
            renewed = await renew(self.pool, org, self.clock.now())
            problem = await self._reconcile(who, org) if renewed else None
            made = {item.replaces: item.id for item in await organizations.subscriptions.live(org)}
        return SigningKeysRotated(
            subscriptions=tuple(rotated_item(key, made.get(key.subscription_id)) for key in renewed), problem=problem
        )

    async def rotate_all(self, who: Principal) -> SigningKeysRotated:
        """Give the subscriptions of all organizations other signing keys: the manager's rounds make the new ones."""
        async with self.audited(who, "signing_keys.rotate_all", org=None):
            who.require(Role.OPERATOR)
            who.require_everywhere()
            renewed = await renew(self.pool, None, self.clock.now())
        return SigningKeysRotated(subscriptions=tuple(rotated_item(key, None) for key in renewed), problem=None)

    async def _reconcile(self, who: Principal, org: str) -> str | None:
        """Let the subscription manager act now; return why it could not: its rounds then do it."""
        try:
            organizations = self.organizations(who)
            best = await organizations.connections.for_organization(org)
            async with organizations.connections.acting(best) as calendly:
                await organizations.subscriptions.reconcile(calendly, best.organization)
        except SlotwireError as error:
            return error.message
        return None

    async def _replace(self, who: Principal, key: SigningKeyRecord) -> tuple[UUID | None, str | None]:
        """Let the subscription manager end it at Calendly too, and make another; what fails is left to its rounds."""
        try:
            organizations = self.organizations(who)
            old = await read_subscription(self.pool, key.subscription_id, key.org)
            best = await organizations.connections.for_organization(key.org)
            async with organizations.connections.acting(best) as calendly:
                result = await organizations.subscriptions.reconcile(calendly, best.organization)
        except SlotwireError as error:
            return None, error.message
        place = (old.scope, old.subject)
        serving = (item.id for want, item in result.serving.items() if (want.scope, want.subject) == place)
        return next(serving, None), None
