"""Invitees: people's places in scheduled events. Need the scope `scheduled_events:read`.

There is no list across events: each event needs a call of its own (docs/reference/calendly.md, "REST").
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, Uri, path_to
from slotwire.ingest.control.calendly_client.scheduled_events import Status
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport

_SORT, _DOING = "created_at:asc", "listing a scheduled event's invitees"


class NoShowReference(BaseModel):
    """The no-show mark in an invitee. Marks cannot be listed, only read here or by their own URI."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Uri
    created_at: AwareDatetime | None = None


class InviteeResource(RawResource):
    """An invitee; `raw` has all fields, without the scheduled event that webhooks include."""

    event: Uri
    status: str
    """`active` or `canceled`."""
    no_show: NoShowReference | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    """Does not change when a no-show is marked or cleared."""


async def every(
    calendly: CalendlyTransport, event: str, *, status: Status | None = None, email: str | None = None
) -> AsyncIterator[InviteeResource]:
    """List a scheduled event's invitees by creation time, canceled ones too unless a status is given.

    Args:
        calendly: the transport of a token.
        event: the scheduled event's URI.
        status: lists only this one; None for both.
        email: lists only invitees with this address; None for all.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"status": status, "email": email, "sort": _SORT}
    async for item in pages.every(
        calendly, _path(event), pages.ResourcePage[InviteeResource], doing=_DOING, query=query
    ):
        yield item


def documents(calendly: CalendlyTransport, event: str) -> AsyncIterator[tuple[Any, ...]]:
    """List a scheduled event's invitees as `every` does, a page at a time and each as it came.

    Raises:
        CalendlyError: see `pages.documents`.
    """
    return pages.documents(calendly, _path(event), doing=_DOING, query={"sort": _SORT})


def _path(event: str) -> str:
    return f"{path_to('scheduled_events', event)}/invitees"


async def get(calendly: CalendlyTransport, uri: str) -> InviteeResource:
    """Read one invitee.

    Args:
        calendly: the transport of a token.
        uri: the invitee's whole URI, which contains the scheduled event.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("scheduled_events", uri, "invitees")
    return (await calendly.get(path, ResourceAnswer[InviteeResource], doing="reading an invitee")).resource
