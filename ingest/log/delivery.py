"""A delivery as it was accepted: a row of `slotwire.deliveries`.

A webhook was verified before it was accepted, a fetched document came from Calendly's API with the organization's own
credential, and an event of our own was written by us. So every row is authentic, and belongs to its organization.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


class Origin(StrEnum):
    """How a delivery came in; it stays with every event that is made of it."""

    WEBHOOK = "webhook"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    RETRY = "retry"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The organization a delivery belongs to.

    Attributes:
        organization: its URI at Calendly.
        org: the last segment of it.
        external_id: the user's own name for it, if there is one.
    """

    organization: str
    org: str
    external_id: str | None


class Delivery(NamedTuple):
    """One accepted delivery.

    Attributes:
        position: its place in the shard: the order of commits.
        total: bytes accepted in the shard up to and with it.
        id: ours; of a retry the id of the quarantined delivery it points at.
        origin: how it came in.
        form: how its body is written: as a webhook's, as what was fetched, or as an event of our own. Of a retry,
            that of the delivery it points at.
        stale: it was older than its subscription's `max_age` when it came.
        content_encoding: as the sender said, in lower case; empty or `identity` for a plain body, `other` for no name.
        signed_at: what the signature says; the time of arrival where nothing was signed.
    """

    position: int
    total: int
    id: UUID
    tenant: Tenant
    origin: Origin
    form: Origin
    stale: bool
    content_encoding: str
    received_at: datetime
    signed_at: datetime
    traceparent: str | None
    body: bytes
