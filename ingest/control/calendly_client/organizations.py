"""Organizations: the tenants."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.resources import Answer, Resource, path_to
from slotwire.ingest.control.calendly_client.transport import Transport
from slotwire.schemas.ids import OrganizationUri


class Organization(Resource):
    """An organization. `plan` and `stage` are for showing: only a refusal says what a plan lacks."""

    name: str | None = None
    plan: str | None = None
    stage: str | None = None


async def get(calendly: Transport, uri: OrganizationUri) -> Organization:
    """Read an organization, which needs the scope `organizations:read`.

    Raises:
        CalendlyError: `permission` or `not_found` when it is not the token's own; see `CalendlyProblem`.
    """
    path = path_to("organizations", uri)
    return (await calendly.get(path, Answer[Organization], doing="reading the organization")).resource
