"""What the writer counts and says of the deliveries it has settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from slotwire.ingest.foundation.telemetry import CROSS_TENANT, DRIFTED_FIELDS, SETTLED, get_logger
from slotwire.ingest.foundation.throttle import Throttle
from slotwire.ingest.log.batch import Batch, BookingKey

_log = get_logger("writer")
_said = Throttle()


def alarm_shared(told: Collection[BookingKey], owners: Iterable[BookingKey]) -> None:
    """Count the bookings that one organization tells of and another has.

    A neighbour that only a payload's link names is no such booking: anybody may name anything.

    Args:
        told: the bookings that the batch is about.
        owners: the same, and those that the log has of any organization.
    """
    by_invitee: dict[str, set[str]] = {}
    for org, invitee in owners:
        by_invitee.setdefault(invitee, set()).add(org)
    for org, invitee in sorted(told):
        for other in sorted(by_invitee[invitee] - {org}):
            CROSS_TENANT.inc()
            held_back = _said.held_back("cross_tenant")
            if held_back is not None:
                _log.warning("cross_tenant", organization=org, other=other, invitee=invitee, held_back=held_back)


def count_results(batch: Batch, new: set[UUID]) -> None:
    """Count what became of each delivery; say why one is quarantined, and which fields of one could not be read."""
    for each in batch.results:
        outcome = each.outcome.value
        if outcome == "stored" and each.event_id is not None and each.event_id not in new:
            outcome = "duplicate"
        SETTLED.labels(outcome, each.reason or "").inc()
        for field in each.drifted:
            DRIFTED_FIELDS.labels(field).inc()
        held_back = _said.held_back("fields_drifted") if each.drifted else None
        if held_back is not None:
            _log.warning("fields_drifted", fields=each.drifted, delivery=str(each.delivery.id), held_back=held_back)
        held_back = _said.held_back(each.reason) if each.reason is not None else None
        if held_back is not None:
            _log.warning(
                "delivery_quarantined",
                reason=each.reason,
                detail=each.detail,
                delivery=str(each.delivery.id),
                held_back=held_back,
            )
    for delivery in batch.unpublished:
        _log.error("clear_unpublished", delivery=str(delivery.id))
