"""Typed calls of `/group_relationships`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import GroupRelationshipDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class GroupRelationshipsCalls(ResourceCalls):
    """Calls of `/group_relationships`."""

    def list(
        self, *, organization: str | None = None, owner: str | None = None, group: str | None = None
    ) -> AsyncIterator[GroupRelationshipDocument]:
        """List group relationships.

        `GET /group_relationships`. Scope: `groups:read`.

        Example:
            async for found in calendly.group_relationships.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-group-relationships",
            GroupRelationshipDocument,
            {"organization": organization, "owner": owner, "group": group},
        )

    async def get(self, uuid: str) -> GroupRelationshipDocument:
        """Read a group relationship.

        `GET /group_relationships/{uuid}`. Scope: `groups:read`.

        Example:
            found = await calendly.group_relationships.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-group-relationship", GroupRelationshipDocument, {"uuid": uuid})
