"""The events that are published about connections. Pure."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import ConnectionStatus
from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.events import ConnectionRevoked
from slotwire.schemas.ids import event_id


def revoked_event(record: ConnectionRecord, status: ConnectionStatus, now: datetime) -> OwnEvent:
    """Make the event that says that Calendly refused a credential. The same credential always gives the same event id.

    Args:
        record: the connection, with the credential that was refused.
        status: the connection's status from now on.
        now: when Calendly refused the credential.
    """
    data = ConnectionRevoked(
        connection_id=record.id,
        credential_id=record.credential_id,
        organization=record.organization,
        user=record.user_uri,
        kind=record.kind,
        reason=status.reason or "refused",
        noticed_at=now,
    )
    made = event_id(record.organization, "connection.revoked", str(record.id), str(record.credential_id))
    return OwnEvent(made, data, subject=record.user_uri, key=record.organization, time=now)
