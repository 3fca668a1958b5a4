"""Typed calls of `/scheduling_links`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import SchedulingLinkDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class SchedulingLinksCalls(ResourceCalls):
    """Calls of `/scheduling_links`."""

    async def create(self, *, max_event_count: int, owner: str, owner_type: str) -> SchedulingLinkDocument:
        """Make a link by which something can be booked once.

        `POST /scheduling_links`. Scope: `scheduling_links:write`.

        Example:
            found = await calendly.scheduling_links.create(
                max_event_count=1,
                owner="https://api.calendly.com/event_types/EVENT_TYPE",
                owner_type="EventType",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-scheduling-link",
            SchedulingLinkDocument,
            {"max_event_count": max_event_count, "owner": owner, "owner_type": owner_type},
        )
