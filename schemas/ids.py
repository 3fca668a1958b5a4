"""Identifiers: a type for each kind of opaque string, and the identifiers we derive.

Calendly's identifiers are full URIs whose last segment is `[A-Za-z0-9_-]+`: sixteen upper-case characters in
old accounts, UUIDs in new ones, sometimes both in one payload (docs/reference/calendly.md, "Parsing"). Nothing here
parses them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NewType
from uuid import NAMESPACE_URL, UUID, uuid5

OrganizationUri = NewType("OrganizationUri", str)
"""`https://api.calendly.com/organizations/{org}`: the tenant."""
InviteeUri = NewType("InviteeUri", str)
"""`https://api.calendly.com/scheduled_events/{event}/invitees/{invitee}`: the identity of a booking."""
EventId = NewType("EventId", UUID)
"""Ours, deterministic: the same fact has the same id by webhook, retry, second subscription or backfill."""
ChainKey = NewType("ChainKey", str)
"""The Kafka key of a booking and its reschedules."""

_EVENTS = uuid5(NAMESPACE_URL, "urn:slotwire:event").bytes
_CHAINS = uuid5(NAMESPACE_URL, "urn:slotwire:chain").bytes
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EXACT = 2**53
_FREE_BITS = ~(0xF << 76) & ~(0x3 << 62)
_VERSION_5 = (0x5 << 76) | (0x2 << 62)


def _named(namespace: bytes, name: str) -> UUID:
    """Return the UUID version 5 of a name, as `uuid.uuid5` does, in half the time."""
    digest = hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()
    return UUID(int=int.from_bytes(digest[:16], "big") & _FREE_BITS | _VERSION_5)


def _named_text(namespace: bytes, name: str) -> str:
    """Return the same UUID as text, in a third of the time that `str(_named(…))` takes."""
    text = hashlib.sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


def event_id(organization: str, event: str, resource: str, discriminator: str = "") -> EventId:
    """Derive an event's id from Calendly's own words.

    Args:
        organization: the organization's URI.
        event: the event's name without version, for example `invitee.created`.
        resource: the URI of the resource that the event is about.
        discriminator: distinguishes events of the same name and resource: docs/explanation/ordering-and-identity.md.
    """
    return EventId(_named(_EVENTS, f"{organization}\n{event}\n{resource}\n{discriminator}"))


def content_digest(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of what a payload says, however it is written.

    Copies differ in the order of keys, in null against absent, in the digits of a number or a time and in a time's
    offset: none of these changes the digest. Whether a field is known to this version does not matter either, so that
    an id stays the same when a later version knows more fields.

    Args:
        payload: as `json.loads` gives it.
    """
    text = json.dumps(_canonical(payload), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Choose one of the ways to write a JSON value."""
    match value:
        case dict():
            return {name: _canonical(item) for name, item in value.items() if item is not None}
        case list():
            return [_canonical(item) for item in value]
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case str() if _TIME.fullmatch(value):
            return _utc(value)
        case _:
            return value


def _utc(time: str) -> str:
    """Write a time in UTC; what only looks like one stays as it is."""
    try:
        return datetime.fromisoformat(time.upper()).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return time


def chain_key(organization: str, invitee: str) -> ChainKey:
    """Derive the key of a chain from its organization and its first known invitee."""
    return ChainKey(_named_text(_CHAINS, f"{organization}\n{invitee}"))


ERASED = "erased"
"""In place of the address of a guest who was erased, as `slotwire.without_address` writes it, too."""


def folded_address(email: str) -> str:
    """Write an e-mail address as it is compared: spaces around it and its case do not matter."""
    return email.strip().lower()


def person_digest(email: str) -> str:
    """Return the SHA-256, in hex, of an e-mail address, folded: spaces around it and its case do not matter."""
    return hashlib.sha256(email.strip().casefold().encode()).hexdigest()


def last_segment(uri: str) -> str:
    """Return the part after the last slash: the identifier within its collection."""
    return uri.rstrip("/").rpartition("/")[2]


def shard_of(organization: str, shards: int) -> int:
    """Return the organization's shard of the log, stable for ever for a given number of shards."""
    return int.from_bytes(hashlib.sha256(organization.encode()).digest()[:8], "big") % shards
