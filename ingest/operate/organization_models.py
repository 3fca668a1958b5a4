"""What the management API takes and gives about organizations."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field, SecretStr

from slotwire.ingest.control.connection_states import ConnectionState
from slotwire.ingest.control.organizations import (
    MAX_EXTERNAL_ID,
    AddOrganizationResult,
    OrganizationRecord,
    RemoveOrganizationResult,
)
from slotwire.ingest.control.subscription_plan import WantedSubscription
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.subscription_models import (
    EventNames,
    MaxAge,
    SubscriptionItem,
    WantedItem,
    subscription_item,
    wanted_item,
)

MAX_BACKFILL_DAYS = 3650


class OrganizationQuery(PageQuery):
    """Which organizations."""

    ended: bool = False
    """Those that were given up, too."""


class OrganizationItem(Model):
    """An organization."""

    organization: str
    """The last segment of its URI at Calendly."""
    uri: str
    external_id: str | None
    """Your own name for it; events carry it as `ce_tenant`."""
    created_at: datetime
    """When it was first known here."""
    ended_at: datetime | None
    """When it was given up; its history stays."""
    backfill_from: datetime | None
    """Meetings that start then or later are still to be fetched; null when nothing is."""
    subscriptions: int
    """How many are not ended."""
    connections: tuple[ConnectionState, ...]
    """The states of its connections."""


class OrganizationDetail(OrganizationItem):
    """An organization with what shall be subscribed to."""

    wanted: tuple[WantedItem, ...]
    """The subscription manager makes it so."""


class OrganizationPage(Page):
    """Organizations."""

    items: tuple[OrganizationItem, ...]


class OrganizationRequest(Model):
    """An organization to connect and to subscribe. Adding it again finds what is there, with the new token."""

    token: SecretStr = Field(min_length=1, max_length=8192)
    """A personal access token of its owner or an admin. It is sealed and kept; no answer shows it."""
    organization: Org | None = None
    """The organization you mean: a token of another one is refused. Null takes the token's."""
    external_id: str | None = Field(None, min_length=1, max_length=MAX_EXTERNAL_ID)
    """Your own name for it; events carry it as `ce_tenant`. Null keeps the one before."""
    events: EventNames = ()
    """When left out: what is wanted already, or all events about bookings and routing forms. `meeting_recap.*` come for
    the token's user."""
    max_age_seconds: MaxAge | None = None
    """Quarantine older authentic deliveries; Calendly retries for a day, so mind what this loses."""
    backfill_days: int | None = Field(None, ge=0, le=MAX_BACKFILL_DAYS)
    """Fetch also what Calendly has: meetings from so many days ago on, without end. `slotwire control` does it."""


class OrganizationAdded(Model):
    """What adding an organization made of it."""

    organization: OrganizationItem
    connection_id: UUID
    """Of the token's user."""
    subscriptions: tuple[SubscriptionItem, ...]
    """What brings its events now."""
    new: bool
    """Whether a subscription was made."""


class RemainingSubscription(Model):
    """A subscription that Calendly may still have."""

    id: UUID
    provider_uri: str | None
    """Calendly's URI for it: delete it there."""
    why: str


class OrganizationRemoved(Model):
    """What giving an organization up did."""

    organization: OrganizationItem
    """`ended_at` is null while something is left."""
    ended: tuple[UUID, ...]
    """Subscriptions that were ended at Calendly."""
    left: tuple[RemainingSubscription, ...]
    """Subscriptions that could not be, and why. Remove again, or with `force`."""
    connections: tuple[UUID, ...]
    """Credentials that were forgotten."""
    keys: tuple[UUID, ...]
    """Keys of this API that were revoked, because they reached nothing else."""


class RemovalQuery(Model):
    """How an organization is given up."""

    force: bool = False
    """Forget also what Calendly would not end: it goes on sending, and is answered 401 after 48 h."""


def organization_item(organization: OrganizationRecord) -> OrganizationItem:
    """Show an organization."""
    return OrganizationItem.model_validate(_fields(organization))


def organization_detail(organization: OrganizationRecord, wanted: tuple[WantedSubscription, ...]) -> OrganizationDetail:
    """Show an organization with what is wanted of it."""
    return OrganizationDetail.model_validate(
        {**_fields(organization), "wanted": [wanted_item(want) for want in wanted]}
    )


def added_item(begun: AddOrganizationResult) -> OrganizationAdded:
    """Show what adding did."""
    return OrganizationAdded(
        organization=organization_item(begun.organization),
        connection_id=begun.connection.id,
        subscriptions=tuple(map(subscription_item, begun.subscriptions.serving.values())),
        new=bool(begun.subscriptions.created),
    )


def removed_item(given: RemoveOrganizationResult) -> OrganizationRemoved:
    """Show what removing did."""
    return OrganizationRemoved(
        organization=organization_item(given.organization),
        ended=tuple(item.id for item in given.ended),
        left=tuple(
            RemainingSubscription(id=item.id, provider_uri=item.provider_uri, why=why) for item, why in given.left
        ),
        connections=given.connections,
        keys=given.keys,
    )


def _fields(organization: OrganizationRecord) -> dict[str, object]:
    return {
        "organization": organization.org,
        "uri": organization.uri,
        "external_id": organization.external_id,
        "created_at": organization.created_at,
        "ended_at": organization.ended_at,
        "backfill_from": organization.backfill_from,
        "subscriptions": organization.subscriptions,
        "connections": organization.connections,
    }
