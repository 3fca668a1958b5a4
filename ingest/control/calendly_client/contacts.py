"""Contacts of the token's user. Need the scope `contacts:read`.

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


class ContactResource(RawResource):
    """A contact; `raw` is the payload of `contact.created` and `contact.updated`, and has `app_url` besides."""

    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


def documents(
    calendly: CalendlyTransport, _organization: OrganizationUri, _user: str | None = None
) -> AsyncIterator[tuple[Any, ...]]:
    """List contacts, the last changed first, a page at a time and each as it came.

    Raises:
        CalendlyError: see `pages.documents`.
    """
    return pages.documents(calendly, "/contacts", doing="listing contacts", query={"sort": "updated_at:desc"})


async def get(calendly: CalendlyTransport, uri: str) -> ContactResource:
    """Read one contact.

    Raises:
        CalendlyError: `not_found` if it is gone; see `CalendlyProblem`.
    """
    path = path_to("contacts", uri)
    return (await calendly.get(path, ResourceAnswer[ContactResource], doing="reading a contact")).resource
