"""Users: whose token this is."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.control.calendly_client.resources import Resource, ResourceAnswer
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri


class UserResource(Resource):
    """The user a token acts as; name and mail address are not read."""

    current_organization: OrganizationUri = Field(min_length=1, max_length=2000)


async def me(calendly: CalendlyTransport) -> UserResource:
    """Read the token's user, which has the current organization. Needs the scope `users:read`.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    return (await calendly.get("/users/me", ResourceAnswer[UserResource], doing="asking whose token this is")).resource
