"""Submissions of routing forms, one list per form. Needs the scope `routing_forms:read`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic import AwareDatetime

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import RawResource, ResourceAnswer, Uri, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport

_PATH, _DOING = "/routing_form_submissions", "listing routing form submissions"


class RoutingFormSubmissionResource(RawResource):
    """A submission; `raw` is the payload of `routing_form_submission.created`."""

    routing_form: Uri
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


async def every(
    calendly: CalendlyTransport, form: str, *, latest_first: bool = False
) -> AsyncIterator[RoutingFormSubmissionResource]:
    """List a form's submissions by creation time; Calendly cannot filter them by time.

    Args:
        calendly: the transport of a token.
        form: the routing form's URI.
        latest_first: newest first, so that a caller who knows the older ones can stop early.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"form": form, "sort": "created_at:desc" if latest_first else "created_at:asc"}
    page = pages.ResourcePage[RoutingFormSubmissionResource]
    async for item in pages.every(calendly, _PATH, page, doing=_DOING, query=query):
        yield item


def newest_documents(calendly: CalendlyTransport, form: str) -> AsyncIterator[tuple[Any, ...]]:
    """List a form's submissions, the newest first, a page at a time and each as it came.

    Raises:
        CalendlyError: see `pages.documents`.
    """
    return pages.documents(calendly, _PATH, doing=_DOING, query={"form": form, "sort": "created_at:desc"})


async def get(calendly: CalendlyTransport, uri: str) -> RoutingFormSubmissionResource:
    """Read one submission.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("routing_form_submissions", uri)
    answer = await calendly.get(
        path, ResourceAnswer[RoutingFormSubmissionResource], doing="reading a routing form submission"
    )
    return answer.resource
