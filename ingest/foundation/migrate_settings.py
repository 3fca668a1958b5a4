"""The settings of `slotwire migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from slotwire.ingest.foundation.settings_base import SettingsGroup

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import DatabaseSettings


class MigrateSettings(SettingsGroup):
    """Used by `slotwire migrate` only."""

    database_url: SecretStr | None = None
    """The database with the role that owns the schema; `SLOTWIRE_DATABASE_URL` if unset."""
    role_prefix: str = Field("slotwire", pattern=r"^[a-z_][a-z0-9_]{0,53}$")
    """Begins the names of the processes' database roles: `slotwire_serve`, `slotwire_relay`, `slotwire_agents`,
    `slotwire_mcp`, `slotwire_control`. Each process logs in as its own, or as a member of it."""
    shards: int = Field(1, ge=1, le=64)
    """Shards of the log, fixed when the log is created."""
    lock_timeout_seconds: float = Field(0.5, gt=0)
    """A migration that waits longer for a lock steps back, so that others do not queue behind it, and tries again."""
    patience_seconds: float = Field(120.0, ge=0)
    """How long it goes on trying, and how long it waits for another `migrate` to end; then it says so and ends."""
    statement_timeout_seconds: float = Field(600.0, gt=0)
    """The server cancels a migration's statement that runs longer."""
    build_timeout_seconds: float = Field(3600.0, gt=0)
    """The same for the index of one table that is built beside readers and writers."""

    def limits(self, database: DatabaseSettings) -> DatabaseSettings:
        """Return the settings of the connection that migrates: its own limits, and TLS like every other's."""
        return database.model_copy(
            update={
                "lock_timeout_seconds": self.lock_timeout_seconds,
                "statement_timeout_seconds": self.statement_timeout_seconds,
            }
        )
