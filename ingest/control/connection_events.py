"""What is published of connections. Pure."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import Standing
from slotwire.ingest.log.join import NewEvent
from slotwire.schemas.events import ConnectionRevoked
from slotwire.schemas.ids import event_id


def revoked_event(record: ConnectionRecord, stands: Standing, now: datetime) -> NewEvent:
    """Say that Calendly refused a credential. Whoever says so of the same credential says it under the same id.

    Args:
        record: the connection, with the credential that was refused.
        stands: how it stands from now on.
        now: when Calendly refused it to us.
    """
    data = ConnectionRevoked(
        connection_id=record.id,
        credential_id=record.credential_id,
        organization=record.organization,
        user=record.user_uri,
        kind=record.kind,
        reason=stands.reason or "refused",
        noticed_at=now,
    )
    made = event_id(record.organization, "connection.revoked", str(record.id), str(record.credential_id))
    return NewEvent(made, data, subject=record.user_uri, key=record.organization, time=now)
