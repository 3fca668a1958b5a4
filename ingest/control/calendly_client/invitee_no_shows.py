"""No-show marks of invitees: create, read, delete. They cannot be listed.

Creating and deleting need the scope `scheduled_events:write` (docs/reference/calendly.md, "REST").
"""

from __future__ import annotations

from pydantic import AwareDatetime

from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, Uri, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem


class NoShowResource(RawResource):
    """A no-show mark."""

    invitee: Uri | None = None
    created_at: AwareDatetime | None = None


async def create(calendly: CalendlyTransport, invitee: str) -> NoShowResource:
    """Mark an invitee as a no-show.

    Args:
        calendly: the transport of a token.
        invitee: the invitee's URI.

    Raises:
        CalendlyError: see `CalendlyProblem`. After `unreachable`, `upstream`, `conflict` and `unexpected` the mark may
            exist: read the invitee.
    """
    made = await calendly.post(
        "/invitee_no_shows", {"invitee": invitee}, ResourceAnswer[NoShowResource], doing="marking a no-show"
    )
    return made.resource


async def get(calendly: CalendlyTransport, uri: str) -> NoShowResource:
    """Read a mark.

    Raises:
        CalendlyError: `not_found` if it was deleted; see `CalendlyProblem`.
    """
    path = path_to("invitee_no_shows", uri)
    return (await calendly.get(path, ResourceAnswer[NoShowResource], doing="reading a no-show")).resource


async def delete(calendly: CalendlyTransport, uri: str) -> None:
    """Delete a mark; one that is already gone counts as deleted.

    Args:
        calendly: the transport of a token.
        uri: the mark's own URI, not the invitee's.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    try:
        await calendly.delete(path_to("invitee_no_shows", uri), doing="clearing a no-show")
    except CalendlyError as error:
        if error.problem is not CalendlyProblem.NOT_FOUND:
            raise
