"""Which events can be subscribed to, in which scope, and which of them this version publishes. Pure.

Source: docs/reference/calendly.md, "Events".
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ingest.errors import RequestRefused
from schemas.events import EVENT_CLASSES

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
PUBLISHED = frozenset(cls.calendly_event for cls in EVENT_CLASSES if cls.calendly_event is not None)
"""What this version turns into events. Anything else would come only to lie in quarantine."""
DEFAULT_EVENTS = tuple(name for name in ORGANIZATION_EVENTS if name in PUBLISHED)
"""What is subscribed to when nothing is named."""


def checked_events(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the events to subscribe an organization to, in the catalogue's order, each once.

    Args:
        wanted: names as Calendly writes them; empty means all that this version publishes.

    Raises:
        RequestRefused: Calendly has no such event, has it in another scope only, or we do not publish it.
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
                remedy=f"{hint}This version publishes: {', '.join(DEFAULT_EVENTS)}.",
            )
        if name not in PUBLISHED:
            raise RequestRefused(
                f"this version does not publish {name}",
                code="event_not_published",
                remedy=f"It publishes: {', '.join(DEFAULT_EVENTS)}.",
            )
    return tuple(name for name in ORGANIZATION_EVENTS if name in wanted)
