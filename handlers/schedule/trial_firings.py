"""Firings of a trial."""

from __future__ import annotations

from datetime import datetime

from slotwire.handlers.due_times import MomentTimes
from slotwire.handlers.firings import Meeting, firing_partition, firing_record
from slotwire.handlers.reach.chains import BookingSnapshot
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent


def trial_record(
    agent: Agent, schedule: str, due: datetime, organization: str, booking: BookingSnapshot | None
) -> Record:
    """Write the firing of an agent's schedule as a record.

    Raises:
        ValueError: the agent has no such schedule, or a moment has no booking with its times.
    """
    if schedule not in agent.schedules:
        raise ValueError(f"agent {agent.name} has no {schedule!r}: it has {', '.join(agent.schedules) or 'none'}")
    times, meeting = agent.schedules[schedule].times, None
    if isinstance(times, MomentTimes):
        if booking is None or not (booking.scheduled_event and booking.start_time and booking.end_time):
            raise ValueError("a moment needs booking=BookingSnapshot(…) with its scheduled event, start and end")
        about = (booking.scheduled_event, booking.start_time, booking.end_time)
        meeting = Meeting(times.kind, booking.invitee, booking.invitee, *about)
        due = times.shift + (booking.end_time if times.of_end else booking.start_time)
    partition = firing_partition("")
    return firing_record(agent.name, schedule, due, organization, partition=partition, meeting=meeting)
