"""The events that are published about connections, one for each change of state. Pure."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import ConnectionStatus, Observation
from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.events import (
    ConnectionConnected,
    ConnectionExpiring,
    ConnectionRestored,
    ConnectionRevoked,
    EventData,
)
from slotwire.schemas.ids import event_id


def revoked_event(
    record: ConnectionRecord, status: ConnectionStatus, now: datetime, reconnect_url: str | None = None
) -> OwnEvent:
    """Make the event that says that a connection cannot act any more.

    Of a refused credential it always has the same id, whoever noticed it.

    Args:
        record: the connection as it was, with the credential that cannot act.
        status: the connection's status from now on.
        now: when that was noticed.
        reconnect_url: where its user connects again.
    """
    data = ConnectionRevoked(
        connection_id=record.id,
        credential_id=record.credential_id,
        organization=record.organization,
        user=record.user_uri,
        kind=record.kind,
        reason=status.reason or "refused",
        noticed_at=now,
        state=status.state,
        reconnect_url=reconnect_url,
    )
    number = "" if status.state == "revoked" else f"\n{record.changes}"
    return _event(record, "connection.revoked", data, f"{record.credential_id}{number}", now)


def connected_event(record: ConnectionRecord, now: datetime) -> OwnEvent:
    """Make the event that says that a user was connected for the first time."""
    data = ConnectionConnected(
        connection_id=record.id,
        credential_id=record.credential_id,
        organization=record.organization,
        user=record.user_uri,
        kind=record.kind,
        role=record.role,
        connected_at=now,
    )
    return _event(record, "connection.connected", data, "", now)


def change_event(
    record: ConnectionRecord, before: ConnectionStatus, now: datetime, reconnect_url: str | None = None
) -> OwnEvent | None:
    """Make the event for a change of state; None where the state is the same.

    Args:
        record: the connection as it becomes; `changes` is still that of before.
        before: its status before.
        now: when the change was noticed.
        reconnect_url: where its user connects again, if it cannot act.
    """
    if record.state == before.state:
        return None
    if not record.status.able:
        return revoked_event(record, record.status, now, reconnect_url)
    unrefreshed = record.reason == Observation.REFRESH_FAILS
    ends = record.access_expires_at if unrefreshed else record.expires_at
    fields = {
        "connection_id": record.id,
        "credential_id": record.credential_id,
        "organization": record.organization,
        "user": record.user_uri,
        "kind": record.kind,
    }
    verb, data = (
        ("expiring", ConnectionExpiring(**fields, expires_at=ends, noticed_at=now))
        if record.state == "expiring" and before.able
        else ("restored", ConnectionRestored(**fields, restored_at=now))
    )
    return _event(record, f"connection.{verb}", data, f"{record.credential_id}\n{record.changes}", now)


def _event(record: ConnectionRecord, name: str, data: EventData, discriminator: str, now: datetime) -> OwnEvent:
    made = event_id(record.organization, name, str(record.id), discriminator)
    return OwnEvent(made, data, subject=record.user_uri, key=record.organization, time=now)
