"""Event types: what can be booked. Need the scope `event_types:read`.

Source: docs/reference/calendly.md, "REST".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic import AwareDatetime

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri


class EventTypeResource(RawResource):
    """An event type; `raw` is the payload of `event_type.created` and `event_type.updated`."""

    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    deleted_at: AwareDatetime | None = None


def documents(
    calendly: CalendlyTransport, organization: OrganizationUri, user: str | None = None
) -> AsyncIterator[tuple[Any, ...]]:
    """List an organization's event types or a user's, the last changed first, a page at a time and each as it came.

    Raises:
        CalendlyError: see `pages.documents`.
    """
    query = {"organization": organization, "user": user, "sort": "updated_at:desc"}
    return pages.documents(calendly, "/event_types", doing="listing event types", query=query)


async def get(calendly: CalendlyTransport, uri: str) -> EventTypeResource:
    """Read one event type.

    Raises:
        CalendlyError: `not_found` if it is gone; see `CalendlyProblem`.
    """
    path = path_to("event_types", uri)
    return (await calendly.get(path, ResourceAnswer[EventTypeResource], doing="reading an event type")).resource
