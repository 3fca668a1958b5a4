"""The topics, their content and their keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic that Slotwire publishes to.

    Attributes:
        name: without the prefix of the settings.
        key: the key of its records, in words.
        compacted: Kafka keeps the last record of each key, instead of the records of the last days.
        single_partition: it has one partition, regardless of the settings.
    """

    name: str
    key: str
    compacted: bool = False
    single_partition: bool = False


INVITEE = Topic("calendly.invitee", "chain_key: a booking and its reschedules")
ROUTING_FORM = Topic("calendly.routing-form", "the submission's URI")
EVENT_TYPE = Topic("calendly.event-type", "the event type's URI")
CONTACT = Topic("calendly.contact", "the contact's URI")
MEETING_RECAP = Topic("calendly.meeting-recap", "the meeting recap's URI")
SCHEDULED_EVENT = Topic("calendly.scheduled-event", "the scheduled event's URI")
OPERATIONS = Topic("slotwire.operations", "the organization's URI")
AVAILABILITY = Topic("slotwire.availability", "the user's and the event type's URI", compacted=True)
RELAY_CURSOR = Topic("slotwire.relay-cursor", "the shard", compacted=True, single_partition=True)

EVENT_TOPICS = (INVITEE, ROUTING_FORM, EVENT_TYPE, CONTACT, MEETING_RECAP, OPERATIONS, SCHEDULED_EVENT)
"""Topics that carry events."""
TOPICS = (*EVENT_TOPICS, AVAILABILITY, RELAY_CURSOR)
"""Every topic that `slotwire migrate` creates."""


def dead_letter_topic(topic: str, agent: str) -> str:
    """Return the topic for an agent's dead letters from a topic, with the prefix if `topic` has it."""
    return f"{topic}.{agent}.dlq"
