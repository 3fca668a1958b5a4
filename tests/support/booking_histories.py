"""Histories of bookings as Calendly would report them, fact by fact, and histories that contradict themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.normalize import InviteeEvent, InviteeFact
from slotwire.schemas.calendly import EventMembership, InviteePayload, Location, NoShow, ScheduledEvent

ORG = "https://api.calendly.com/organizations/A"
TENANT = Tenant(ORG, "A", None)
START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_EVENT = ScheduledEvent(uri="https://api.calendly.com/scheduled_events/E", start_time=START + timedelta(hours=3))


def at(seconds: float) -> datetime:
    """Return a moment of the history, in seconds after its start."""
    return START + timedelta(seconds=seconds)


def invitee(name: str, event: str | None = None) -> str:
    """Name an invitee; those of a group event share the event."""
    return f"https://api.calendly.com/scheduled_events/{event or name}/invitees/{name}"


_POSITIONS = count(1)


def fact(kind: InviteeEvent, uri: str, sent: float, *, payload: InviteePayload, tenant: Tenant = TENANT) -> InviteeFact:
    """Make a fact as `normalize` would."""
    moment, position = at(int(sent)), next(_POSITIONS)
    delivery = Delivery(
        position=position,
        total=position,
        id=uuid4(),
        tenant=tenant,
        origin=Origin.WEBHOOK,
        form=Origin.WEBHOOK,
        stale=False,
        content_encoding="",
        received_at=moment,
        signed_at=moment,
        traceparent=None,
        body=b"{}",
    )
    return InviteeFact(delivery, kind, payload.model_copy(update={"uri": uri}), moment)


def payload_of(
    *,
    status: str | None = "active",
    updated: float | None,
    old: str | None = None,
    new: str | None = None,
    mark: NoShow | None = None,
    event: ScheduledEvent | None = _EVENT,
) -> InviteePayload:
    """Make a payload; the fields that change are arguments."""
    return InviteePayload(
        uri="set later",
        status=status,
        created_at=at(0),
        updated_at=None if updated is None else at(updated),
        old_invitee=old,
        new_invitee=new,
        no_show=mark,
        rescheduled=new is not None,
        scheduled_event=event,
    )


def created(name: str, sent: float, *, old: str | None = None, new: str | None = None) -> InviteeFact:
    """An invitee booked, perhaps in place of another one."""
    payload = payload_of(updated=sent, old=old and invitee(old), new=new and invitee(new))
    return fact(InviteeEvent.CREATED, invitee(name), sent, payload=payload)


def canceled(name: str, sent: float, *, old: str | None = None, new: str | None = None) -> InviteeFact:
    """An invitee's booking was cancelled, perhaps because it moved."""
    payload = payload_of(status="canceled", updated=sent, old=old and invitee(old), new=new and invitee(new))
    return fact(InviteeEvent.CANCELED, invitee(name), sent, payload=payload)


def marked(name: str, sent: float, *, number: float | None = None, time: float | None = None) -> InviteeFact:
    """A no-show was marked: half a second after the delivery was sent, unless `time` says otherwise."""
    uri = f"https://api.calendly.com/invitee_no_shows/{name}{sent if number is None else number}"
    mark = NoShow(uri=uri, created_at=at(sent + 0.5 if time is None else time))
    return fact(InviteeEvent.NO_SHOW_CREATED, invitee(name), sent, payload=payload_of(updated=0, mark=mark))


def cleared(name: str, sent: float) -> InviteeFact:
    """A no-show was cleared; the payload does not say which one."""
    return fact(InviteeEvent.NO_SHOW_DELETED, invitee(name), sent, payload=payload_of(updated=0))


def chain(names: list[str], *, group: str | None = None, cancel_last: bool = True) -> list[InviteeFact]:
    """A booking moves from invitee to invitee and, if so, is cancelled at the end."""
    uris = [invitee(name, group and f"{group}{position}") for position, name in enumerate(names)]
    facts = []
    for position, uri in enumerate(uris):
        old = uris[position - 1] if position else None
        new = uris[position + 1] if position + 1 < len(uris) else None
        sent = position * 10
        facts.append(fact(InviteeEvent.CREATED, uri, sent, payload=payload_of(updated=sent, old=old)))
        if new or cancel_last:
            payload = payload_of(status="canceled", updated=sent + 10, old=old, new=new)
            facts.append(fact(InviteeEvent.CANCELED, uri, sent + 10, payload=payload))
    return facts


