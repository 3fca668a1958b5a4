"""Where shipped agents find their settings: in Postgres, or in memory for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from slotwire.ingest.foundation.agent_settings import StoredSettings
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import ConfigurationError, SecretUnreadable
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.sealing import SealingKeys

_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")


class SettingsSource(Protocol):
    """Gives agents their settings."""

    async def find(self, agent: str, organization: str) -> tuple[StoredSettings, Mapping[str, Any]] | None:
        """Find what is set for an organization, or else for everybody, with the values by field; None if nothing is."""
        ...

    async def disable(self, found: StoredSettings, why: str) -> None:
        """Use these no more, until somebody sets them again."""
        ...


class PostgresSettings:
    """The settings in Postgres."""

    def __init__(self, pool: Pool, keys: SealingKeys | None, *, clock: Clock) -> None:
        self._pool = pool
        self._keys = keys
        self._clock = clock

    async def find(self, agent: str, organization: str) -> tuple[StoredSettings, Mapping[str, Any]] | None:
        """Find them; see `SettingsSource`.

        Raises:
            DatabaseUnavailable: Postgres is away.
            ConfigurationError: there are secrets that do not open with the keys of this process.
        """
        with translated():
            row = await self._pool.fetchrow(_QUERIES["settings_for"], agent, organization)
        if row is None:
            return None
        found = StoredSettings(agent, **{**row, "document": orjson.loads(row["document"])})
        try:
            return found, found.values(self._keys)
        except SecretUnreadable as error:
            raise ConfigurationError(error.message, remedy=error.remedy) from None

    async def disable(self, found: StoredSettings, why: str) -> None:
        """Use these no more; see `SettingsSource`.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        values = (found.agent, found.org, found.version, why, self._clock.now())
        with translated():
            await self._pool.execute(_QUERIES["disable_settings"], *values)


@dataclass
class MemorySettings:
    """The settings of a test.

    Attributes:
        values: what is set, by agent and organization; the empty one is for everybody.
        disabled: why they are not used, by agent and organization.
    """

    values: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    disabled: dict[tuple[str, str], str] = field(default_factory=dict)

    async def find(self, agent: str, organization: str) -> tuple[StoredSettings, Mapping[str, Any]] | None:
        """Find them; see `SettingsSource`."""
        org = organization if (agent, organization) in self.values else ""
        values = self.values.get((agent, org))
        if values is None:
            return None
        return StoredSettings(agent, org, 1, {}, disabled_why=self.disabled.get((agent, org))), values

    async def disable(self, found: StoredSettings, why: str) -> None:
        """Use these no more; see `SettingsSource`."""
        self.disabled[found.agent, found.org] = why
