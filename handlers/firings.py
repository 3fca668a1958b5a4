"""What a scheduled function is given, and the records that its firings travel in. Pure.

A firing is handled as an event is, though none is published: its record waits in the agent's queue, in a partition that
no topic has, with an id that follows from what fires and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from slotwire.handlers.due_times import MomentKind
from slotwire.handlers.records import Partition, Record
from slotwire.schemas.calendly import Time
from slotwire.schemas.codec import Attributes, decode, encode_data, encode_headers, format_time
from slotwire.schemas.envelope import Event
from slotwire.schemas.event_data import EventData
from slotwire.schemas.topics import Topic

FIRINGS = Topic("slotwire.firings", "none: nothing is published, but dead letters of firings")
TYPE = "io.slotwire.firing."
"""The type of a firing, before the schedule's name."""
_FIRINGS = uuid5(NAMESPACE_URL, "urn:slotwire:firing")


@dataclass(frozen=True)
class Firing:
    """Scheduled work is due, for one organization.

    Attributes:
        schedule: the name of what fires.
        due: when it was due, in UTC; the run may begin later.
        id: the same whichever process fires it, and however often.
    """

    schedule: str
    due: datetime
    id: UUID


@dataclass(frozen=True)
class Moment(Firing):
    """A moment of a booking has come.

    Attributes:
        kind: `before_start`, `after_start` or `after_end`.
        invitee: the URI of the booking.
        scheduled_event: the URI of the meeting.
        start_time: of the meeting.
        end_time: of the meeting.
    """

    kind: MomentKind
    invitee: str
    scheduled_event: str
    start_time: datetime
    end_time: datetime


class FiringData(EventData):
    """What the record of a firing holds."""

    type: ClassVar[str] = TYPE
    topic: ClassVar[Topic] = FIRINGS

    organization: str
    schedule: str
    due: Time
    kind: Literal["clock", "before_start", "after_start", "after_end"]
    invitee: str | None = None
    scheduled_event: str | None = None
    start_time: Time | None = None
    end_time: Time | None = None


@dataclass(frozen=True)
class Meeting:
    """The booking that a moment belongs to.

    Attributes:
        kind: which moment of it.
        invitee: its URI.
        chain: the key of its chain.
        scheduled_event: the URI of the meeting.
        start_time: of the meeting.
        end_time: of the meeting.
    """

    kind: MomentKind
    invitee: str
    chain: str
    scheduled_event: str
    start_time: datetime
    end_time: datetime


def firing_partition(topic_prefix: str) -> Partition:
    """Return the partition that firings are queued in: one for each agent."""
    return Partition(topic_prefix + FIRINGS.name, 0)


def is_firing(record: Record) -> bool:
    """Say whether a record is that of a firing: no topic has its name."""
    return record.partition.topic.endswith(FIRINGS.name)


def firing_record(
    agent: str,
    schedule: str,
    due: datetime,
    organization: str,
    *,
    partition: Partition,
    tenant: str | None = None,
    meeting: Meeting | None = None,
) -> Record:
    """Write a firing as a record, whose offset the queue gives.

    Args:
        agent: whose schedule it is.
        schedule: its name.
        due: when it is due.
        organization: which it is for.
        partition: where firings are queued.
        tenant: the user's own name for the organization.
        meeting: whose moment it is.
    """
    subject = schedule if meeting is None else meeting.invitee
    made = uuid5(_FIRINGS, "\n".join((agent, schedule, organization, subject, format_time(due))))
    data = FiringData(
        organization=organization,
        schedule=schedule,
        due=due,
        kind="clock" if meeting is None else meeting.kind,
        invitee=None if meeting is None else meeting.invitee,
        scheduled_event=None if meeting is None else meeting.scheduled_event,
        start_time=None if meeting is None else meeting.start_time,
        end_time=None if meeting is None else meeting.end_time,
    )
    key = schedule if meeting is None else f"{schedule} {meeting.chain}"
    context = Attributes(
        id=made,
        type=TYPE + schedule,
        organization=organization,
        subject=subject,
        time=due,
        key=key,
        sequence=0,
        origin="own",
        tenant=tenant,
    )
    return Record(partition, 0, key.encode(), encode_data(data), tuple(encode_headers(context)), due)


def read_event(record: Record, *, elsewhere: bytes | None = None) -> Event[Any]:
    """Read a record: that of a firing, or any other.

    Raises:
        UndecodableRecord: it is no event in a type and form that this version knows.
    """
    known_as = FiringData if is_firing(record) else None
    return decode(record.headers, record.value, elsewhere=elsewhere, known_as=known_as)


def firing_of(event: Event[FiringData]) -> Firing:
    """Return what a scheduled function is given."""
    data = event.data
    if data.kind == "clock":
        return Firing(data.schedule, data.due, event.id)
    if data.invitee is None or data.scheduled_event is None or data.start_time is None or data.end_time is None:
        raise ValueError("the record of a moment names no meeting")
    about = (data.kind, data.invitee, data.scheduled_event, data.start_time, data.end_time)
    return Moment(data.schedule, data.due, event.id, *about)
