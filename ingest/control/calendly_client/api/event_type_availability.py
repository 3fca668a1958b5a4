"""Typed calls of `/event_type_availability_schedules`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

from slotwire.ingest.control.calendly_client.documents import AvailabilityScheduleDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

EventTypeAvailabilityIntervals = TypedDict(
    "EventTypeAvailabilityIntervals", {"from": NotRequired[str], "to": NotRequired[str]}
)
EventTypeAvailabilityRules = TypedDict(
    "EventTypeAvailabilityRules",
    {
        "type": Literal["wday", "date"],
        "intervals": Sequence[EventTypeAvailabilityIntervals],
        "wday": NotRequired[Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]],
        "date": NotRequired[str],
    },
)
EventTypeAvailabilityAvailabilityRule = TypedDict(
    "EventTypeAvailabilityAvailabilityRule",
    {"timezone": str, "rules": NotRequired[Sequence[EventTypeAvailabilityRules]], "user": NotRequired[str]},
)


class EventTypeAvailabilityCalls(ResourceCalls):
    """Calls of `/event_type_availability_schedules`."""

    async def list(self, *, event_type: str) -> tuple[AvailabilityScheduleDocument, ...]:
        """List when an event type can be booked.

        `GET /event_type_availability_schedules`. Scope: `availability:read`.

        Example:
            found = await calendly.event_type_availability.list(event_type="EVENT_TYPE")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("get-event-type-availability", AvailabilityScheduleDocument, {"event_type": event_type})

    async def update(
        self,
        *,
        event_type: str,
        availability_rule: EventTypeAvailabilityAvailabilityRule,
        availability_setting: Literal["host"] | None = None,
    ) -> AvailabilityScheduleDocument:
        """Change when an event type can be booked.

        `PATCH /event_type_availability_schedules`. Scope: `availability:write`.

        Example:
            found = await calendly.event_type_availability.update(
                event_type="EVENT_TYPE",
                availability_rule={"timezone": "Europe/London", "rules": []},
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "update-event-type-availability",
            AvailabilityScheduleDocument,
            {"event_type": event_type},
            {"availability_rule": availability_rule, "availability_setting": availability_setting},
        )
