"""Typed calls of `/event_type_available_times`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from slotwire.ingest.control.calendly_client.documents import (
    AvailableTimeDocument,
    EventTypeDocument,
    EventTypeMembershipDocument,
)
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

EventTypeLocations = TypedDict(
    "EventTypeLocations",
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
    },
)


class EventTypesCalls(ResourceCalls):
    """Calls of `/event_type_available_times`."""

    async def available_times(
        self, *, event_type: str, start_time: str | datetime, end_time: str | datetime
    ) -> tuple[AvailableTimeDocument, ...]:
        """List when an event type can be booked, over at most 31 days.

        `GET /event_type_available_times`. Scope: `availability:read`.

        Example:
            found = await calendly.event_types.available_times(
                event_type="EVENT_TYPE",
                start_time="2026-12-01T09:00:00Z",
                end_time="2026-12-02T09:00:00Z",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all(
            "list-event-type-available-times",
            AvailableTimeDocument,
            {"event_type": event_type, "start_time": start_time, "end_time": end_time},
        )

    def memberships(self, *, event_type: str) -> AsyncIterator[EventTypeMembershipDocument]:
        """List the hosts of an event type.

        `GET /event_type_memberships`. Scope: `event_types:read`.

        Example:
            async for found in calendly.event_types.memberships(event_type="EVENT_TYPE"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("list-event-type-memberships", EventTypeMembershipDocument, {"event_type": event_type})

    def list(
        self,
        *,
        active: bool | None = None,
        organization: str | None = None,
        user: str | None = None,
        user_availability_schedule: str | None = None,
        sort: str | None = None,
        admin_managed: bool | None = None,
    ) -> AsyncIterator[EventTypeDocument]:
        """List event types.

        `GET /event_types`. Scope: `event_types:read`.

        Example:
            async for found in calendly.event_types.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-event-types",
            EventTypeDocument,
            {
                "active": active,
                "organization": organization,
                "user": user,
                "user_availability_schedule": user_availability_schedule,
                "sort": sort,
                "admin_managed": admin_managed,
            },
        )

    async def create(
        self,
        *,
        owner: str,
        name: str,
        active: bool | None = None,
        description: str | None = None,
        duration: int | None = None,
        duration_options: Sequence[int] | None = None,
        locations: Sequence[EventTypeLocations] | None = None,
        color: str | None = None,
        locale: Literal["de", "en", "es", "fr", "it", "nl", "pt", "uk"] | None = None,
    ) -> EventTypeDocument:
        """Create an event type.

        `POST /event_types`. Scope: `event_types:write`.

        Example:
            found = await calendly.event_types.create(owner="https://api.calendly.com/users/USER", name="Demo")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-event-type",
            EventTypeDocument,
            {},
            {
                "owner": owner,
                "name": name,
                "active": active,
                "description": description,
                "duration": duration,
                "duration_options": duration_options,
                "locations": locations,
                "color": color,
                "locale": locale,
            },
        )

    async def get(self, uuid: str) -> EventTypeDocument:
        """Read an event type.

        `GET /event_types/{uuid}`. Scope: `event_types:read`.

        Example:
            found = await calendly.event_types.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-event-type", EventTypeDocument, {"uuid": uuid})

    async def update(
        self,
        uuid: str,
        *,
        active: bool | None = None,
        name: str | None = None,
        color: str | None = None,
        description: str | None = None,
        duration: int | None = None,
        duration_options: Sequence[int] | None = None,
        locale: Literal["de", "en", "es", "fr", "it", "nl", "pt", "uk"] | None = None,
        locations: Sequence[EventTypeLocations] | None = None,
    ) -> EventTypeDocument:
        """Change an event type.

        `PATCH /event_types/{uuid}`. Scope: `event_types:write`.

        Example:
            found = await calendly.event_types.update(uuid="ID", name="Demo")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "update-event-type",
            EventTypeDocument,
            {"uuid": uuid},
            {
                "active": active,
                "name": name,
                "color": color,
                "description": description,
                "duration": duration,
                "duration_options": duration_options,
                "locale": locale,
                "locations": locations,
            },
        )

    async def create_one_off(
        self,
        *,
        name: str,
        host: str,
        duration: float,
        date_setting: object,
        co_hosts: Sequence[str] | None = None,
        timezone: str | None = None,
        location: object | None = None,
    ) -> EventTypeDocument:
        """Create an event type for one meeting.

        `POST /one_off_event_types`. Scope: `event_types:write`.

        Example:
            found = await calendly.event_types.create_one_off(
                name="Ada Lovelace",
                host="https://api.calendly.com/users/USER",
                duration=30,
                date_setting={"type": "date_range", "start_date": "2026-12-01", "end_date": "2026-12-02"},
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-one-off-event-type",
            EventTypeDocument,
            {},
            {
                "name": name,
                "host": host,
                "duration": duration,
                "date_setting": date_setting,
                "co_hosts": co_hosts,
                "timezone": timezone,
                "location": location,
            },
        )
