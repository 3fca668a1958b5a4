"""What every operator verb stands on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.calendly_client.transport import CallRetries
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate import audit
from slotwire.ingest.operate.audit import AuditEntry
from slotwire.ingest.operate.roles import Principal

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

CALENDLY_RETRIES = CallRetries(attempts=2)
"""Somebody waits for the answer."""

_log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class ResourceActions:
    """The verbs of one noun, on one database. Every verb asks first whether the caller may."""

    pool: Pool
    settings: Settings
    clock: Clock

    def organizations(self) -> Organizations:
        """What acts at Calendly for an organization, with its own connection.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        return Organizations.from_settings(self.settings, self.pool, self.clock, retries=CALENDLY_RETRIES)

    @asynccontextmanager
    async def audited(
        self, who: Principal, action: str, *, org: str | None, target: UUID | str | None = None
    ) -> AsyncIterator[AuditEntry]:
        """Wrap a change: one row of the audit before anything is done, one that says how it ended.

        The checks of role and reach belong inside, so that what is refused is written too; what only reads
        before it, outside or inside. A key of one organization writes under its own, whatever it asked for.
        A cancellation writes no end: nothing is known of one. Why two rows: `slotwire.ingest.operate.audit`.

        Args:
            who: whoever asks.
            action: `noun.verb`, as the method is named.
            org: the organization it is about, as far as the caller said; set `entry.org` once it is known.
            target: the id of what is changed; set `entry.target` once something is made.

        Raises:
            DatabaseUnavailable: the audit cannot be written. Before the block nothing is done; after it the
                change is done, and reported as failed.
        """
        entry = AuditEntry(who.org or org, target)
        begun = await audit.write(self.pool, who, action, entry, result="started", now=self.clock.now())
        try:
            yield entry
        except Exception as error:
            result, code = audit.outcome_of(error)
            try:
                await audit.write(
                    self.pool, who, action, entry, result=result, now=self.clock.now(), code=code, begun=begun
                )
            except SlotwireError as problem:
                # The caller gets the error that ended the change; its beginning is in the audit.
                _log.error("end_not_written", action=action, begun=str(begun), error=problem.message)
            raise
        await audit.write(self.pool, who, action, entry, result="done", now=self.clock.now(), begun=begun)
