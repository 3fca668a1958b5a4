"""Scheduled events: booked meetings. Need the scope `scheduled_events:read`.

Source: docs/reference/calendly.md, "REST", scheduled events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import AwareDatetime

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri

Status: TypeAlias = Literal["active", "canceled"]


class ScheduledEventResource(RawResource):
    """A booked meeting; `raw` has the rest."""

    status: str
    """`active` or `canceled`; in a group event one invitee's cancellation leaves it `active`."""
    start_time: AwareDatetime
    end_time: AwareDatetime | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduledEventQuery:
    """Which scheduled events to list. Calendly filters by start time only, never by change.

    Attributes:
        organization: whose; all of them for an owner or admin. Without it Calendly would give a user's
            events of every organization they ever were in, and no event says whose it is.
        user: the host's URI, of the events of one host.
        group: the URI of a group, of the events of its hosts.
        status: one of them; None for both.
        start_from: starting then or later.
        start_to: starting then or earlier.
        latest_first: by falling start time.
    """

    organization: OrganizationUri
    user: str | None = None
    group: str | None = None
    status: Status | None = None
    start_from: datetime | None = None
    start_to: datetime | None = None
    latest_first: bool = False


async def every(calendly: CalendlyTransport, wanted: ScheduledEventQuery) -> AsyncIterator[ScheduledEventResource]:
    """List scheduled events by start time, canceled ones too unless a status is named.

    Raises:
        CalendlyError: `permission` for events of others without owner's or admin's rights; see `CalendlyProblem`.
    """
    query = {
        "organization": wanted.organization,
        "user": wanted.user,
        "group": wanted.group,
        "status": wanted.status,
        "min_start_time": pages.moment(wanted.start_from),
        "max_start_time": pages.moment(wanted.start_to),
        "sort": "start_time:desc" if wanted.latest_first else "start_time:asc",
    }
    doing = "listing scheduled events"
    async for item in pages.every(
        calendly, "/scheduled_events", pages.ResourcePage[ScheduledEventResource], doing=doing, query=query
    ):
        yield item


async def get(calendly: CalendlyTransport, uri: str) -> ScheduledEventResource:
    """Read one scheduled event.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("scheduled_events", uri)
    return (
        await calendly.get(path, ResourceAnswer[ScheduledEventResource], doing="reading a scheduled event")
    ).resource
