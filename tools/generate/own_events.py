"""Examples of the events about Slotwire itself: no payload becomes them, so they are made of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from slotwire.ingest.control.actions.action_events import settled_event
from slotwire.ingest.control.actions.records import ActionRecord
from slotwire.ingest.control.changes.meeting_facts import changed_event, read_facts
from slotwire.ingest.control.connection_events import change_event, connected_event, revoked_event
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_states import ConnectionStatus
from slotwire.ingest.control.erasure import erased_event
from slotwire.ingest.control.meeting_events import MOMENTS, MeetingBooking, meeting_events
from slotwire.ingest.control.subscription_events import disabled_event, restored_event
from slotwire.ingest.control.subscription_facts import SubscriptionRecord
from slotwire.ingest.keys.hooks import HookId
from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.codec import (
    encode_data,
)
from slotwire.schemas.ids import OrganizationUri, chain_key

API = "https://api.calendly.com"


def own_events() -> Iterator[dict[str, Any]]:
    """Return an event of each kind, as it is made of its row."""
    yield from _connection_events()
    yield from _subscription_events()
    yield _action_event()
    yield from _meeting_events()
    yield _change_event()
    yield _erased_event()


def _erased_event() -> dict[str, Any]:
    """Return the event of an invitee who was erased."""
    invitee = f"{API}/scheduled_events/EVENT/invitees/INVITEE"
    now = datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC)
    organization = f"{API}/organizations/ORGANIZATION"
    return _own(erased_event(organization, invitee, chain_key(organization, invitee), UUID(int=7), now))


def _change_event() -> dict[str, Any]:
    """Return the event of a scheduled event whose host and guests have changed."""
    organization, uri = OrganizationUri(f"{API}/organizations/ORGANIZATION"), f"{API}/scheduled_events/EVENT"
    document = {
        "uri": uri,
        "updated_at": "2026-11-23T08:59:30.000000Z",
        "event_memberships": [{"user": f"{API}/users/SECOND"}],
        "event_guests": [{"email": "guest@example.com"}],
    }
    before = {"hosts": [f"{API}/users/HOST"], "guests": list[str]()}
    now = datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC)
    return _own(changed_event(organization, document, before, read_facts(document), change=1, now=now))


def _subscription_events() -> Iterator[dict[str, Any]]:
    """Return the two events of a subscription that was disabled and replaced, as they are made of its rows."""
    made, now = datetime(2026, 11, 20, 9, 0, tzinfo=UTC), datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC)
    organization = OrganizationUri(f"{API}/organizations/ORGANIZATION")
    lost = SubscriptionRecord(
        id=UUID(int=3),
        org="ORGANIZATION",
        hook_id=HookId("AAAAAAAAAAAAAAAAAAAAAA"),
        provider_uri=f"{API}/webhook_subscriptions/SUBSCRIPTION",
        scope="organization",
        events=("invitee.created", "invitee.canceled"),
        state="active",
        max_age_seconds=None,
        created_at=made,
        ended_at=None,
        lost_at=now,
        lost_reason="disabled",
        last_delivery_at=datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
    )
    by = replace(lost, id=UUID(int=4), replaces=lost.id, lost_at=None, lost_reason=None)
    began = datetime(2026, 11, 22, 8, 59, tzinfo=UTC)
    yield _own(disabled_event(lost, organization, "disabled", began, now))
    yield _own(restored_event(lost, by, organization, (), datetime(2026, 11, 23, 9, 0, 1, 500000, tzinfo=UTC)))


def _connection_events() -> Iterator[dict[str, Any]]:
    """Return the events of a connection, which come from no payload, as they are made of its row."""
    known, now = datetime(2026, 11, 20, 9, 0, tzinfo=UTC), datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC)
    organization, user = f"{API}/organizations/ORGANIZATION", f"{API}/users/HOST"
    record = ConnectionRecord(
        id=UUID(int=1),
        org="ORGANIZATION",
        organization=OrganizationUri(organization),
        kind="personal_access_token",
        user_uri=user,
        role="owner",
        credential_id=UUID(int=2),
        scopes=("default",),
        expires_at=None,
        state="active",
        reason=None,
        checked_at=known,
        created_at=known,
        changed_at=known,
    )
    active, revoked = record.status, ConnectionStatus("revoked", "refused")
    ending = replace(record, state="expiring", reason="expires_soon", expires_at=datetime(2026, 12, 1, tzinfo=UTC))
    for event in (
        connected_event(record, now),
        change_event(ending, active, now),
        revoked_event(record, revoked, now),
        change_event(record, revoked, now),
    ):
        if event is not None:
            yield _own(event)


def _action_event() -> dict[str, Any]:
    """Return the event of an action that was done, as it is made of its row."""
    began, now = (
        datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC),
        datetime(2026, 11, 23, 9, 0, 1, 500000, tzinfo=UTC),
    )
    meeting = f"{API}/scheduled_events/EVENT"
    record = ActionRecord(
        id=UUID(int=5),
        org="ORGANIZATION",
        organization=OrganizationUri(f"{API}/organizations/ORGANIZATION"),
        caller=str(UUID(int=6)),
        key="order-17",
        fingerprint=b"",
        verb="book",
        connection_id=UUID(int=1),
        user_uri=f"{API}/users/HOST",
        target=f"{API}/event_types/TYPE",
        request=None,
        tag=None,
        state="done",
        reason=None,
        evidence="webhook",
        step="book",
        step_at=began,
        called_at=began,
        head=0,
        calls=1,
        reads=0,
        read_at=None,
        accepted=None,
        facts={},
        invitee=f"{meeting}/invitees/INVITEE",
        scheduled_event=meeting,
        mark=None,
        epoch=1,
        due_at=None,
        settlements=0,
        intended_at=began,
        settled_at=now,
        decided_by=None,
        note=None,
    )
    return _own(settled_event(record, now))


def _meeting_events() -> Iterator[dict[str, Any]]:
    """Return the three events of a scheduled event, as they are made of its booking."""
    start, meeting = datetime(2026, 11, 23, 9, 0, tzinfo=UTC), f"{API}/scheduled_events/EVENT"
    booking = MeetingBooking(
        org="ORGANIZATION",
        organization=OrganizationUri(f"{API}/organizations/ORGANIZATION"),
        served_since=datetime(2026, 11, 20, 9, 0, tzinfo=UTC),
        invitee=f"{meeting}/invitees/INVITEE",
        scheduled_event=meeting,
        start_time=start,
        end_time=start + timedelta(minutes=30),
        booked_at=datetime(2026, 11, 21, 9, 0, tzinfo=UTC),
        hosts=[f"{API}/users/HOST"],
        location_type="zoom_conference",
    )
    for moment in MOMENTS:
        for _, event in meeting_events([booking], moment, timedelta(minutes=15)):
            yield _own(event)


def _own(event: OwnEvent) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "type": event.data.type,
        "subject": event.subject,
        "time": event.time.isoformat(),
        "key": event.key,
        "inferred": False,
        "data": orjson.loads(encode_data(event.data)),
    }
