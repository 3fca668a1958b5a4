"""Typed calls of `/outgoing_communications`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import OutgoingCommunicationDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class OutgoingCommunicationsCalls(ResourceCalls):
    """Calls of `/outgoing_communications`."""

    def list(
        self,
        *,
        organization: str,
        min_created_at: str | datetime | None = None,
        max_created_at: str | datetime | None = None,
    ) -> AsyncIterator[OutgoingCommunicationDocument]:
        """List outgoing communications.

        `GET /outgoing_communications`. Scope: `outgoing_communications:read`. Plan: enterprise.

        Example:
            async for found in calendly.outgoing_communications.list(organization="ORG"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "get-outgoing-communications",
            OutgoingCommunicationDocument,
            {"organization": organization, "min_created_at": min_created_at, "max_created_at": max_created_at},
        )
