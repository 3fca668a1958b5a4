"""Typed calls of `/user_busy_times`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import BusyTimeDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class UserBusyTimesCalls(ResourceCalls):
    """Calls of `/user_busy_times`."""

    async def list(
        self, *, user: str, start_time: str | datetime, end_time: str | datetime
    ) -> tuple[BusyTimeDocument, ...]:
        """List when a user is busy, over at most 7 days.

        `GET /user_busy_times`. Scope: `availability:read`.

        Example:
            found = await calendly.user_busy_times.list(
                user="USER",
                start_time="2026-12-01T09:00:00Z",
                end_time="2026-12-02T09:00:00Z",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all(
            "list-user-busy-times", BusyTimeDocument, {"user": user, "start_time": start_time, "end_time": end_time}
        )
