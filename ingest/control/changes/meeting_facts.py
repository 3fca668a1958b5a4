"""What is compared of a scheduled event, and the event that tells a difference. Pure.

Documents of REST, of webhooks and of the log describe a meeting alike. What one of them leaves out, or has in another
form, is not known of it: that is no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.changes import MeetingDetails, ScheduledEventChanged
from slotwire.schemas.codec import format_time
from slotwire.schemas.ids import ERASED, OrganizationUri, content_digest, event_id, folded_address

FIELDS = ("hosts", "start_time", "end_time", "guests", "location")
"""What is compared."""
PLACE = ("type", "location", "additional_info", "join_url")
"""What is compared of a place: not how far the setting up of a conference is."""
MAX_PEOPLE = 200
"""Hosts, and guests, of a meeting that are compared."""
MAX_TEXT = 2_000
"""Characters of a text that are compared."""
_YEARS = range(2000, 2200)

Facts = Mapping[str, Any]
"""By `FIELDS`, as JSON has it; what is not known is left out."""
NOBODY: Mapping[str, datetime] = MappingProxyType({})


def read_facts(document: Mapping[str, Any], erased: Mapping[str, datetime] = NOBODY) -> Facts:
    """Read what is compared of a scheduled event's document.

    Args:
        document: as REST, a webhook or the log has it.
        erased: addresses of people who were erased, folded: guests who were added until then have no address.
    """
    hosts = _texts(document.get("event_memberships"), "user")
    guests = read_guests(document)
    found: dict[str, Any] = {
        "hosts": hosts or None,  # a meeting has one
        "start_time": _written(_time(document.get("start_time"))),
        "end_time": _written(_time(document.get("end_time"))),
        "guests": None if guests is None else sorted({_named(*each, erased) for each in guests.items()}),
        "location": _place(document["location"]) if "location" in document else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def read_guests(document: Mapping[str, Any]) -> dict[str, datetime | None] | None:
    """Return the guests of a meeting by folded address, with when they were added; None where it has no list."""
    guests, made = document.get("event_guests"), _time(document.get("created_at"))
    if not isinstance(guests, list):
        return None
    found = {
        folded_address(each["email"][:MAX_TEXT]): _time(each.get("created_at")) or made
        for each in guests
        if isinstance(each, dict) and isinstance(each.get("email"), str)
    }
    return {each: found[each] for each in sorted(found)[:MAX_PEOPLE]}


def _named(address: str, added: datetime | None, erased: Mapping[str, datetime]) -> str:
    until = erased.get(address)
    return ERASED if until is not None and (added is None or added <= until) else address


def differences(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return what differs between two pictures of a meeting, of what is known in both."""
    return tuple(
        name for name in FIELDS if name in before and name in after and not _same(name, before[name], after[name])
    )


def changed_event(
    organization: OrganizationUri,
    document: Mapping[str, Any],
    before: Facts,
    after: Facts,
    *,
    change: int,
    now: datetime,
) -> OwnEvent:
    """Make the event that tells what differs; its id is a digest of that.

    Args:
        organization: the organization's URI.
        document: the scheduled event's.
        before: what was known of it.
        after: what it is.
        change: the how manieth change of it this is.
        now: when it is noticed.
    """
    uri, changed = str(document["uri"]), differences(before, after)
    told = [{name: facts[name] or None for name in changed} for facts in (before, after)]
    data = ScheduledEventChanged(
        uri=uri,
        organization=organization,
        changed=list(changed),
        before=MeetingDetails.model_validate(_details(before, changed)),
        after=MeetingDetails.model_validate(_details(after, changed)),
        change=change,
        updated_at=_time(document.get("updated_at")),
        noticed_at=now,
    )
    made = event_id(
        organization,
        "scheduled_event.changed",
        uri,
        f"{change}\n{content_digest({'before': told[0], 'after': told[1]})}",
    )
    return OwnEvent(made, data, subject=uri, key=uri, time=now)


def _details(facts: Facts, changed: tuple[str, ...]) -> dict[str, Any]:
    return {name: (facts[name] or None) if name == "location" else facts[name] for name in changed}


def _same(name: str, before: Any, after: Any) -> bool:
    if name == "guests":  # an erasure leaves them in another order
        return set(before) == set(after)
    if before == after or name != "location":
        return bool(before == after)
    # The link of a conference comes when that is set up: a meeting that had none yet has not been changed.
    return before.get("join_url") is None and before == {**after, "join_url": None} and bool(after)


def _texts(value: object, name: str) -> list[str] | None:
    """Return the texts of a list of objects under a name; None where it is no list."""
    if not isinstance(value, list):
        return None
    found = {each[name][:MAX_TEXT] for each in value if isinstance(each, dict) and isinstance(each.get(name), str)}
    return sorted(found)[:MAX_PEOPLE]


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if found is None or found.tzinfo is None or found.year not in _YEARS:
        return None
    return found.astimezone(UTC)


def _written(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)


def _place(value: object) -> dict[str, Any] | None:
    """Return a place; empty where there is none, None where it cannot be read."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return None
    texts = {name: value.get(name) for name in PLACE}
    return {name: text[:MAX_TEXT] if isinstance(text, str) else None for name, text in texts.items()}
