"""Typed calls of `/meeting_recaps`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import MeetingRecapDocument
from slotwire.ingest.control.calendly_client.typed import UNSET, ResourceCalls, Unset, nullable


class MeetingRecapsCalls(ResourceCalls):
    """Calls of `/meeting_recaps`."""

    def list(
        self,
        *,
        event: str | None = None,
        start_time: str | datetime | None = None,
        end_time: str | datetime | None = None,
        status: str | None = None,
        attendee: str | None = None,
    ) -> AsyncIterator[MeetingRecapDocument]:
        """List meeting recaps.

        `GET /meeting_recaps`. Scope: `meeting_recaps:read`. Plan: paid.

        Example:
            async for found in calendly.meeting_recaps.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-meeting-recaps",
            MeetingRecapDocument,
            {"event": event, "start_time": start_time, "end_time": end_time, "status": status, "attendee": attendee},
        )

    async def delete(self, uuid: str) -> None:
        """Delete a meeting recap.

        `DELETE /meeting_recaps/{uuid}`. Scope: `meeting_recaps:write`. Plan: paid.

        Example:
            await calendly.meeting_recaps.delete(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-meeting-recaps-uuid", {"uuid": uuid})

    async def get(self, uuid: str) -> MeetingRecapDocument:
        """Read a meeting recap.

        `GET /meeting_recaps/{uuid}`. Scope: `meeting_recaps:read`. Plan: paid.

        Example:
            found = await calendly.meeting_recaps.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-meeting-recaps-uuid-recap", MeetingRecapDocument, {"uuid": uuid})

    async def update(
        self,
        uuid: str,
        *,
        summary_md: str | Unset | None = UNSET,
        action_items_md: str | Unset | None = UNSET,
        discussion_md: str | Unset | None = UNSET,
    ) -> MeetingRecapDocument:
        """Change a meeting recap.

        `PATCH /meeting_recaps/{uuid}`. Scope: `meeting_recaps:write`. Plan: paid.

        Example:
            found = await calendly.meeting_recaps.update(uuid="ID", summary_md="They agreed.")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "update-meeting-recaps-uuid",
            MeetingRecapDocument,
            {"uuid": uuid},
            {
                "summary_md": nullable(summary_md),
                "action_items_md": nullable(action_items_md),
                "discussion_md": nullable(discussion_md),
            },
        )

    async def transcript(self, uuid: str) -> str:
        """Read what was said, as a plain text.

        `GET /meeting_recaps/{uuid}/transcript`. Scope: `meeting_recaps:read`. Plan: paid.

        Example:
            found = await calendly.meeting_recaps.transcript(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._text("get-transcript-meeting-recaps", {"uuid": uuid})
