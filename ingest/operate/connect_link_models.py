"""Links in the management API, under which customers connect their Calendly in the browser."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from slotwire.ingest.control.calendly_client.addresses import MAX_TOKEN_LENGTH
from slotwire.ingest.control.connect_links import DEFAULT_LIFE, MAX_LIFE, ConnectLink, LinkState
from slotwire.ingest.control.oauth_flow import MAX_VALUE, Live
from slotwire.ingest.control.organization_records import MAX_EXTERNAL_ID
from slotwire.ingest.operate.connection_models import ConnectionItem
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.organization_models import MAX_BACKFILL_DAYS

MAX_CUSTOMER = 200
MAX_RETURN_URL = 2000


class ConnectLinkOptions(Model):
    """A link to make."""

    customer: str | None = Field(None, min_length=1, max_length=MAX_CUSTOMER)
    """How the page names the customer; otherwise it shows the external id."""
    return_url: str | None = Field(None, min_length=1, max_length=MAX_RETURN_URL)
    """Where the customer's browser goes afterwards, with a one-time code (`connect_code`) that your backend presents:
    nothing is read or subscribed before. One of SLOTWIRE_OAUTH__RETURN_URLS, with any query."""
    life_seconds: int = Field(int(DEFAULT_LIFE.total_seconds()), ge=1, le=int(MAX_LIFE.total_seconds()))
    """How long the link is good."""
    backfill_days: int | None = Field(30, ge=0, le=MAX_BACKFILL_DAYS)
    """Once it is connected, fetch meetings that started this many days ago or later, future ones too; null fetches
    none."""


class ConnectLinkRequest(ConnectLinkOptions):
    """A link for an organization that is known, or for a customer who is not known yet."""

    organization: Org | None = None
    """The only organization that may be connected."""
    external_id: str | None = Field(None, min_length=1, max_length=MAX_EXTERNAL_ID)
    """Your own name for a customer whose organization is not known yet; it becomes the organization's."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.organization is None) == (self.external_id is None):
            raise ValueError("give either organization or external_id")
        return self


class ConnectionStart(ConnectLinkOptions):
    """A user to connect: by a personal access token, or, without one, under a link that this makes."""

    token: SecretStr | None = Field(None, min_length=1, max_length=MAX_TOKEN_LENGTH)
    """A personal access token of a user of the organization. It is stored encrypted and never shown."""


class ConnectLinkItem(Model):
    """A link, without its address, which is shown only once."""

    id: UUID
    organization: str | None
    """The organization that may be connected, or was; null while it is not known."""
    external_id: str | None
    """Your own name for the customer."""
    customer: str | None
    """How the page names the customer."""
    return_url: str | None
    """Where the browser goes with the one-time code."""
    state: LinkState
    """`open`; `pending`: consented, and waits for your backend; `connected`; `expired`."""
    connection_id: UUID | None
    """The connection that came of it."""
    created_at: datetime
    expires_at: datetime


class ConnectLinkCreated(ConnectLinkItem):
    """A new link."""

    url: str
    """The address to send to the customer. It is shown only once."""


class ConnectLinkPage(Page):
    """Links."""

    items: tuple[ConnectLinkItem, ...]


class ConnectLinkQuery(PageQuery):
    """Which links to list."""

    organization: Org | None = None
    """Only of this organization."""


class CodeRequest(Model):
    """The code that came to the return address."""

    code: str = Field(min_length=1, max_length=MAX_VALUE)
    """`connect_code`. It works once, for ten minutes. Present it only if the browser that brought it is logged in with
    you as the customer whom the link was for."""


class ConnectLinkLive(Model):
    """What came of a consent."""

    link: ConnectLinkItem
    organization: str
    """The organization that is connected."""
    role: str | None
    """The role of the user who consented."""
    subscribed: bool
    """Whether its subscriptions are served; if not, the subscription manager goes on."""
    backfill: bool
    """Whether meetings that were booked before are still to be fetched."""


class ConnectionStarted(Model):
    """What came of it: with a token the connection, without one a link."""

    connection: ConnectionItem | None = None
    """The connection, if a token was given."""
    link: ConnectLinkCreated | None = None
    """The link, if none was given."""


def link_item(link: ConnectLink, now: datetime) -> ConnectLinkItem:
    """Show a link."""
    return ConnectLinkItem(**_fields(link, now))


def link_created(link: ConnectLink, url: str, now: datetime) -> ConnectLinkCreated:
    """Show a new link with its address."""
    return ConnectLinkCreated(**_fields(link, now), url=url)


def live_item(live: Live, link: ConnectLink, now: datetime) -> ConnectLinkLive:
    """Show what came of a consent."""
    return ConnectLinkLive(
        link=link_item(link, now),
        organization=live.org,
        role=live.role,
        subscribed=live.subscribed,
        backfill=live.backfill,
    )


def _fields(link: ConnectLink, now: datetime) -> dict[str, object]:
    return {
        "id": link.id,
        "organization": link.org,
        "external_id": link.external_id,
        "customer": link.customer,
        "return_url": link.return_url,
        "state": link.state(now),
        "connection_id": link.connection_id,
        "created_at": link.created_at,
        "expires_at": link.expires_at,
    }
