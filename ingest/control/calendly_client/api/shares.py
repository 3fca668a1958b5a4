"""Typed calls of `/shares`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal, NotRequired, TypedDict

from slotwire.ingest.control.calendly_client.documents import ShareDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

ShareLocationConfigurations = TypedDict(
    "ShareLocationConfigurations",
    {
        "kind": NotRequired[
            Literal[
                "ask_invitee",
                "custom",
                "google_conference",
                "gotomeeting_conference",
                "inbound_call",
                "microsoft_teams_conference",
                "outbound_call",
                "physical",
                "webex_conference",
                "zoom_conference",
            ]
        ],
        "location": NotRequired[str],
        "additional_info": NotRequired[str],
        "phone_number": NotRequired[str],
        "position": NotRequired[int],
    },
)
ShareIntervals = TypedDict("ShareIntervals", {"from": NotRequired[str], "to": NotRequired[str]})
ShareRules = TypedDict(
    "ShareRules",
    {
        "type": NotRequired[Literal["wday", "date"]],
        "wday": NotRequired[Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]],
        "date": NotRequired[str | date],
        "intervals": NotRequired[Sequence[ShareIntervals]],
    },
)
ShareAvailabilityRule = TypedDict(
    "ShareAvailabilityRule", {"timezone": NotRequired[str], "rules": NotRequired[Sequence[ShareRules]]}
)


class SharesCalls(ResourceCalls):
    """Calls of `/shares`."""

    async def create(
        self,
        *,
        event_type: str,
        name: str | None = None,
        duration: int | None = None,
        duration_options: Sequence[int] | None = None,
        period_type: Literal["available_moving", "moving", "fixed", "unlimited"] | None = None,
        start_date: str | date | None = None,
        end_date: str | date | None = None,
        max_booking_time: int | None = None,
        hide_location: bool | None = None,
        location_configurations: Sequence[ShareLocationConfigurations] | None = None,
        availability_rule: ShareAvailabilityRule | None = None,
    ) -> ShareDocument:
        """Make a link to an event type with settings of its own.

        `POST /shares`. Scope: `shares:write`.

        Example:
            found = await calendly.shares.create(event_type="EVENT_TYPE")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-share",
            ShareDocument,
            {},
            {
                "event_type": event_type,
                "name": name,
                "duration": duration,
                "duration_options": duration_options,
                "period_type": period_type,
                "start_date": start_date,
                "end_date": end_date,
                "max_booking_time": max_booking_time,
                "hide_location": hide_location,
                "location_configurations": location_configurations,
                "availability_rule": availability_rule,
            },
        )
