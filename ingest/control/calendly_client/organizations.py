"""Organizations: the tenants."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.resources import Resource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri


class OrganizationResource(Resource):
    """An organization. `plan` and `stage` are informative: only a refusal shows what a plan lacks."""

    name: str | None = None
    plan: str | None = None
    stage: str | None = None


async def get(calendly: CalendlyTransport, uri: OrganizationUri) -> OrganizationResource:
    """Read an organization, which needs the scope `organizations:read`.

    Raises:
        CalendlyError: `permission` or `not_found` if it is not the token's own; see `CalendlyProblem`.
    """
    path = path_to("organizations", uri)
    return (await calendly.get(path, ResourceAnswer[OrganizationResource], doing="reading the organization")).resource
