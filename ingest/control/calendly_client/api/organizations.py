"""Typed calls of `/organizations`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import OrganizationDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class OrganizationsCalls(ResourceCalls):
    """Calls of `/organizations`."""

    async def get(self, uuid: str) -> OrganizationDocument:
        """Read an organization.

        `GET /organizations/{uuid}`. Scope: `organizations:read`.

        Example:
            found = await calendly.organizations.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-organization", OrganizationDocument, {"uuid": uuid})
