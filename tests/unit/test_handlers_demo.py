"""The demo agent: a line a person can follow, facts a program can read, and no name but on the local stack."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from slotwire.handlers import Agent
from slotwire.handlers.agents.demo import agent as demo
from slotwire.handlers.agents.demo import facts_of, json_agent, line_of, local_agent
from slotwire.handlers.testing import BookingSnapshot, RecordStatus, Trial, event_of
from slotwire.schemas.calendly import ScheduledEvent
from slotwire.schemas.events import (
    EVENT_CLASSES,
    BookingState,
    ContactUpdated,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeRescheduled,
    RoutingFormSubmissionCreated,
)

URI = "https://api.calendly.com/scheduled_events/E/invitees/8f2c41d0-aaaa"
START = datetime(2026, 11, 26, 15, 30, tzinfo=UTC)
ACTIVE = BookingState(state="active", revision=1, chain_root=URI)
MEETING = ScheduledEvent(
    uri="https://api.calendly.com/scheduled_events/5a1e77c2-bbbb", name="Alice and Bob", start_time=START
)


def created() -> InviteeCreated:
    """Make a booking by somebody with a name."""
    return InviteeCreated(
        uri=URI, name="Alice Example", email="alice@example.com", scheduled_event=MEETING, booking=ACTIVE
    )


def test_a_booking_is_one_line_without_names() -> None:
    """The line has the invitee's short identifier, what happened, the meeting, its start, the state, the latency."""
    line = line_of(event_of(created(), key="chain"), latency_ms=12.34, colour=False)
    assert line.split()[1:] == [
        *("8f2c41d0", "booked", "5a1e77c2", "Thu", "26", "Nov", "15:30", "active", "12.3", "ms"),
    ]
    assert "Bob" not in line
    named = line_of(event_of(created(), key="chain"), latency_ms=12.34, colour=False, named=True)
    assert "booked          Alice and Bob   " in named


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (InviteeCanceled(uri=URI, booking=ACTIVE.model_copy(update={"state": "canceled"})), "cancelled"),
        (InviteeCanceled(uri=URI, rescheduled=True, booking=ACTIVE), "moved away"),
        (InviteeNoShowCreated(uri=URI, booking=ACTIVE.model_copy(update={"no_show": True})), "no-show"),
        (
            InviteeRescheduled(
                uri=URI, old_invitee=URI, start_time=START, old_start_time=START.replace(day=25), booking=ACTIVE
            ),
            "from Wed 25 Nov 15:30       Thu 26 Nov 15:30",
        ),
        (RoutingFormSubmissionCreated(uri="https://api.calendly.com/routing_form_submissions/F"), "form submitted"),
        (ContactUpdated(uri="https://api.calendly.com/contacts/C"), "contact updated"),
    ],
)
def test_each_event_has_its_words(data: InviteeCanceled, words: str) -> None:
    """Every kind of event says what it is, also when most of its fields are absent."""
    assert words in line_of(event_of(data), latency_ms=0, colour=False)


def test_events_of_a_booking_have_one_symbol() -> None:
    """Events of one key begin with the same symbol, coloured on a terminal; the inferred ones say so."""
    first = event_of(created(), key="chain")
    second = replace(event_of(InviteeCanceled(uri=URI, booking=ACTIVE), key="chain"), inferred=True)
    assert line_of(first, latency_ms=1, colour=False)[0] == line_of(second, latency_ms=1, colour=False)[0]
    assert line_of(first, latency_ms=1, colour=True).startswith("\x1b[")
    assert line_of(second, latency_ms=1, colour=False).endswith("(inferred)")


@pytest.mark.parametrize(("name", "shown"), [("x" * 26, "x" * 26), ("x" * 27, "x" * 25 + "…"), ("a\x1b[2Jb", "a [2Jb")])
def test_a_meetings_name_fits_and_controls_no_terminal(name: str, shown: str) -> None:
    """A long name is cut at its column's width; control characters of strangers are taken out, of addresses too."""
    meeting = MEETING.model_copy(update={"name": name})
    data = created().model_copy(update={"uri": "https://x/invitees/\x1b[2J", "scheduled_event": meeting})
    line = line_of(event_of(data), latency_ms=0, colour=False, named=True)
    assert f"  {shown} " in line
    assert "\x1b" not in line


def test_facts_are_json() -> None:
    """The facts can be written as JSON and name the story, the state and the time."""
    facts = json.loads(json.dumps(facts_of(event_of(created(), key="chain"), latency_ms=3.21)))
    assert facts["chain"] == "chain"
    assert (facts["what"], facts["state"], facts["revision"]) == ("booked", "active", 1)
    assert (facts["start_time"], facts["latency_ms"]) == ("2026-11-26T15:30:00+00:00", 3.2)
    assert facts["meeting"] == "5a1e77c2"
    assert "bob" not in json.dumps(facts).lower()


@pytest.mark.parametrize("agent", [demo, json_agent, local_agent])
async def test_it_prints_every_event(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """Each form handles every published type, one line an event; and says when a meeting begins, with its symbol."""
    assert set(agent.events) == set(EVENT_CLASSES)
    trial, end = Trial(agent), START + timedelta(minutes=30)
    (result,) = await trial.deliver(event_of(created(), key=URI))
    assert result.status is RecordStatus.DONE
    booked = capsys.readouterr().out
    booking = BookingSnapshot(URI, "active", scheduled_event=MEETING.uri, start_time=START, end_time=end)
    await trial.fire("begun", booking=booking)
    begun = capsys.readouterr().out
    assert (booked.count("\n"), begun.count("\n"), begun[0]) == (1, 1, booked[0])
    assert "8f2c41d0" in begun
    assert "begins" in begun
    assert ("Bob" in booked + begun) is (agent is local_agent)
