"""What counts as a change of a scheduled event, and what does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from slotwire.ingest.control.changes.meeting_facts import changed_event, differences, read_facts
from slotwire.schemas.ids import OrganizationUri

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
ORGANIZATION = OrganizationUri("https://api.calendly.com/organizations/O")
MEETING: dict[str, Any] = {
    "uri": "https://api.calendly.com/scheduled_events/E",
    "start_time": "2026-12-01T09:00:00.000000Z",
    "end_time": "2026-12-01T09:30:00Z",
    "event_memberships": [{"user": "u/1", "user_name": "Ada"}, {"user": "u/2"}],
    "event_guests": [{"email": "A@example.test"}, {"email": "b@example.test"}],
    "location": {"type": "zoom", "status": "processing", "join_url": None, "data": {"id": 5_000_000_000}},
}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"event_memberships": [{"user": "u/3"}]}, ("hosts",)),
        ({"start_time": "2026-12-01T09:15:00Z", "end_time": "2026-12-01T09:45:00Z"}, ("start_time", "end_time")),
        ({"event_guests": []}, ("guests",)),
        ({"event_guests": [{"email": "c@example.test"}, *MEETING["event_guests"]]}, ("guests",)),
        ({"location": {"type": "physical", "location": "1 Example Street"}}, ("location",)),
        ({"location": None}, ("location",)),
        # The same in other words, or the setting up of a conference.
        ({"event_memberships": [{"user": "u/2"}, {"user": "u/1", "user_name": "Ada L."}]}, ()),
        ({"start_time": "2026-12-01T10:00:00+01:00"}, ()),
        ({"event_guests": [{"email": " b@EXAMPLE.test"}, {"email": "a@example.test"}]}, ()),
        ({"location": {"type": "zoom", "status": "pushed", "join_url": "https://zoom.example/j/1", "data": {}}}, ()),
        ({"status": "active", "name": "Other", "updated_at": "2026-11-27T08:00:00Z"}, ()),
        # What is odd or left out is not known.
        ({"event_memberships": [], "event_guests": 5, "start_time": 7, "end_time": "soon", "location": []}, ()),
        ({"start_time": "0001-01-01T00:00:00+14:00", "event_memberships": [{"user": ["u/9"]}]}, ()),
    ],
)
def test_what_is_a_change(change: dict[str, Any], changed: tuple[str, ...]) -> None:
    """Hosts, times, guests and place, whatever form they come in."""
    assert differences(read_facts(MEETING), read_facts({**MEETING, **change})) == changed
    assert differences(read_facts({}), read_facts({**MEETING, **change})) == ()


def test_the_id_is_of_what_changed() -> None:
    """The same difference told again has the same id; another one, or the same for a second time, has another."""
    before, moved = read_facts(MEETING), {**MEETING, "event_memberships": [{"user": "u/3"}]}
    after = read_facts(moved)
    first = changed_event(ORGANIZATION, moved, before, after, change=1, now=NOW)
    again = changed_event(
        ORGANIZATION, {**moved, "updated_at": "2026-11-27T08:00:00Z"}, before, after, change=1, now=NOW
    )
    assert first.id == again.id
    assert first.id != changed_event(ORGANIZATION, moved, before, after, change=3, now=NOW).id
    data = first.data.model_dump(exclude_none=True)
    assert (data["changed"], data["before"], data["after"]) == (
        ["hosts"],
        {"hosts": ["u/1", "u/2"]},
        {"hosts": ["u/3"]},
    )
    assert (first.key, first.subject) == (MEETING["uri"], MEETING["uri"])
