"""Connections in the management API, without their secrets."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from pydantic import Field, SecretStr

from slotwire.ingest.control.calendly_client.addresses import MAX_TOKEN_LENGTH
from slotwire.ingest.control.capabilities import Capabilities
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import ConnectionState
from slotwire.ingest.operate.models import Model, Page


class ConnectionItem(Model):
    """A credential that acts as one Calendly user. The credential itself is never shown."""

    id: UUID
    """It stays the same when the credential is replaced."""
    organization: str
    """The last segment of Calendly's organization URI."""
    kind: str
    """`personal_access_token` or `oauth`."""
    user_uri: str
    """The user that it acts as. It accepts no other user's credential."""
    role: str | None
    """The user's role in the organization, as Calendly last reported; null if the token may not ask for it."""
    state: ConnectionState
    """`active` and `expiring` act; `needs_reauth`, `revoked` and `error` do not."""
    reason: str | None
    """A short word for why it is not active."""
    scopes: tuple[str, ...] | None
    """The scopes that the token names; null if it names none."""
    expires_at: datetime | None
    """When the credential expires; null if never."""
    credential_id: UUID
    """The credential's id in events about it. Each replacement has another id."""
    checked_at: datetime
    """When Calendly last accepted or refused it."""
    created_at: datetime
    """When the user was first connected."""
    changed_at: datetime
    """When its state or credential last changed."""


class CapabilityItem(Model):
    """Whether a connection can do something at Calendly."""

    name: str
    """A family of scopes, for example `contacts`."""
    reads: bool | None
    """Whether it may read; null where Calendly failed when it was asked."""
    writes: bool | None
    """Whether it may write, as far as the scopes that the token names tell; null if it names none."""
    why: str | None
    """`scope`, `plan` or `permission` where it may not read; else why that is not known."""
    remedy: str | None
    """What would mend it, and who can."""


class CapabilitiesItem(Model):
    """What a connection can do at Calendly, as it was last asked."""

    probed_at: datetime
    """When Calendly was asked."""
    plan: str | None
    """The organization's plan, in Calendly's words; null where it does not say."""
    stage: str | None
    """`trial`, `free` or `paid`; null where Calendly does not say."""
    capabilities: tuple[CapabilityItem, ...]
    """By family of scopes."""


class ConnectionDetail(ConnectionItem):
    """A credential that acts as one Calendly user, and what it can do."""

    can: CapabilitiesItem | None
    """What it can do; null if Calendly was never asked."""


class ConnectionPage(Page):
    """Connections."""

    items: tuple[ConnectionItem, ...]


class ConnectionRequest(Model):
    """A user to connect. If the user is connected already, the token replaces the old one."""

    token: SecretStr = Field(min_length=1, max_length=MAX_TOKEN_LENGTH)
    """A personal access token of a user of the organization. It is stored encrypted and never shown."""


def connection_item(record: ConnectionRecord) -> ConnectionItem:
    """Show a connection."""
    return ConnectionItem(
        id=record.id,
        organization=record.org,
        kind=record.kind,
        user_uri=record.user_uri,
        role=record.role,
        state=record.state,
        reason=record.reason,
        scopes=record.scopes,
        expires_at=record.expires_at,
        credential_id=record.credential_id,
        checked_at=record.checked_at,
        created_at=record.created_at,
        changed_at=record.changed_at,
    )


def connection_detail(record: ConnectionRecord, found: Capabilities | None) -> ConnectionDetail:
    """Show a connection, and what it can do."""
    return ConnectionDetail(**dict(connection_item(record)), can=None if found is None else _capabilities(found))


def _capabilities(found: Capabilities) -> CapabilitiesItem:
    return CapabilitiesItem(
        probed_at=found.probed_at,
        plan=found.plan,
        stage=found.stage,
        capabilities=tuple(CapabilityItem(**asdict(each)) for each in found.found),
    )
