"""Which events can be subscribed to, and in which scope. Pure.

Source: docs/reference/calendly.md, "Events".
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ingest.errors import RequestRefused

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
"""What a subscription for a whole organization may ask for."""
USER_EVENTS = ("meeting_recap.created", "meeting_recap.updated", "meeting_recap.deleted")
"""What only a subscription for one user may ask for."""
DEFAULT_EVENTS = ORGANIZATION_EVENTS[:5]
"""What is subscribed to when nothing is named: bookings, and what the least set of scopes reads."""


def checked_events(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the events to subscribe an organization to, in the catalogue's order, each once.

    Args:
        wanted: names as Calendly writes them; empty means `DEFAULT_EVENTS`.

    Raises:
        RequestRefused: Calendly has no such event, or has it in another scope only.
    """
    if not wanted:
        return DEFAULT_EVENTS
    for name in wanted:
        if name in USER_EVENTS:
            raise RequestRefused(
                f"Calendly sends {name} to subscriptions of one user only",
                code="event_of_users_only",
                remedy="This version makes subscriptions for whole organizations: leave the event out.",
            )
        if name not in ORGANIZATION_EVENTS:
            near = difflib.get_close_matches(name, ORGANIZATION_EVENTS, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise RequestRefused(
                f"Calendly has no event {name[:100]!r}",
                code="event_unknown",
                remedy=f"{hint}It has: {', '.join(ORGANIZATION_EVENTS)}.",
            )
    return tuple(name for name in ORGANIZATION_EVENTS if name in wanted)
