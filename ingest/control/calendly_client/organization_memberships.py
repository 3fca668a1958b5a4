"""Memberships: the users of an organization and their roles. Needs the scope `organizations:read`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import BaseModel, ConfigDict

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import Resource, Uri
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.schemas.ids import OrganizationUri

ADMINISTRATORS = frozenset({"owner", "admin"})
"""The roles that may subscribe a whole organization (docs/reference/calendly.md, "Webhook subscriptions")."""


class MembershipUser(BaseModel):
    """The user of a membership; name and mail address are not read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Uri


class MembershipResource(Resource):
    """A user's place in an organization."""

    role: str
    """`owner`, `admin` or `user`; any other value counts as the least."""
    user: MembershipUser
    organization: OrganizationUri

    @property
    def administers(self) -> bool:
        """Whether the user may act for the whole organization."""
        return self.role in ADMINISTRATORS


async def every(
    calendly: CalendlyTransport, *, organization: OrganizationUri | None = None, user: str | None = None
) -> AsyncIterator[MembershipResource]:
    """List the memberships of an organization, of a user, or of both; a plain member sees only their own.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"organization": organization, "user": user}
    doing = "listing the organization's members"
    async for item in pages.every(
        calendly, "/organization_memberships", pages.ResourcePage[MembershipResource], doing=doing, query=query
    ):
        yield item


async def find(calendly: CalendlyTransport, *, organization: OrganizationUri, user: str) -> MembershipResource | None:
    """Find a user's membership of an organization, which has the role; None if there is none.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    async for item in every(calendly, organization=organization, user=user):
        # Compared, because an ignored filter would return another user's role.
        if item.user.uri == user and item.organization == organization:
            return item
    return None
