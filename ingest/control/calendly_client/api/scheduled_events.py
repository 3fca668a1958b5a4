"""Typed calls of `/scheduled_events`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import CancellationDocument, ScheduledEventDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class ScheduledEventsCalls(ResourceCalls):
    """Calls of `/scheduled_events`."""

    def list(
        self,
        *,
        user: str | None = None,
        organization: str | None = None,
        invitee_email: str | None = None,
        status: str | None = None,
        sort: str | None = None,
        min_start_time: str | datetime | None = None,
        max_start_time: str | datetime | None = None,
        group: str | None = None,
    ) -> AsyncIterator[ScheduledEventDocument]:
        """List scheduled events.

        `GET /scheduled_events`. Scope: `scheduled_events:read`.

        Example:
            async for found in calendly.scheduled_events.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-scheduled-events",
            ScheduledEventDocument,
            {
                "user": user,
                "organization": organization,
                "invitee_email": invitee_email,
                "status": status,
                "sort": sort,
                "min_start_time": min_start_time,
                "max_start_time": max_start_time,
                "group": group,
            },
        )

    async def get(self, uuid: str) -> ScheduledEventDocument:
        """Read a scheduled event.

        `GET /scheduled_events/{uuid}`. Scope: `scheduled_events:read`.

        Example:
            found = await calendly.scheduled_events.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-scheduled-event", ScheduledEventDocument, {"uuid": uuid})

    async def cancel(self, uuid: str, *, reason: str | None = None) -> CancellationDocument:
        """Cancel a whole meeting: the booking of everybody in it.

        `POST /scheduled_events/{uuid}/cancellation`. Scope: `scheduled_events:write`.

        Example:
            found = await calendly.scheduled_events.cancel(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-scheduled-event-cancellation", CancellationDocument, {"uuid": uuid, "reason": reason}
        )
