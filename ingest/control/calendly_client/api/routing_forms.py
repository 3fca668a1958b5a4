"""Typed calls of `/routing_forms`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import RoutingFormDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class RoutingFormsCalls(ResourceCalls):
    """Calls of `/routing_forms`."""

    def list(self, *, organization: str, sort: str | None = None) -> AsyncIterator[RoutingFormDocument]:
        """List routing forms.

        `GET /routing_forms`. Scope: `routing_forms:read`. Plan: teams.

        Example:
            async for found in calendly.routing_forms.list(organization="ORG"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("list-routing-forms", RoutingFormDocument, {"organization": organization, "sort": sort})

    async def get(self, uuid: str) -> RoutingFormDocument:
        """Read a routing form.

        `GET /routing_forms/{uuid}`. Scope: `routing_forms:read`. Plan: teams.

        Example:
            found = await calendly.routing_forms.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-routing-form", RoutingFormDocument, {"uuid": uuid})
