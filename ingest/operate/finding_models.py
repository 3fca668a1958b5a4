"""What is wrong with subscriptions, in the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.subscription_findings import MENDS, FindingKind, Remedy, SubscriptionFinding
from slotwire.ingest.operate.models import Model

FindingName = Literal[
    FindingKind.MISSING,
    FindingKind.GONE,
    FindingKind.DISABLED,
    FindingKind.RETRYING,
    FindingKind.DUPLICATED,
    FindingKind.ORPHANED,
    FindingKind.STRAY,
    FindingKind.UNWANTED,
    FindingKind.WRONG_EVENTS,
    FindingKind.WRONG_ADDRESS,
    FindingKind.RENEWAL,
    FindingKind.REPLACING,
    FindingKind.UNVERIFIED,
    FindingKind.PLAN_LOST,
    FindingKind.SCOPE_LOST,
    FindingKind.REFUSED,
    FindingKind.UNWATCHED,
    FindingKind.CONTESTED,
]
"""Written out, so that the OpenAPI document shows the values where they are used."""
RemedyName = Literal[
    Remedy.CREATE, Remedy.REPLACE, Remedy.DELETE, Remedy.WAIT, Remedy.CONFIRM, Remedy.RESUME, Remedy.GRANT
]
"""Written out, too."""


class FindingItem(Model):
    """One thing that is wrong with a subscription at Calendly, and what mends it."""

    organization: str
    finding: FindingName
    """What is wrong: docs/runbooks/subscription-disabled.md has a table of them."""
    scope: Scope
    subject: str | None
    """The URI of the user or group; null for the whole organization."""
    subscription_id: UUID | None
    """Our subscription; null if it is about none of ours."""
    provider_uri: str | None
    """Its URI at Calendly, where Calendly has it."""
    events: tuple[str, ...]
    """The events concerned; empty for all."""
    since: datetime | None
    """When it began, as far as is known."""
    remedy: RemedyName
    """What mends it."""
    applied: bool
    """Whether `slotwire control` does that by itself; if not, somebody has to."""
    advice: str
    """The remedy in words."""


class SubscriptionFindings(Model):
    """What is wrong with an organization's subscriptions at Calendly, found now."""

    organization: str
    findings: tuple[FindingItem, ...]


class PlacesResumed(Model):
    """For how many wanted subscriptions of an organization new ones are made again."""

    organization: str
    resumed: int


class DeletionsConfirmed(Model):
    """Deletions at Calendly are carried out on this database from now on."""

    changed: bool
    """Whether they were only proposed before."""


def finding_item(org: str, finding: SubscriptionFinding) -> FindingItem:
    """Show a finding."""
    scope, subject = finding.place
    return FindingItem(
        organization=org,
        finding=finding.kind,
        scope=scope,
        subject=subject or None,
        subscription_id=finding.subscription,
        provider_uri=finding.uri,
        events=finding.events,
        since=finding.since,
        remedy=finding.remedy,
        applied=finding.applied,
        advice=MENDS[finding.remedy],
    )
