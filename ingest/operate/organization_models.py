"""Organizations in the management API."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from pydantic import Field, SecretStr

from slotwire.ingest.control.changes.sweep_records import SweepState
from slotwire.ingest.control.connection_states import ConnectionState
from slotwire.ingest.control.organization_records import MAX_EXTERNAL_ID, OrganizationRecord
from slotwire.ingest.control.organizations import AddOrganizationResult, RemoveOrganizationResult
from slotwire.ingest.control.subscription_facts import WantedSubscription
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
    """Which organizations to list."""

    ended: bool = False
    """Include removed organizations."""


class OrganizationItem(Model):
    """An organization."""

    organization: str
    """The last segment of its URI at Calendly."""
    uri: str
    external_id: str | None
    """Your own name for it. Events carry it as `ce_tenant`."""
    created_at: datetime
    """When it was first added."""
    ended_at: datetime | None
    """When it was removed. Its history stays."""
    backfill_from: datetime | None
    """Meetings that start at this time or later are still to be fetched; null if none are."""
    subscriptions: int
    """How many of its subscriptions are not ended."""
    connections: tuple[ConnectionState, ...]
    """The states of its connections."""


class ComparedItem(Model):
    """How the comparing of an organization's upcoming meetings is, which finds changes that no webhook tells."""

    due_at: datetime
    """When it begins or goes on. While a process is at it: when another one may take over."""
    began_at: datetime | None
    """When the one under way began; null between two."""
    ended_at: datetime | None
    """When the last whole one ended; null if none did yet."""
    meetings: int
    """Meetings compared by the one under way, or the last."""
    calls: int
    """Calls to Calendly that it took."""
    changes: int
    """Changes that it told."""
    attempts: int
    """Failures in a row."""
    problem: str | None
    """Why the last attempt failed; null if it did not."""


class OrganizationDetail(OrganizationItem):
    """An organization with its wanted subscriptions."""

    wanted: tuple[WantedItem, ...]
    """The subscription manager makes and maintains these."""
    compared: ComparedItem | None
    """How the comparing of its upcoming meetings is; null where `SLOTWIRE_CHANGES__INTERVAL_MINUTES` is unset."""


class OrganizationPage(Page):
    """Organizations."""

    items: tuple[OrganizationItem, ...]


class OrganizationRequest(Model):
    """An organization to connect and subscribe. If it is there already, it gets the new token."""

    token: SecretStr = Field(min_length=1, max_length=8192)
    """A personal access token of its owner or an admin. It is stored encrypted and never shown."""
    organization: Org | None = None
    """The organization you mean: the token of another one is refused. When left out: the token's organization."""
    external_id: str | None = Field(None, min_length=1, max_length=MAX_EXTERNAL_ID)
    """Your own name for it, if it has none yet. Events carry it as `ce_tenant`. Needs a key that reaches all
    organizations. Null leaves the present name; to change one, rename the organization."""
    events: EventNames = ()
    """When left out: the events wanted so far, or all events about bookings and routing forms. `meeting_recap.*` cover
    the token's user only."""
    max_age_seconds: MaxAge | None = None
    """Quarantine signed deliveries that are older. Calendly retries for a day, so less than that loses retries."""
    backfill_days: int | None = Field(None, ge=0, le=MAX_BACKFILL_DAYS)
    """Also fetch meetings that started in the last so many days, or start later. `slotwire control` does it."""


class RenameRequest(Model):
    """Another name for an organization."""

    external_id: str | None = Field(min_length=1, max_length=MAX_EXTERNAL_ID)
    """Your own name for it, which no other one has; null for none. Its next events carry it as `ce_tenant`."""


class OrganizationAdded(Model):
    """The result of adding an organization."""

    organization: OrganizationItem
    connection_id: UUID
    """The connection of the token's user."""
    subscriptions: tuple[SubscriptionItem, ...]
    """The subscriptions that deliver its events."""
    new: bool
    """Whether a subscription was created."""


class RemainingSubscription(Model):
    """A subscription that Calendly may still have."""

    id: UUID
    provider_uri: str | None
    """Its URI at Calendly. Delete it there."""
    why: str


class OrganizationRemoved(Model):
    """The result of removing an organization."""

    organization: OrganizationItem
    """`ended_at` is null while a subscription is left."""
    ended: tuple[UUID, ...]
    """Subscriptions that were ended at Calendly."""
    left: tuple[RemainingSubscription, ...]
    """Subscriptions that could not be ended, and why. Remove the organization again, or with `force`."""
    connections: tuple[UUID, ...]
    """Connections whose credentials were deleted."""
    keys: tuple[UUID, ...]
    """Keys of this API that were revoked, because they reached only this organization."""
    signing_keys: tuple[UUID, ...]
    """Signing keys that `now` revoked."""


class RemovalQuery(Model):
    """How to remove an organization."""

    force: bool = False
    """Also forget subscriptions that Calendly did not end. It continues to send, and gets 401 after 48 h."""
    now: bool = False
    """First revoke all signing keys, so that nothing more is accepted. Otherwise addresses stay valid for 48 h."""


def organization_item(organization: OrganizationRecord) -> OrganizationItem:
    """Show an organization."""
    return OrganizationItem.model_validate(_fields(organization))


def organization_detail(
    organization: OrganizationRecord, wanted: tuple[WantedSubscription, ...], sweep: SweepState | None
) -> OrganizationDetail:
    """Show an organization with its wanted subscriptions, and how the comparing of its meetings is."""
    compared = None if sweep is None else asdict(sweep)
    return OrganizationDetail.model_validate(
        {**_fields(organization), "wanted": [wanted_item(want) for want in wanted], "compared": compared}
    )


def added_item(begun: AddOrganizationResult) -> OrganizationAdded:
    """Show the result of adding."""
    return OrganizationAdded(
        organization=organization_item(begun.organization),
        connection_id=begun.connection.id,
        subscriptions=tuple(map(subscription_item, begun.subscriptions.serving.values())),
        new=bool(begun.subscriptions.created),
    )


def removed_item(given: RemoveOrganizationResult) -> OrganizationRemoved:
    """Show the result of removing."""
    return OrganizationRemoved(
        organization=organization_item(given.organization),
        ended=tuple(item.id for item in given.ended),
        left=tuple(
            RemainingSubscription(id=item.id, provider_uri=item.provider_uri, why=why) for item, why in given.left
        ),
        connections=given.connections,
        keys=given.keys,
        signing_keys=given.signing_keys,
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
