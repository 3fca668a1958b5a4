"""Typed calls of `/user_availability_schedules`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import AvailabilityScheduleDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class UserAvailabilitySchedulesCalls(ResourceCalls):
    """Calls of `/user_availability_schedules`."""

    async def list(self, *, user: str) -> tuple[AvailabilityScheduleDocument, ...]:
        """List a user's availability schedules.

        `GET /user_availability_schedules`. Scope: `availability:read`.

        Example:
            found = await calendly.user_availability_schedules.list(user="USER")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("list-user-availability-schedules", AvailabilityScheduleDocument, {"user": user})

    async def get(self, uuid: str) -> AvailabilityScheduleDocument:
        """Read an availability schedule of a user.

        `GET /user_availability_schedules/{uuid}`. Scope: `availability:read`.

        Example:
            found = await calendly.user_availability_schedules.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-user-availability-schedule", AvailabilityScheduleDocument, {"uuid": uuid})
