"""Typed calls of `/groups`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import GroupDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class GroupsCalls(ResourceCalls):
    """Calls of `/groups`."""

    def list(self, *, organization: str) -> AsyncIterator[GroupDocument]:
        """List groups.

        `GET /groups`. Scope: `groups:read`.

        Example:
            async for found in calendly.groups.list(organization="ORG"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("get-groups", GroupDocument, {"organization": organization})

    async def get(self, uuid: str) -> GroupDocument:
        """Read a group.

        `GET /groups/{uuid}`. Scope: `groups:read`.

        Example:
            found = await calendly.groups.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-group", GroupDocument, {"uuid": uuid})
