"""Routing forms of an organization. Need the scope `routing_forms:read`, from an owner or admin."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import Answer, Resource, path_to
from slotwire.ingest.control.calendly_client.transport import Transport
from slotwire.schemas.ids import OrganizationUri


class RoutingForm(Resource):
    """A form, published or not."""

    organization: OrganizationUri | None = None
    status: str | None = None


async def every(calendly: Transport, organization: OrganizationUri) -> AsyncIterator[RoutingForm]:
    """List an organization's forms.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"organization": organization}
    doing = "listing routing forms"
    async for item in pages.every(calendly, "/routing_forms", pages.Page[RoutingForm], doing=doing, query=query):
        yield item


async def get(calendly: Transport, uri: str) -> RoutingForm:
    """Read one form.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("routing_forms", uri)
    return (await calendly.get(path, Answer[RoutingForm], doing="reading a routing form")).resource
