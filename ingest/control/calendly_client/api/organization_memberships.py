"""Typed calls of `/organization_memberships`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import OrganizationMembershipDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class OrganizationMembershipsCalls(ResourceCalls):
    """Calls of `/organization_memberships`."""

    def list(
        self,
        *,
        email: str | None = None,
        organization: str | None = None,
        user: str | None = None,
        role: str | None = None,
    ) -> AsyncIterator[OrganizationMembershipDocument]:
        """List organization memberships.

        `GET /organization_memberships`. Scope: `organizations:read`.

        Example:
            async for found in calendly.organization_memberships.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-organization-memberships",
            OrganizationMembershipDocument,
            {"email": email, "organization": organization, "user": user, "role": role},
        )

    async def delete(self, uuid: str) -> None:
        """Delete an organization membership.

        `DELETE /organization_memberships/{uuid}`. Scope: `organizations:write`.

        Example:
            await calendly.organization_memberships.delete(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-organization-membership", {"uuid": uuid})

    async def get(self, uuid: str) -> OrganizationMembershipDocument:
        """Read an organization membership.

        `GET /organization_memberships/{uuid}`. Scope: `organizations:read`.

        Example:
            found = await calendly.organization_memberships.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-organization-membership", OrganizationMembershipDocument, {"uuid": uuid})
