"""Typed calls of `/routing_form_submissions`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import RoutingFormSubmissionDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class RoutingFormSubmissionsCalls(ResourceCalls):
    """Calls of `/routing_form_submissions`."""

    def list(self, *, form: str, sort: str | None = None) -> AsyncIterator[RoutingFormSubmissionDocument]:
        """List routing form submissions.

        `GET /routing_form_submissions`. Scope: `routing_forms:read`. Plan: teams.

        Example:
            async for found in calendly.routing_form_submissions.list(form="FORM"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("list-routing-form-submissions", RoutingFormSubmissionDocument, {"form": form, "sort": sort})

    async def get(self, uuid: str) -> RoutingFormSubmissionDocument:
        """Read a routing form submission.

        `GET /routing_form_submissions/{uuid}`. Scope: `routing_forms:read`. Plan: teams.

        Example:
            found = await calendly.routing_form_submissions.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-routing-form-submission", RoutingFormSubmissionDocument, {"uuid": uuid})
