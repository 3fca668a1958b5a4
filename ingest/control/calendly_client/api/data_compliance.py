"""Typed calls of `/data_compliance/deletion/events`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class DataComplianceCalls(ResourceCalls):
    """Calls of `/data_compliance/deletion/events`."""

    async def delete_events(self, *, start_time: str | datetime, end_time: str | datetime) -> None:
        """Have Calendly delete the meetings of a time. It takes up to 7 days.

        `POST /data_compliance/deletion/events`. Scope: `data_compliance:write`. Plan: enterprise.

        Example:
            await calendly.data_compliance.delete_events(
                start_time="2025-12-01T09:00:00Z",
                end_time="2025-12-02T09:00:00Z",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-scheduled-event-data", {"start_time": start_time, "end_time": end_time})

    async def delete_invitees(self, *, emails: Sequence[str]) -> None:
        """Have Calendly delete people by their mail addresses. It takes up to 7 days.

        `POST /data_compliance/deletion/invitees`. Scope: `data_compliance:write`. Plan: enterprise.

        Example:
            await calendly.data_compliance.delete_invitees(emails=["ada@example.com"])

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-invitee-data", {"emails": emails})
