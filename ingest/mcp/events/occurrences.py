"""Pure: an event of the log, whom it concerns, and how an agent is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from slotwire.ingest.mcp.events.catalogue import REFERENCE, UNTRUSTED, kept_of, typed_places
from slotwire.schemas.codec import format_time

MAX_BODY_BYTES = 262_144
"""An occurrence that is longer is sent with a reference in place of its data (SEP-3415: bodies SHOULD be ≤ 256 KiB)."""
_ROOM_BYTES = 4_096
"""What an occurrence has beside its data, at the most: ids, times, a cursor."""


class Concern(NamedTuple):
    """What of an event is compared with what somebody wants.

    Attributes:
        users: URIs of those who see it as theirs: hosts, an owner, a connection's user.
        event_type: the URI of the event type; None where it has none.
        domain: of the invitee's mail address, in lower case.
        routing_form: the URI of the form.
    """

    users: frozenset[str]
    event_type: str | None
    domain: str | None
    routing_form: str | None


@dataclass(frozen=True)
class LogEvent:
    """An event as the log has it.

    Attributes:
        position: in its shard.
        id: the same over every path.
        type: its type, which is the name it is asked for by.
        org: the last segment of the organization's URI.
        key: of its Kafka record; of bookings the chain.
        time: when it happened.
        recorded_at: when it came in.
        origin: how it came in.
        raw: its data, JSON.
        booked: the data of what its invitee booked, where its own does not say.
        hosts: of that booking, as they are known now.
    """

    position: int
    id: UUID
    type: str
    org: str
    subject: str
    key: str
    time: datetime
    recorded_at: datetime
    origin: str
    raw: bytes
    booked: bytes | None = None
    hosts: tuple[str, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LogEvent:
        """Read a row of `mcp_published`."""
        return cls(
            position=row["position"],
            id=row["event_id"],
            type=row["type"],
            org=row["org"],
            subject=row["subject"],
            key=row["key"],
            time=row["time"],
            recorded_at=row["recorded_at"],
            origin=row["origin"],
            raw=row["data"],
            booked=row["booked"],
            hosts=tuple(row["hosts"] or ()),
        )

    @cached_property
    def concern(self) -> Concern:
        """Whom it concerns."""
        data = orjson.loads(self.raw if self.booked is None else self.booked)
        meeting = data.get("scheduled_event")
        meeting = meeting if isinstance(meeting, dict) else {}
        members = meeting.get("event_memberships") or data.get("event_memberships") or ()
        profile = data.get("profile") or {}
        users = {each.get("user") for each in members}
        users |= {data.get("user"), profile.get("owner"), *self.hosts, *(data.get("hosts") or ())}
        for side in (data.get("before"), data.get("after")):
            users |= set((side.get("hosts") if isinstance(side, dict) else None) or ())
        if data.get("scope") == "user":
            users.add(data.get("subject"))
        is_event_type = self.type.startswith("com.calendly.event_type.")
        domain = (data.get("email") or "").rpartition("@")[2].lower()
        return Concern(
            users=frozenset(each for each in users if isinstance(each, str)),
            event_type=data.get("uri") if is_event_type else meeting.get("event_type") or data.get("event_type"),
            domain=domain or None,
            routing_form=data.get("routing_form"),
        )

    @cached_property
    def occurrence(self) -> dict[str, Any]:
        """How an agent is told of it, without a cursor."""
        data = kept_of(orjson.loads(self.raw))
        told: dict[str, Any] = {
            "eventId": str(self.id),
            "name": self.type,
            "timestamp": format_time(self.time),
            "data": data,
        }
        typed = typed_places(data) if self.type.startswith("com.calendly.") else []
        if typed:
            told["_meta"] = {UNTRUSTED: typed}
        if len(orjson.dumps(told)) > MAX_BODY_BYTES - _ROOM_BYTES:
            told["data"] = {REFERENCE: f"/v1/events/{self.id}"}
            told.pop("_meta", None)
        return told


@dataclass(frozen=True)
class WantedEvents:
    """What somebody may see and has asked for.

    Attributes:
        org: the organization.
        name: the type.
        user: only what concerns this user; None: all of the organization.
        chain: only this chain of bookings; None: all.
        arguments: further limits.
    """

    org: str
    name: str
    user: str | None
    chain: UUID | None
    arguments: Mapping[str, str]

    @property
    def place(self) -> tuple[str | None, str | None, str | None]:
        """Where an index has it: user, event type, domain; None stands for any."""
        return self.user, self.arguments.get("event_type"), self._domain

    @property
    def _domain(self) -> str | None:
        domain = self.arguments.get("invitee_domain")
        return None if domain is None else domain.lower()

    def has(self, event: LogEvent) -> bool:
        """Say whether an event is of what is wanted."""
        if event.org != self.org or event.type != self.name:
            return False
        if self.chain is not None and event.key != str(self.chain):
            return False
        concern, (user, event_type, domain) = event.concern, self.place
        form, origin = self.arguments.get("routing_form"), self.arguments.get("origin")
        return (
            (user is None or user in concern.users)
            and (event_type is None or event_type == concern.event_type)
            and (domain is None or domain == concern.domain)
            and (form is None or form == concern.routing_form)
            and (origin is None or origin == event.origin)
        )


def places_of(event: LogEvent) -> list[tuple[str | None, str | None, str | None]]:
    """Return every place of an index at which somebody may want an event."""
    concern = event.concern
    event_types = [None] if concern.event_type is None else [concern.event_type, None]
    domains = [None] if concern.domain is None else [concern.domain, None]
    return [(user, kind, domain) for user in (*concern.users, None) for kind in event_types for domain in domains]
