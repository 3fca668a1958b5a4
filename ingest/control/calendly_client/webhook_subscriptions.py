"""Webhook subscriptions at Calendly: create, list, read, delete; there is no update.

Source: docs/reference/calendly.md, "Webhook subscriptions".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ingest.control.calendly_client.transport import Transport
from ingest.errors import CalendlyError, CalendlyProblem
from schemas.ids import OrganizationUri, last_segment

PAGE_SIZE = 100
"""The most Calendly gives at once."""
MAX_PAGES = 100
"""A list that goes on longer is taken for a loop."""


class WebhookSubscription(BaseModel):
    """A subscription as Calendly tells it. `callback_url` is a capability: it has no text form."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: str = Field(min_length=1, max_length=2000)
    callback_url: SecretStr
    state: str
    """`active` or `disabled`."""
    events: tuple[str, ...]
    scope: str
    retry_started_at: datetime | None = None
    """When retrying last began; null while all is well."""


class _Answer(BaseModel):
    resource: WebhookSubscription


class _Pagination(BaseModel):
    next_page_token: str | None = None
    next_page: str | None = None


class _Page(BaseModel):
    collection: tuple[WebhookSubscription, ...]
    pagination: _Pagination = _Pagination()


async def create(
    calendly: Transport,
    *,
    organization: OrganizationUri,
    url: str,
    events: Sequence[str],
    signing_key: SecretStr,
) -> WebhookSubscription:
    """Subscribe an organization. The answer never holds the signing key.

    Raises:
        CalendlyError: see `CalendlyProblem`. Calendly may have subscribed when it is `unreachable`,
            `upstream`, `conflict` or `unexpected`.
    """
    body = {
        "url": url,
        "events": list(events),
        "organization": organization,
        "scope": "organization",
        "signing_key": signing_key.get_secret_value(),
    }
    answer = await calendly.post("/webhook_subscriptions", body, _Answer, doing="subscribing at Calendly")
    return answer.resource


async def of_organization(calendly: Transport, organization: OrganizationUri) -> AsyncIterator[WebhookSubscription]:
    """List an organization's subscriptions of scope `organization`, page by page.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    query = {"organization": organization, "scope": "organization", "count": str(PAGE_SIZE)}
    doing = "listing subscriptions at Calendly"
    for _ in range(MAX_PAGES):
        page = await calendly.get("/webhook_subscriptions", _Page, doing=doing, query=query)
        for item in page.collection:
            yield item
        token = page.pagination.next_page_token or _token_in(page.pagination.next_page)
        if token is None:
            return
        query["page_token"] = token
    raise CalendlyError(f"{doing}: the list does not end after {MAX_PAGES} pages", problem=CalendlyProblem.UNEXPECTED)


async def get(calendly: Transport, uri: str) -> WebhookSubscription:
    """Read one subscription.

    Raises:
        CalendlyError: `not_found` when it is gone; see `CalendlyProblem`.
    """
    answer = await calendly.get(_path(uri), _Answer, doing="reading a subscription at Calendly")
    return answer.resource


async def delete(calendly: Transport, uri: str) -> None:
    """End one subscription; one that is gone already counts as ended.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    try:
        await calendly.delete(_path(uri), doing="deleting a subscription at Calendly")
    except CalendlyError as error:
        if error.problem is not CalendlyProblem.NOT_FOUND:
            raise


def _path(uri: str) -> str:
    return f"/webhook_subscriptions/{quote(last_segment(uri), safe='')}"


def _token_in(next_page: str | None) -> str | None:
    """Find the token in the next page's address: older answers give no other. Its host is not followed."""
    return next(iter(parse_qs(urlsplit(next_page or "").query).get("page_token", ())), None)
