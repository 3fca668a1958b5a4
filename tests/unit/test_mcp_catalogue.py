"""What `events/list` says of each type holds for its examples; what could be acted with is in none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import jsonschema
import pytest

from slotwire.ingest.mcp.events.catalogue import LEFT_OUT, arguments_of, descriptor, kept_of, read_arguments
from slotwire.ingest.mcp.events.challenge import failure_word, status_word
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.profiles import PROFILES, EventsProblem, EventsRefused
from slotwire.schemas.events import BY_TYPE, InviteeCreated
from tools.sources import ROOT


@pytest.mark.parametrize("name", sorted(BY_TYPE))
def test_a_type_is_described_as_it_is_told(name: str) -> None:
    """The example of each type fits what is said of its data, whole or by reference; its arguments are closed."""
    told = descriptor(name, PROFILES["draft"])
    assert told["name"] == name
    assert told["description"]
    assert told["delivery"] == ["poll", "push", "webhook"]
    assert descriptor(name, PROFILES["chatgpt"])["delivery"] == ["webhook"]
    example = json.loads((ROOT / "schemas" / "examples" / f"{name}.json").read_text(encoding="utf-8"))
    data = example["value"]
    schema = jsonschema.Draft202012Validator(told["payloadSchema"], format_checker=jsonschema.FormatChecker())
    schema.validate(kept_of(data))
    schema.validate({"reference": "/v1/events/1"})
    assert not {f'"{each}"' for each in LEFT_OUT} & set(json.dumps(kept_of(data)).replace(":", " ").split())
    assert not [each for each in LEFT_OUT if f'"{each}": {{' in json.dumps(told["payloadSchema"])]
    accepted = jsonschema.Draft202012Validator(told["inputSchema"])
    assert not accepted.is_valid({"host": "x"})
    for argument in told["inputSchema"]["properties"]:
        value = "webhook" if argument == "origin" else "example.com"
        accepted.validate({argument: value})
        assert read_arguments(name, {argument: value}) == {argument: value}


def test_arguments_that_the_schema_refuses_are_refused() -> None:
    """The check and the schema that is published agree."""
    accepted = jsonschema.Draft202012Validator(descriptor(InviteeCreated.type, PROFILES["draft"])["inputSchema"])
    for arguments in (
        {"origin": "x"},
        {"invitee_domain": "a b"},
        {"event_type": 1},
        {"user": "u"},
        {"origin": ["own"]},
    ):
        assert not accepted.is_valid(arguments)
        with pytest.raises(EventsRefused):
            read_arguments(InviteeCreated.type, arguments)
    assert set(arguments_of(InviteeCreated.type).model_fields) == {"origin", "event_type", "invitee_domain"}


def test_profiles_differ_where_their_texts_do() -> None:
    """Numbers, ids of messages, gaps, and what an unknown key is answered with."""
    draft, chatgpt, final = PROFILES["draft"], PROFILES["chatgpt"], PROFILES["final"]
    assert [draft.errors[each] for each in EventsProblem] == [-32602, -32023, -32024, -32025, -32026, -32027]
    assert [chatgpt.errors[each] for each in EventsProblem] == [-32602, -32011, -32012, -32013, -32014, -32015]
    assert (draft.own_message_ids, chatgpt.own_message_ids, final.own_message_ids) == (False, False, True)
    assert (draft.tells_gaps, chatgpt.tells_gaps, final.tells_gaps) == (True, False, True)
    assert (draft.unknown_is_unsubscribed, chatgpt.unknown_is_unsubscribed) == (False, True)


def test_a_failure_is_told_in_the_words_of_the_profile() -> None:
    """Whatever kept an answer from coming is one of the words that `lastError` knows."""
    words = [failure_word(each) for each in ("timeout", "tls_error", "name_unknown", "disconnected")]
    assert words == ["timeout", "tls_error", "connection_refused", "connection_refused"]
    assert [status_word(each) for each in (302, 404, 500, 599)] == ["http_4xx", "http_4xx", "http_5xx", "http_5xx"]


def test_whom_an_event_concerns_is_read_from_any_type() -> None:
    """Hosts of a meeting, the owner of an event type, the user of a connection or of a subscription for one user."""
    seen = {
        '{"scheduled_event": {"event_memberships": [{"user": "u1"}, {"user": "u2"}]}, "email": "a@B.example"}': {
            "u1",
            "u2",
        },
        '{"profile": {"type": "User", "owner": "u1"}}': {"u1"},
        '{"user": "u1", "kind": "oauth"}': {"u1"},
        '{"scope": "user", "subject": "u1"}': {"u1"},
        '{"hosts": ["u1", "u2"], "invitees": ["i1"]}': {"u1", "u2"},
        '{"before": {"hosts": ["u1"]}, "after": {"hosts": ["u2"], "guests": ["g"]}}': {"u1", "u2"},
        '{"before": {"hosts": null}, "after": {}}': set(),
        '{"scope": "organization", "subject": null}': set(),
        '{"scheduled_event": "E1", "profile": null}': set(),
    }
    now = datetime(2026, 11, 27, tzinfo=UTC)
    for data, users in seen.items():
        event = LogEvent(1, UUID(int=1), InviteeCreated.type, "A", "s", "k", now, now, "webhook", data.encode())
        assert event.concern.users == users
