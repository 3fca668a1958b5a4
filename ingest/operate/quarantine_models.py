"""The quarantine in the management API."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from slotwire.ingest.operate.models import Model, Org, Outcome, Page, PageQuery
from slotwire.ingest.operate.quarantine_pages import QuarantinedDelivery

MAX_NOTE = 1000
"""Characters of the reason for a discard."""

QuarantineState = Literal["waiting", "retried", "discarded"]


class QuarantineQuery(PageQuery):
    """Which quarantined deliveries to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    reason: str | None = Field(None, min_length=1, max_length=100)
    """Only with this reason, for example `unknown_event`."""
    state: QuarantineState | Literal["all"] = "waiting"
    """Only in this state; `all` lists every state."""


class QuarantineItem(Model):
    """A signed delivery that could not be understood, without its body."""

    id: UUID
    """The delivery's id."""
    organization: str
    """The last segment of Calendly's organization URI."""
    subscription_id: UUID | None
    """The subscription that it was sent to; null if it was no webhook."""
    reason: str
    """Why it was not understood; after a failed retry, why it still is not."""
    detail: str
    """The place in the payload, without its value."""
    state: QuarantineState
    """`retried` once a retry has written it to the log, `discarded` once an operator has discarded it."""
    received_at: datetime
    """When it arrived."""
    signed_at: datetime
    """The time in its signature."""
    settled_at: datetime | None
    """When it was retried or discarded."""
    note: str | None
    """Why it was discarded."""
    outcome: Outcome
    """The delivery's outcome: `stored` or `duplicate` once it was retried."""
    event_id: UUID | None
    """The event that it reported, once it was retried."""
    body_bytes: int
    """The length of its body."""
    accepted_at: int | None = None
    """After a retry: the position at which it is accepted, if it is not yet written. Null otherwise."""


class QuarantinePage(Page):
    """Quarantined deliveries."""

    items: tuple[QuarantineItem, ...]


class QuarantineDetail(QuarantineItem):
    """A quarantined delivery with its body as received."""

    encoding: Literal["utf-8", "base64"] | None
    """How `body` is written: as text, or as base64 if it is not text. Null for a key with the role `reader`."""
    body: str | None
    """The body, which holds personal data. Null for a key with the role `reader`."""


class DiscardRequest(Model):
    """Why you discard a quarantined delivery."""

    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NOTE)]
    """The reason, which is stored with the delivery."""


def quarantine_item(row: QuarantinedDelivery, *, accepted_at: int | None = None) -> QuarantineItem:
    """Show a quarantined delivery without its body, and where a retry of it is accepted and not yet written."""
    return QuarantineItem.model_validate({**_fields(row), "accepted_at": accepted_at})


def quarantine_detail(row: QuarantinedDelivery, *, with_body: bool) -> QuarantineDetail:
    """Show a quarantined delivery, with its body if the caller may see it."""
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
