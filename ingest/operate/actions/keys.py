"""Operations on keys: those of the management API, and those of the vault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.operate import api_keys, vault_rotation
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.api_keys import ApiKey
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.models import KeyItem, KeyPage, KeyRequest, NewKey, PageQuery
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.vault_rotation import KeyUse, RotationProgress


class KeyActions(ResourceActions):
    """Keys of the management API, and of the vault."""

    async def list(self, who: Principal, query: PageQuery) -> KeyPage:
        """List keys of the management API, oldest first."""
        who.require(Role.ADMIN)
        after = None if query.cursor is None else read_time_place("keys", query.cursor)
        found = await api_keys.page(self.pool, who.org, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("keys", (found[-1].created_at, found[-1].id)) if more else None
        return KeyPage(items=tuple(map(key_item, found)), next_cursor=cursor)

    async def create(self, who: Principal, request: KeyRequest) -> NewKey:
        """Make a key. Only this answer shows it."""
        async with self.audited(who, "keys.create", org=request.organization) as entry:
            who.require(Role.ADMIN)
            made, key = await api_keys.create(
                self.pool,
                role=request.role,
                org=who.reach(request.organization),
                label=request.label,
                now=self.clock.now(),
            )
            entry.target = made.id
        return NewKey(**key_item(made).model_dump(), key=key.get_secret_value())

    async def revoke(self, who: Principal, key_id: UUID) -> KeyItem:
        """Revoke a key, effective at once."""
        async with self.audited(who, "keys.revoke", org=None, target=key_id) as entry:
            who.require(Role.ADMIN)
            revoked = await api_keys.revoke(self.pool, key_id, who.org, self.clock.now())
            entry.org = revoked.org
        return key_item(revoked)

    async def rotate_vault(self, who: Principal) -> AsyncIterator[RotationProgress]:
        """Encrypt with the vault's first key what another key encrypted. Yields the progress after each page."""
        async with self.audited(who, "keys.rotate_vault", org=None):
            who.require(Role.ADMIN)
            who.require_everywhere()
            async for page in vault_rotation.rotate(self.pool, Vault.from_settings(self.settings.vault)):
                yield page

    async def vault_use(self, who: Principal) -> tuple[KeyUse, ...]:
        """Count the secrets that each key of the vault encrypted."""
        who.require(Role.ADMIN)
        who.require_everywhere()
        return await vault_rotation.keys_in_use(self.pool, Vault.from_settings(self.settings.vault))


def key_item(key: ApiKey) -> KeyItem:
    """Show a key, without its secret part."""
    return KeyItem(
        id=key.id,
        role=key.role,
        organization=key.org,
        label=key.label,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )
