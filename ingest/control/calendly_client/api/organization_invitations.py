"""Typed calls of `/organizations`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import OrganizationInvitationDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class OrganizationInvitationsCalls(ResourceCalls):
    """Calls of `/organizations`."""

    async def revoke(self, org_uuid: str, uuid: str) -> None:
        """Take an invitation back.

        `DELETE /organizations/{org_uuid}/invitations/{uuid}`. Scope: `organizations:write`.

        Example:
            await calendly.organization_invitations.revoke(org_uuid="ORG", uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("revoke-organization-invitation", {"org_uuid": org_uuid, "uuid": uuid})

    async def get(self, org_uuid: str, uuid: str) -> OrganizationInvitationDocument:
        """Read an organization invitation.

        `GET /organizations/{org_uuid}/invitations/{uuid}`. Scope: `organizations:read`.

        Example:
            found = await calendly.organization_invitations.get(org_uuid="ORG", uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "get-organization-invitation", OrganizationInvitationDocument, {"org_uuid": org_uuid, "uuid": uuid}
        )

    def list(
        self, uuid: str, *, sort: str | None = None, email: str | None = None, status: str | None = None
    ) -> AsyncIterator[OrganizationInvitationDocument]:
        """List organization invitations.

        `GET /organizations/{uuid}/invitations`. Scope: `organizations:read`.

        Example:
            async for found in calendly.organization_invitations.list(uuid="ID"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-organization-invitations",
            OrganizationInvitationDocument,
            {"uuid": uuid, "sort": sort, "email": email, "status": status},
        )

    async def create(self, uuid: str, *, email: str) -> OrganizationInvitationDocument:
        """Create an organization invitation.

        `POST /organizations/{uuid}/invitations`. Scope: `organizations:write`.

        Example:
            found = await calendly.organization_invitations.create(uuid="ID", email="ada@example.com")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-organization-invitation", OrganizationInvitationDocument, {"uuid": uuid, "email": email}
        )
