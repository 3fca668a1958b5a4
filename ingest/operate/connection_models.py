"""Connections as the management API shows them: everything but the secret."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field, SecretStr

from slotwire.ingest.control.calendly_client.transport import MAX_TOKEN_LENGTH
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import ConnectionState
from slotwire.ingest.operate.models import Model, Page


class ConnectionItem(Model):
    """A credential that acts as one Calendly user. The credential itself is never shown."""

    id: UUID
    """Stays when the credential is replaced."""
    organization: str
    """The last segment of Calendly's organization URI."""
    kind: str
    """`personal_access_token`."""
    user_uri: str
    """The user it acts as, pinned: a credential of anybody else is refused."""
    role: str | None
    """Of that user in the organization, as Calendly last said; null where the token may not ask."""
    state: ConnectionState
    """`active` and `expiring` act; `needs_reauth`, `revoked` and `error` do not."""
    reason: str | None
    """Why it is not active: a short word."""
    scopes: tuple[str, ...] | None
    """What the token says it may; null where it does not say."""
    expires_at: datetime | None
    """The credential's end; null where it has none."""
    credential_id: UUID
    """Names the credential, for events about it; each replacement has another."""
    checked_at: datetime
    """When Calendly last answered to it."""
    created_at: datetime
    """When the user was connected first."""
    changed_at: datetime
    """When state or credential last changed."""


class ConnectionPage(Page):
    """Connections."""

    items: tuple[ConnectionItem, ...]


class ConnectionRequest(Model):
    """A user to connect, or to connect anew: the token replaces the one before."""

    token: SecretStr = Field(min_length=1, max_length=MAX_TOKEN_LENGTH)
    """A personal access token of a user of the organization; kept sealed, never shown."""


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