def no_shows(name: str) -> list[InviteeFact]:
    """A booking whose no-show is set, cleared, set and cleared again."""
    return [created(name, 0), marked(name, 20), cleared(name, 30), marked(name, 40), cleared(name, 50)]


def differing_payloads(name: str) -> list[InviteeFact]:
    """A booking whose payloads differ in what is there, in order and within one time."""

    def meeting(updated: float | None, start: float | None, *hosts: str, place: str | None = None) -> ScheduledEvent:
        return ScheduledEvent(
            uri=f"https://api.calendly.com/scheduled_events/{name}",
            updated_at=None if updated is None else at(updated),
            start_time=None if start is None else at(start),
            event_memberships=[EventMembership(user=host) for host in hosts],
            location=Location(type=place),
        )

    payloads = [
        payload_of(updated=0, event=meeting(0, 9000, "a")),
        payload_of(updated=0, event=None),
        payload_of(updated=5, event=meeting(5, 9100, "b", place="zoom")),
        payload_of(updated=5, event=meeting(5, 9100, "c")),
        payload_of(updated=5, status=None, event=meeting(7, None, "b", "c", place="physical")),
        payload_of(updated=6, event=meeting(None, 9200)),
        payload_of(updated=None, event=meeting(None, 9300, "d")),
        payload_of(updated=None, status="a status of tomorrow", event=None),
    ]
    facts = [fact(InviteeEvent.CREATED, invitee(name), 0, payload=payload) for payload in payloads]
    payload = payload_of(updated=6, status="canceled", event=None)
    return [*facts, fact(InviteeEvent.CANCELED, invitee(name), 10, payload=payload)]


HISTORIES: dict[str, list[InviteeFact]] = {
    "cancelled": chain(["a"]),
    "chain of three": chain(["a", "b", "c"]),
    "chain of three, kept": chain(["a", "b", "c"], cancel_last=False),
    "chain of five": chain(["e", "d", "c", "b", "a"]),
    "two of a group that moves": [*chain(["a", "b"], group="g"), *chain(["x", "y"], group="g")],
    "three of a group that moves twice": [
        *chain(["a", "b", "c"], group="g"),
        *chain(["x", "y", "z"], group="g"),
        *chain(["m", "n"], group="g", cancel_last=False),
    ],
    "no-shows": no_shows("a"),
    "no-shows and a cancel": [*no_shows("a"), canceled("a", 60)],
    "no-shows along a chain": [*chain(["a", "b"]), marked("b", 21), cleared("b", 25), marked("a", 5)],
    "a mark whose clear never came": [marked("a", 20), marked("a", 40), cleared("a", 50)],
    "a clear whose mark never came": [created("a", 0), cleared("a", 10), marked("a", 20), cleared("a", 30)],
    "two toggles within one second": [
        marked("a", 20, number=1, time=20.1),
        cleared("a", 20),
        marked("a", 20, number=2, time=20.7),
        cleared("a", 20),
    ],
    "a mark with two times": [marked("a", 20, number=1, time=25), marked("a", 20, number=1, time=20), cleared("a", 30)],
    "payloads that differ": differing_payloads("a"),
}
"""Histories that Calendly may report."""

CONTRADICTIONS: dict[str, list[InviteeFact]] = {
    "itself": [created("a", 0, old="a", new="a"), canceled("a", 10, old="a", new="a")],
    "one neighbour on both sides": [
        created("b", 10, old="a", new="a"),
        canceled("a", 10, new="b"),
        canceled("b", 20, old="a", new="a"),
    ],
    "a circle": [
        created("a", 0, old="c"),
        created("b", 10, old="a"),
        created("c", 20, old="b"),
        canceled("a", 10, new="b"),
        canceled("b", 20, new="c"),
        canceled("c", 30, new="a"),
    ],
    "two newer ones": [
        created("a", 0),
        canceled("a", 10, new="b"),
        created("b", 10, old="a"),
        created("c", 10, old="a"),
        canceled("c", 20),
    ],
    "two older ones": [
        canceled("a", 10, new="c"),
        canceled("b", 10, new="c"),
        created("c", 10, old="a"),
        canceled("c", 20, old="b"),
        created("b", 0, old="z"),
    ],
    "a chain that leads back": [*chain(["s", "t", "p"]), created("s", 0, old="r"), created("r", 0, old="p")],
}
"""Histories that Calendly should never report, and that must do no harm if it does."""
