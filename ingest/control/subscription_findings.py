"""What may be wrong with an organization's subscriptions, and what mends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from slotwire.ingest.control.subscription_facts import CalendlySubscription, Place, SubscriptionRecord


class FindingKind(StrEnum):
    """What is wrong; also the label of `slotwire_subscription_findings`."""

    MISSING = "missing"
    """A wanted subscription was never made, or its creation failed."""
    GONE = "gone"
    """Calendly does not have it any more: a 410 deletes it at once, and so does a person."""
    DISABLED = "disabled"
    """Calendly gave it up after 24 h of failures."""
    RETRYING = "retrying"
    """A delivery to it failed, and Calendly tries it again."""
    DUPLICATED = "duplicated"
    """There are two for one purpose, and neither replaces the other: each delivery comes twice."""
    ORPHANED = "orphaned"
    """The user who created it is not in the organization any more: it may be listed as active, and be silent."""
    STRAY = "stray"
    """It leads here, and there is no key for it: its deliveries are answered 401."""
    UNWANTED = "unwanted"
    """Nobody wants it any more."""
    WRONG_EVENTS = "wrong_events"
    """It has other events than wanted."""
    WRONG_ADDRESS = "wrong_address"
    """It leads to another address than `SLOTWIRE_PUBLIC_URL`."""
    RENEWAL = "renewal"
    """Somebody asked for another signing key."""
    REPLACING = "replacing"
    """It is replaced, and stays until the new one is verified and Calendly has nothing left to retry on it."""
    UNVERIFIED = "unverified"
    """Deliveries come over the old one and none over the new one, for longer than the overlap."""
    PLAN_LOST = "plan_lost"
    """The plan of the organization's owner does not include some events."""
    SCOPE_LOST = "scope_lost"
    """The token may not read what some events are about."""
    REFUSED = "refused"
    """Calendly refused to make it: the role, the plan or the scopes of the token's user."""
    UNWATCHED = "unwatched"
    """The organization has no connection that can act: nobody sees what becomes of its subscriptions."""
    CONTESTED = "contested"
    """It was gone again and again: something else deletes it. Nothing more is made until somebody says so."""


class Remedy(StrEnum):
    """What mends a finding."""

    CREATE = "create"
    REPLACE = "replace"
    DELETE = "delete"
    WAIT = "wait"
    CONFIRM = "confirm"
    RESUME = "resume"
    GRANT = "grant"


MENDS = {
    Remedy.CREATE: "Slotwire makes a new one.",
    Remedy.REPLACE: "Slotwire makes a new one first, and deletes this one when that is verified.",
    Remedy.DELETE: "Slotwire deletes it at Calendly.",
    Remedy.WAIT: "Nothing to do: it passes, or another step waits for it.",
    Remedy.CONFIRM: "The database was restored or copied, so nothing is deleted at Calendly. If no other installation"
    " uses these subscriptions: slotwire subscriptions confirm-deletions",
    Remedy.RESUME: "Find out who or what deletes it, then: slotwire subscriptions resume --organization ORG",
    Remedy.GRANT: "Give the token's user the plan, the role or the scopes, or leave these events out:"
    " slotwire subscriptions create --event …",
}
"""Each remedy in words."""


@dataclass(frozen=True, slots=True)
class SubscriptionFinding:
    """One thing that is wrong.

    Attributes:
        kind: what.
        place: the scope and subject concerned.
        remedy: what mends it.
        applied: whether Slotwire does that by itself; otherwise a person has to.
        subscription: ours, if it is about one.
        uri: Calendly's URI for it, where Calendly has it.
        since: when it began, as far as is known.
        events: the events concerned; empty for all.
    """

    kind: FindingKind
    place: Place
    remedy: Remedy
    applied: bool = True
    subscription: UUID | None = None
    uri: str | None = None
    since: datetime | None = None
    events: tuple[str, ...] = ()


def about(
    kind: FindingKind,
    item: SubscriptionRecord,
    found: CalendlySubscription | None,
    remedy: Remedy,
    *,
    applied: bool = True,
    since: datetime | None = None,
) -> SubscriptionFinding:
    """Make the finding about one of our subscriptions."""
    uri = item.provider_uri if found is None else found.uri
    return SubscriptionFinding(kind, item.place, remedy, applied, item.id, uri, since)
