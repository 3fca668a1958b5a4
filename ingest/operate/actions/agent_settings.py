"""Operations on the settings of agents that come with Slotwire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from slotwire.ingest.errors import ConfigurationError, RequestRefused
from slotwire.ingest.foundation.agent_settings import SHIPPED, ShippedSettings, StoredSettings, settings_keys
from slotwire.ingest.foundation.agent_settings.stored import EVERYBODY, seal_secrets
from slotwire.ingest.operate import agent_settings_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.agent_settings_models import (
    AgentSettingsItem,
    AgentSettingsPage,
    AgentSettingsQuery,
    AgentSettingsRequest,
    agent_settings_item,
)
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.roles import Principal, Role

_NOT_FOUND = "there are no such settings within reach"
_LIST = "List them: slotwire agents settings show"


class AgentSettingsActions(ResourceActions):
    """What shipped agents do, for each organization. A key of one organization sees and sets only its own."""

    async def list(self, who: Principal, query: AgentSettingsQuery) -> AgentSettingsPage:
        """List settings, by id, without their secrets."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_id_place("agent-settings", query.cursor)
        org = who.reach(query.organization)
        found = await agent_settings_pages.read_page(self.pool, org, query.agent, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("agent-settings", found[-1].id) if more else None
        return AgentSettingsPage(items=tuple(map(agent_settings_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, settings_id: UUID) -> AgentSettingsItem:
        """Read one row, without its secrets."""
        who.require(Role.READER)
        return await self._one(who, settings_id)

    async def set(self, who: Principal, request: AgentSettingsRequest) -> AgentSettingsItem:
        """Set some fields of an agent's settings, and use them again where they were disabled."""
        async with self.audited(who, "agent_settings.set", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            org = who.reach(request.organization) or EVERYBODY
            form = SHIPPED.get(request.agent)
            if form is None:
                raise RequestRefused(
                    "no agent of this name comes with Slotwire",
                    code="agent_unknown",
                    remedy=f"These have settings: {', '.join(sorted(SHIPPED))}.",
                )
            if org and not await agent_settings_pages.knows(self.pool, org):
                raise RequestRefused(
                    f"the organization {org} was never added",
                    code="organization_unknown",
                    remedy="Add it first: slotwire organizations add",
                )
            entry.target = written = await self._write(who, form, request, org)
        return await self._one(who, written)

    async def unset(self, who: Principal, settings_id: UUID) -> AgentSettingsItem:
        """Remove settings: the agent then goes by those of everybody, or does nothing."""
        async with self.audited(who, "agent_settings.unset", org=None, target=settings_id) as entry:
            who.require(Role.OPERATOR)
            removed = await self._one(who, settings_id)
            entry.org = removed.organization
            if not await agent_settings_pages.remove(self.pool, settings_id, who.org):
                raise RequestRefused(_NOT_FOUND, code="not_found", remedy=_LIST)
        return removed

    async def _write(
        self, who: Principal, form: type[ShippedSettings], request: AgentSettingsRequest, org: str
    ) -> UUID:
        keys = settings_keys(self.settings.agents)
        stored = await agent_settings_pages.read_sealed(self.pool, request.agent, org)
        before = {} if stored is None else stored.values(keys)
        _require_again(form, before, request.settings)
        merged = {name: each for name, each in {**before, **request.settings}.items() if each is not None}
        try:
            wanted = form.read(merged, allow_local=self.settings.outgoing.allow_local)
        except ConfigurationError as error:
            raise RequestRefused(error.message, code="settings_invalid", remedy=error.remedy) from None
        plain, secrets = wanted.parts()
        written = await agent_settings_pages.write(
            self.pool,
            request.agent,
            org,
            version=_version(stored),
            document=plain,
            secret_names=tuple(sorted(secrets)),
            sealed=seal_secrets(keys, request.agent, org, secrets),
            by=who.actor,
            now=self.clock.now(),
        )
        if written is None:
            raise RequestRefused(
                "somebody else has changed these settings meanwhile",
                code="changed_meanwhile",
                remedy="Read them, and set again.",
            )
        return written

    async def _one(self, who: Principal, settings_id: UUID) -> AgentSettingsItem:
        found = await agent_settings_pages.read_one(self.pool, settings_id, who.org)
        if found is None:
            raise RequestRefused(_NOT_FOUND, code="not_found", remedy=_LIST)
        return agent_settings_item(found)


def _version(stored: StoredSettings | None) -> int:
    return 0 if stored is None else stored.version


def _require_again(form: type[ShippedSettings], before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to send a secret that was set before to a place that is set now."""
    for secret, places in form.goes_with.items():
        moved = any(name in wanted and wanted[name] != before.get(name) for name in places)
        if moved and secret in before and secret not in wanted:
            raise RequestRefused(
                f"{secret} goes with {', '.join(sorted(places))}: give it again, or another one",
                code="secret_missing",
                remedy="Secrets cannot be read, so they are not sent to an address that was set after them.",
            )
