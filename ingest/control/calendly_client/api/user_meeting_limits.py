"""Typed calls of `/user_meeting_limits`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import MeetingLimitsDocument
from slotwire.ingest.control.calendly_client.typed import UNSET, ResourceCalls, Unset, nullable


class UserMeetingLimitsCalls(ResourceCalls):
    """Calls of `/user_meeting_limits`."""

    async def list(self, *, user: str) -> tuple[MeetingLimitsDocument, ...]:
        """List the token's user's meeting limits.

        `GET /user_meeting_limits`. Scope: `availability:read`.

        Example:
            found = await calendly.user_meeting_limits.list(user="USER")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("list-user-meeting-limits", MeetingLimitsDocument, {"user": user})

    async def update(
        self,
        *,
        user: str,
        daily_limit: int | Unset | None = UNSET,
        weekly_limit: int | Unset | None = UNSET,
        monthly_limit: int | Unset | None = UNSET,
    ) -> MeetingLimitsDocument:
        """Change the meeting limits of the token's user; null is no limit.

        `PATCH /user_meeting_limits`. Scope: `availability:write`.

        Example:
            found = await calendly.user_meeting_limits.update(user="USER", daily_limit=8)

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "update-user-meeting-limits",
            MeetingLimitsDocument,
            {"user": user},
            {
                "daily_limit": nullable(daily_limit),
                "weekly_limit": nullable(weekly_limit),
                "monthly_limit": nullable(monthly_limit),
            },
        )
