"""What a fetch reads: what the organization is subscribed to, as far as one credential can read it. Pure.

Meetings of the whole organization where its bookings are wanted in that scope, else those of each user or group for
whom they are. Contacts and recaps are lists of the credential's own user: others' are not read, and nothing is inferred
from their absence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.subscription_facts import WantedSubscription

_BOOKINGS = ("invitee.", "invitee_no_show.")
SUBMITTED = "routing_form_submission.created"


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What to read.

    Attributes:
        hosts: whose meetings: pairs of a scope and the URI of its user or group, empty for the whole organization.
        events: Calendly's names of the wanted events that are not about bookings, and that can be read.
        event_types_of: the user whose event types are wanted; None for the organization's.
        out_of_reach: what is wanted and this credential does not list, in words.
    """

    hosts: tuple[tuple[Scope, str], ...]
    events: frozenset[str]
    event_types_of: str | None
    out_of_reach: tuple[str, ...]


def plan_fetch(wanted: Sequence[WantedSubscription], user: str) -> FetchPlan:
    """Decide what to read for the subscriptions that are wanted, as a user; the organization's meetings if none is."""
    hosts: tuple[tuple[Scope, str], ...] = tuple(
        (each.scope, each.subject) for each in wanted if any(name.startswith(_BOOKINGS) for name in each.events)
    )
    if not wanted or ("organization", "") in hosts:
        hosts = (("organization", ""),)
    own: set[str] = set()
    others: dict[str, None] = {}
    for each in wanted:
        rest = {name for name in each.events if not name.startswith(_BOOKINGS)}
        if each.scope == "organization" or each.subject == user:
            own |= rest
        else:
            others.update({f"{name.partition('.')[0]}s of {each.subject}": None for name in sorted(rest)})
    everybodys = {name for each in wanted if each.scope == "organization" for name in each.events}
    of_all = any(name.startswith("event_type.") for name in everybodys)
    return FetchPlan(hosts, frozenset(own), None if of_all else user, tuple(others))
