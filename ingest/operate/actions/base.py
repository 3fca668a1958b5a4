"""What all operations share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.refused_addresses import TOO_MANY, too_many
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate import audit
from slotwire.ingest.operate.audit import AuditEntry
from slotwire.ingest.operate.refusals import RefusedChanges
from slotwire.ingest.operate.roles import CONTROL, Principal

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

CALENDLY_RETRIES = CallRetries(attempts=2)
"""Few, because somebody waits for the answer."""

WRITER_SECONDS = 5.0
"""How long an operation waits for the writer; then it says where what it had accepted is, and that it is not yet
written."""

NOTICED = frozenset({"subscriptions.disabled", "subscriptions.restored", "subscriptions.contested"})
"""What the subscription manager notices at Calendly: in the audit whoever made it look."""

_log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class ResourceActions:
    """The operations on one resource, on one database. Each checks first whether the caller may do it."""

    pool: Pool
    settings: Settings
    clock: Clock
    calendly: CalendlyHttp
    refusals: RefusedChanges

    def organizations(self, who: Principal) -> Organizations:
        """Make what acts at Calendly for organizations, each with its own connection, on behalf of a caller.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        return Organizations.from_settings(
            self.settings,
            self.pool,
            self.clock,
            self.calendly,
            retries=CALENDLY_RETRIES,
            changing=self.noticed,
            behalf=Behalf(who.actor),
        )

    def connections(self, who: Principal) -> Connections:
        """Make what acts with stored credentials, on behalf of a caller.

        Raises:
            ConfigurationError: a vault key is missing or unfit.
        """
        return Connections.from_settings(
            self.settings, self.pool, self.clock, self.calendly, retries=CALENDLY_RETRIES, behalf=Behalf(who.actor)
        )

    def noticed(self, action: str, org: str, target: UUID | str) -> AbstractAsyncContextManager[object]:
        """Wrap what is noticed at Calendly during a change, so that the audit has it; the change has its own rows."""
        return self.audited(CONTROL, action, org=org, target=target) if action in NOTICED else nullcontext()

    @asynccontextmanager
    async def audited(
        self, who: Principal, action: str, *, org: str | None, target: UUID | str | None = None
    ) -> AsyncIterator[AuditEntry]:
        """Wrap a change in two rows of the audit: one before anything is done, one that says how it ended.

        Check role and reach inside the block, so that refusals are in the audit too. The row of a key that is bound to
        an organization names that organization, whatever the caller asked for. A cancelled request has no second row,
        because its end is not known. `slotwire.ingest.operate.audit` says why there are two rows.

        Args:
            who: the caller.
            action: `noun.verb`, as the file and the method are named.
            org: the organization, if the caller named one; otherwise set `entry.org` once it is known.
            target: the id of what is changed; if it is only made in the block, set `entry.target` there.

        Raises:
            RequestRefused: too many changes of this key were refused (`too_many_refusals`); nothing has been done.
            DatabaseUnavailable: the audit cannot be written. Before the block, nothing has been done; after it, the
                change has been done and is reported as failed.
        """
        entry = AuditEntry(who.org or org, target)
        if not self.refusals.has_room(who) and self.refusals.count(who, entry.org, action, TOO_MANY):
            raise too_many()
        begun = await audit.write(self.pool, who, action, entry, result="started", now=self.clock.now())
        try:
            yield entry
        except Exception as error:
            result, code = audit.outcome_of(error)
            if result == "refused":
                self.refusals.take(who)
            try:
                await audit.write(
                    self.pool, who, action, entry, result=result, now=self.clock.now(), code=code, begun=begun
                )
            except SlotwireError as problem:
                # The caller gets the error that ended the change; the audit has its first row.
                _log.error("end_not_written", action=action, begun=str(begun), error=problem.message)
            raise
        await audit.write(self.pool, who, action, entry, result="done", now=self.clock.now(), begun=begun)
