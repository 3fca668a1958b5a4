"""Scheduled events: booked meetings. Need the scope `scheduled_events:read`.

Source: docs/reference/calendly.md, "REST", scheduled events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import AwareDatetime

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri

Status: TypeAlias = Literal["active", "canceled"]
_PATH, _DOING = "/scheduled_events", "listing scheduled events"


class ScheduledEventResource(RawResource):
    """A booked meeting; `raw` has all fields."""

    status: str
    """`active` or `canceled`; in a group event, one invitee's cancellation leaves it `active`."""
    start_time: AwareDatetime
    end_time: AwareDatetime | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduledEventQuery:
    """Which scheduled events to list. Calendly filters by start time, not by the time of a change.

    Attributes:
        organization: lists events of this one; all of them for an owner or admin. Required, because otherwise
            Calendly lists a user's events of every organization they were ever in, and no event names its own.
        user: a host's URI; lists the events of this host.
        group: a group's URI; lists the events of its hosts.
        status: lists only this one; None for both.
        start_from: starting then or later.
        start_to: starting then or earlier.
        latest_first: by descending start time.
        invitee_email: lists events that somebody with this address is in.
    """

    organization: OrganizationUri
    user: str | None = None
    group: str | None = None
    status: Status | None = None
    start_from: datetime | None = None
    start_to: datetime | None = None
    latest_first: bool = False
    invitee_email: str | None = None


async def every(calendly: CalendlyTransport, chosen: ScheduledEventQuery) -> AsyncIterator[ScheduledEventResource]:
    """List scheduled events by start time, canceled ones too unless a status is given.

    Raises:
        CalendlyError: `permission` for others' events without the rights of an owner or admin; see `CalendlyProblem`.
    """
    async for item in pages.every(
        calendly, _PATH, pages.ResourcePage[ScheduledEventResource], doing=_DOING, query=_query(chosen)
    ):
        yield item


def documents(calendly: CalendlyTransport, chosen: ScheduledEventQuery) -> AsyncIterator[tuple[Any, ...]]:
    """List scheduled events as `every` does, a page at a time and each as it came.

    Raises:
        CalendlyError: as `every`; `PageRefused`, see `pages.documents`.
    """
    return pages.documents(calendly, _PATH, doing=_DOING, query=_query(chosen))


def _query(chosen: ScheduledEventQuery) -> dict[str, str | None]:
    return {
        "organization": chosen.organization,
        "user": chosen.user,
        "group": chosen.group,
        "status": chosen.status,
        "min_start_time": pages.moment(chosen.start_from),
        "max_start_time": pages.moment(chosen.start_to),
        "invitee_email": chosen.invitee_email,
        "sort": "start_time:desc" if chosen.latest_first else "start_time:asc",
    }


async def get(calendly: CalendlyTransport, uri: str) -> ScheduledEventResource:
    """Read one scheduled event.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("scheduled_events", uri)
    return (
        await calendly.get(path, ResourceAnswer[ScheduledEventResource], doing="reading a scheduled event")
    ).resource
