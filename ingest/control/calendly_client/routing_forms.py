"""Routing forms of an organization. Need the scope `routing_forms:read`, from an owner or admin."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import Resource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri


class RoutingFormResource(Resource):
    """A form, published or not."""

    organization: OrganizationUri | None = None
    status: str | None = None


async def every(calendly: CalendlyTransport, organization: OrganizationUri) -> AsyncIterator[RoutingFormResource]:
    """List an organization's forms.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"organization": organization}
    doing = "listing routing forms"
    async for item in pages.every(
        calendly, "/routing_forms", pages.ResourcePage[RoutingFormResource], doing=doing, query=query
    ):
        yield item


async def get(calendly: CalendlyTransport, uri: str) -> RoutingFormResource:
    """Read one form.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("routing_forms", uri)
    return (await calendly.get(path, ResourceAnswer[RoutingFormResource], doing="reading a routing form")).resource
