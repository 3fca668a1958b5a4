"""Which events can be subscribed to, and in which scope. Pure.

Source: docs/reference/calendly.md, "Events".
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, TypeAlias

from slotwire.ingest.errors import RequestRefused

Scope: TypeAlias = Literal["organization", "user", "group"]
"""The scope of a subscription."""

ORGANIZATION_EVENTS = (
    "invitee.created",
    "invitee.canceled",
    "invitee_no_show.created",
    "invitee_no_show.deleted",
    "routing_form_submission.created",
    "event_type.created",
    "event_type.updated",
    "event_type.deleted",
    "contact.created",
    "contact.updated",
    "contact.deleted",
)
"""Events that a subscription of a whole organization may have."""
USER_EVENTS = ("meeting_recap.created", "meeting_recap.updated", "meeting_recap.deleted")
"""Events that only a subscription of one user may have."""
EVENTS = ORGANIZATION_EVENTS + USER_EVENTS
"""All events, in the catalogue's order."""
_OF_ORGANIZATIONS_ONLY = frozenset({"routing_form_submission.created"})
_SCOPES = {
    "invitee": "scheduled_events:read",
    "invitee_no_show": "scheduled_events:read",
    "routing_form_submission": "routing_forms:read",
    "event_type": "event_types:read",
    "contact": "contacts:read",
    "meeting_recap": "meeting_recaps:read",
}
BOOKINGS = "scheduled_events:read"
"""The family of events about bookings."""
MANAGING_SCOPES = ("users:read", "organizations:read", "webhooks:write")
"""OAuth scopes that the manager's token needs for any event."""
DEFAULT_EVENTS = ORGANIZATION_EVENTS[:5]
"""Subscribed to by default: bookings, and the other events that need few scopes."""


def checked_events(wanted: Sequence[str], scope: Scope = "organization") -> tuple[str, ...]:
    """Return the events to subscribe to in one scope, in the catalogue's order, without repetitions.

    Args:
        wanted: names as Calendly writes them; empty means those of `DEFAULT_EVENTS` that the scope has.
        scope: the subscription's scope.

    Raises:
        RequestRefused: Calendly has no such event (`event_unknown`), or not in this scope (`event_of_another_scope`).
    """
    if not wanted:
        return tuple(name for name in DEFAULT_EVENTS if _allowed(name, scope))
    for name in wanted:
        if name not in EVENTS:
            near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise RequestRefused(
                f"Calendly has no event {name[:100]!r}",
                code="event_unknown",
                remedy=f"{hint}Calendly has: {', '.join(EVENTS)}.",
            )
        if not _allowed(name, scope):
            only = "one user" if name in USER_EVENTS else "a whole organization"
            raise RequestRefused(
                f"Calendly sends {name} to subscriptions of {only} only",
                code="event_of_another_scope",
                remedy="Leave the event out, or create a separate subscription of that scope for it.",
            )
    return tuple(name for name in EVENTS if name in wanted)


def split_events(wanted: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split events by the widest scope that has them: the organization's first, then those for one user.

    Raises:
        RequestRefused: Calendly has no such event (`event_unknown`).
    """
    of_user = tuple(name for name in wanted if name in USER_EVENTS)
    rest = tuple(name for name in wanted if name not in USER_EVENTS)
    return checked_events(rest) if rest or not wanted else (), checked_events(of_user, "user") if of_user else ()


def needed_scopes(events: Sequence[str]) -> tuple[str, ...]:
    """Return the OAuth scopes that the manager's token needs for these events."""
    read = {_SCOPES[name.partition(".")[0]] for name in events}
    return (*MANAGING_SCOPES, *sorted(read))


def family_of(event: str) -> str:
    """Return an event's family: the OAuth scope that it needs. Plan and scopes allow whole families, or none of one."""
    return _SCOPES[event.partition(".")[0]]


def _allowed(name: str, scope: Scope) -> bool:
    if name in USER_EVENTS:
        return scope == "user"
    return scope == "organization" or name not in _OF_ORGANIZATIONS_ONLY
