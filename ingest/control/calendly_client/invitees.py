"""Invitees: people's places in scheduled events. Need the scope `scheduled_events:read`.

There is no list across events: one call an event (docs/reference/calendly.md, "REST").
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from pydantic import AwareDatetime, BaseModel, ConfigDict

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, Uri, path_to
from slotwire.ingest.control.calendly_client.scheduled_events import Status
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.schemas.ids import last_segment


class NoShowReference(BaseModel):
    """That an invitee did not come. It cannot be listed, only read here or by its own URI."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Uri
    created_at: AwareDatetime | None = None


class InviteeResource(RawResource):
    """An invitee; `raw` has the rest, without the scheduled event that a webhook puts beside it."""

    event: Uri
    status: str
    """`active` or `canceled`."""
    no_show: NoShowReference | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    """Does not move when a no-show is marked or cleared."""


async def every(
    calendly: CalendlyTransport, event: str, *, status: Status | None = None
) -> AsyncIterator[InviteeResource]:
    """List a scheduled event's invitees in the order they were made, canceled ones too unless a status is named.

    Args:
        calendly: a token's connections.
        event: the scheduled event's URI.
        status: one of them; None for both.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = f"{path_to('scheduled_events', event)}/invitees"
    query = {"status": status, "sort": "created_at:asc"}
    doing = "listing a scheduled event's invitees"
    async for item in pages.every(calendly, path, pages.ResourcePage[InviteeResource], doing=doing, query=query):
        yield item


async def get(calendly: CalendlyTransport, uri: str) -> InviteeResource:
    """Read one invitee.

    Args:
        calendly: a token's connections.
        uri: the invitee's whole URI: it names the scheduled event too.

    Raises:
        CalendlyError: `not_found` also when the URI is not an invitee's; see `CalendlyProblem`.
    """
    doing = "reading an invitee"
    event, found, invitee = uri.rstrip("/").rpartition("/invitees/")
    if not found:
        raise CalendlyError(
            f"{doing}: this is not the address of an invitee",
            problem=CalendlyProblem.NOT_FOUND,
            remedy="It looks like https://api.calendly.com/scheduled_events/…/invitees/….",
        )
    path = f"{path_to('scheduled_events', event)}/invitees/{quote(last_segment(invitee), safe='')}"
    return (await calendly.get(path, ResourceAnswer[InviteeResource], doing=doing)).resource
