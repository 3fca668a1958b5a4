"""Typed calls of `/locations`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import LocationDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class LocationsCalls(ResourceCalls):
    """Calls of `/locations`."""

    async def list(self, *, user: str) -> tuple[LocationDocument, ...]:
        """List where a user meets people.

        `GET /locations`. Scope: `locations:read`.

        Example:
            found = await calendly.locations.list(user="USER")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("list-user-locations", LocationDocument, {"user": user})
