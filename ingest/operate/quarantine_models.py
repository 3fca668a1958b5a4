"""What the management API takes and gives about the quarantine."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from slotwire.ingest.log.quarantine import QuarantinedDelivery
from slotwire.ingest.operate.models import Model, Org, Outcome, Page, PageQuery

MAX_NOTE = 1000
"""Characters of the reason for a discard."""

QuarantineState = Literal["waiting", "retried", "discarded"]


class QuarantineQuery(PageQuery):
    """Which quarantined deliveries, newest first."""

    organization: Org | None = None
    """Of one organization."""
    reason: str | None = Field(None, min_length=1, max_length=100)
    """Quarantined for one reason, for example `unknown_event`."""
    state: QuarantineState | Literal["all"] = "waiting"
    """In one state, or in `all`."""


class QuarantineItem(Model):
    """An authentic delivery that became no event, without its body."""

    id: UUID
    """The delivery's."""
    organization: str
    """The last segment of Calendly's organization URI."""
    subscription_id: UUID
    """The subscription whose address it came to."""
    reason: str
    """Why it was not understood; after a retry that failed, why it still is not."""
    detail: str
    """Where in the payload, without values."""
    state: QuarantineState
    """`retried` when it became what it should have been, `discarded` when somebody said that it shall not."""
    received_at: datetime
    """When its first octet came."""
    signed_at: datetime
    """The signature's time."""
    settled_at: datetime | None
    """When it was retried or discarded."""
    note: str | None
    """Why it was discarded."""
    outcome: Outcome
    """What became of the delivery: `stored` or `duplicate` once it was retried."""
    event_id: UUID | None
    """The event it stands for, once it was retried."""
    body_bytes: int
    """How long the body is."""


class QuarantinePage(Page):
    """Quarantined deliveries."""

    items: tuple[QuarantineItem, ...]


class QuarantineDetail(QuarantineItem):
    """A quarantined delivery with its body as it came, for those who may see it."""

    encoding: Literal["utf-8", "base64"] | None
    """How `body` is written: as text, or as base64 where it is no text. Null below the role `operator`."""
    body: str | None
    """The body, personal data included. Null below the role `operator`."""


class DiscardRequest(Model):
    """Why a quarantined delivery is not wanted."""

    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NOTE)]
    """Kept beside the delivery."""


def quarantine_item(row: QuarantinedDelivery) -> QuarantineItem:
    """Show a row without its body."""
    return QuarantineItem.model_validate(_fields(row))


def quarantine_detail(row: QuarantinedDelivery, *, with_body: bool) -> QuarantineDetail:
    """Show a row, with its body if it may be seen."""
    encoding, body = _text(row.body or b"") if with_body else (None, None)
    return QuarantineDetail.model_validate({**_fields(row), "encoding": encoding, "body": body})


def _text(body: bytes) -> tuple[str, str]:
    try:
        return "utf-8", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()


def _fields(row: QuarantinedDelivery) -> dict[str, object]:
    return {
        "id": row.delivery_id,
        "organization": row.org,
        "subscription_id": row.subscription_id,
        "reason": row.reason,
        "detail": row.detail,
        "state": row.state,
        "received_at": row.received_at,
        "signed_at": row.signed_at,
        "settled_at": row.settled_at,
        "note": row.note,
        "outcome": row.outcome,
        "event_id": row.event_id,
        "body_bytes": row.body_bytes,
    }
