"""Meeting recaps of the token's user. Need the scope `meeting_recaps:read`, and a paid plan.

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


class MeetingRecapResource(RawResource):
    """A recap; `raw` is the payload of `meeting_recap.created` and `meeting_recap.updated`."""

    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


def documents(
    calendly: CalendlyTransport, _organization: OrganizationUri, _user: str | None = None
) -> AsyncIterator[tuple[Any, ...]]:
    """List recaps, a page at a time and each as it came. Calendly documents no order for them.

    Raises:
        CalendlyError: `plan` where the plan has none; see `pages.documents`.
    """
    return pages.documents(calendly, "/meeting_recaps", doing="listing meeting recaps", query={})


async def get(calendly: CalendlyTransport, uri: str) -> MeetingRecapResource:
    """Read one recap.

    Raises:
        CalendlyError: `not_found` if it is gone; see `CalendlyProblem`.
    """
    path = path_to("meeting_recaps", uri)
    return (await calendly.get(path, ResourceAnswer[MeetingRecapResource], doing="reading a meeting recap")).resource
