"""Users: whose token this is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ingest.control.calendly_client.transport import Transport
from schemas.ids import OrganizationUri


class User(BaseModel):
    """The user a token acts as. Name and mail address are left where they are."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: str = Field(min_length=1, max_length=2000)
    current_organization: OrganizationUri = Field(min_length=1, max_length=2000)


class _Answer(BaseModel):
    resource: User


async def me(calendly: Transport) -> User:
    """Read the user behind the token, and so the organization.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    answer = await calendly.get("/users/me", _Answer, doing="asking whose token this is")
    return answer.resource
