"""Typed calls of `/activity_log_entries`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import ActivityLogEntryDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class ActivityLogCalls(ResourceCalls):
    """Calls of `/activity_log_entries`."""

    def list(
        self,
        *,
        organization: str,
        search_term: str | None = None,
        actor: Sequence[str] | None = None,
        sort: Sequence[str] | None = None,
        min_occurred_at: str | datetime | None = None,
        max_occurred_at: str | datetime | None = None,
        namespace: Sequence[str] | None = None,
        action: Sequence[str] | None = None,
    ) -> AsyncIterator[ActivityLogEntryDocument]:
        """List entries of the activity log.

        `GET /activity_log_entries`. Scope: `activity_log:read`. Plan: enterprise.

        Example:
            async for found in calendly.activity_log.list(organization="ORG"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-activity-log-entries",
            ActivityLogEntryDocument,
            {
                "organization": organization,
                "search_term": search_term,
                "actor": actor,
                "sort": sort,
                "min_occurred_at": min_occurred_at,
                "max_occurred_at": max_occurred_at,
                "namespace": namespace,
                "action": action,
            },
        )
