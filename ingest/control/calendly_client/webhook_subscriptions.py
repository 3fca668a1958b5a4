"""Webhook subscriptions at Calendly: create, list, read, delete. There is no update.

A subscription has a scope: the whole organization, one user or one group of hosts; the subject is that user or group.
Calendly lists one scope and subject per call.
Source: docs/reference/calendly.md, "Webhook subscriptions".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import Resource, ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.schemas.ids import OrganizationUri


class WebhookSubscriptionResource(Resource):
    """A subscription at Calendly. `callback_url` is a capability: it is hidden in the text form."""

    callback_url: SecretStr
    state: str
    """`active` or `disabled`."""
    events: tuple[str, ...]
    scope: str
    organization: OrganizationUri | None = None
    user: str | None = None
    group: str | None = None
    creator: str | None = None
    """The user whose token created it."""
    created_at: datetime | None = None
    retry_started_at: datetime | None = None
    """When Calendly last began to retry; null while deliveries succeed."""

    @property
    def subject(self) -> str:
        """The URI of the user or group it is for; empty for the whole organization."""
        return {"user": self.user, "group": self.group}.get(self.scope) or ""


async def create(
    calendly: CalendlyTransport,
    *,
    organization: OrganizationUri,
    url: str,
    events: Sequence[str],
    signing_key: SecretStr | None,
    scope: Scope = "organization",
    subject: str = "",
) -> WebhookSubscriptionResource:
    """Create a subscription. The answer never contains the signing key.

    Args:
        calendly: the transport of a token.
        organization: the organization, in every scope.
        url: the address of the deliveries; no other subscription at Calendly may have it.
        events: names as Calendly writes them; all must be allowed in this scope.
        signing_key: Calendly signs the deliveries with it; None for an OAuth app, whose own key signs.
        scope: `organization`, `user` or `group`.
        subject: the URI of the user or group; empty for the organization.

    Raises:
        CalendlyError: see `CalendlyProblem`. After `unreachable`, `upstream`, `conflict` and `unexpected` the
            subscription may exist.
    """
    body = {
        "url": url,
        "events": list(events),
        "organization": organization,
        "scope": scope,
        **_subject(scope, subject),
    }
    if signing_key is not None:
        body["signing_key"] = signing_key.get_secret_value()
    doing = "subscribing at Calendly"
    return (
        await calendly.post("/webhook_subscriptions", body, ResourceAnswer[WebhookSubscriptionResource], doing=doing)
    ).resource


async def every(
    calendly: CalendlyTransport, organization: OrganizationUri, scope: Scope = "organization", subject: str = ""
) -> AsyncIterator[WebhookSubscriptionResource]:
    """List the subscriptions of one scope and subject.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"organization": organization, "scope": scope, **_subject(scope, subject)}
    page = pages.ResourcePage[WebhookSubscriptionResource]
    doing = "listing subscriptions at Calendly"
    async for item in pages.every(calendly, "/webhook_subscriptions", page, doing=doing, query=query):
        yield item


def of_organization(
    calendly: CalendlyTransport, organization: OrganizationUri
) -> AsyncIterator[WebhookSubscriptionResource]:
    """List an organization's subscriptions of scope `organization`; see `every`."""
    return every(calendly, organization)


async def get(calendly: CalendlyTransport, uri: str) -> WebhookSubscriptionResource:
    """Read one subscription.

    Raises:
        CalendlyError: `not_found` if it is gone; see `CalendlyProblem`.
    """
    path = path_to("webhook_subscriptions", uri)
    return (
        await calendly.get(
            path, ResourceAnswer[WebhookSubscriptionResource], doing="reading a subscription at Calendly"
        )
    ).resource


async def delete(calendly: CalendlyTransport, uri: str) -> None:
    """Delete a subscription; one that is already gone counts as deleted.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    path = path_to("webhook_subscriptions", uri)
    try:
        await calendly.delete(path, doing="deleting a subscription at Calendly")
    except CalendlyError as error:
        if error.problem is not CalendlyProblem.NOT_FOUND:
            raise


def _subject(scope: Scope, subject: str) -> dict[str, str]:
    if (scope == "organization") != (subject == ""):
        raise ValueError("a user or group scope has a subject, an organization's has none")
    return {scope: subject} if subject else {}
