"""Nobody who holds a released schema breaks: each kind of breaking change is planted and refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from slotwire.schemas.events import InviteeCreated
from tools.generate import __main__ as command
from tools.generate import compatibility
from tools.generate.compatibility import BreakingChange, breaks, changes, release, released
from tools.generate.json_schemas import Schema, json_schema, json_schemas

KIND = InviteeCreated.type
STATES = 'the value "active" or the value "canceled"'
Change = Callable[[Schema], Any]


def fields(schema: Schema, name: str = "") -> Schema:
    """Return the properties of a schema, or of one of its objects."""
    found: Schema = (schema["$defs"][name] if name else schema)["properties"]
    return found


def options(*kinds: str) -> Schema:
    """Return a schema of several types."""
    return {"anyOf": [{"type": kind} for kind in kinds], "default": None}


BREAKING: dict[str, tuple[Change, str]] = {
    "removed field": (lambda schema: fields(schema).pop("email"), "data.email: was removed"),
    "removed field of an object": (
        lambda schema: fields(schema, "EventMembership").pop("user"),
        "data.scheduled_event.event_memberships[].user: was removed",
    ),
    "narrowed type": (
        lambda schema: fields(schema).update(email={"type": "string", "default": None}),
        "data.email: its type was narrowed from string or null to string",
    ),
    "widened type": (
        lambda schema: fields(schema).update(email=options("string", "integer", "null")),
        "data.email: its type was widened from string or null to string or integer or null",
    ),
    "changed type": (
        lambda schema: fields(schema).update(email=options("integer", "null")),
        "data.email: its type was changed from string or null to integer or null",
    ),
    "lost format": (
        lambda schema: fields(schema).update(created_at=options("string", "null")),
        "data.created_at: its type was changed from string date-time or null to string or null",
    ),
    "list of something else": (
        lambda schema: fields(schema, "ScheduledEvent").update(
            event_memberships={"type": "array", "items": {"type": "string"}}
        ),
        "data.scheduled_event.event_memberships[]: its type was changed from object to string",
    ),
    "narrowed enum": (
        lambda schema: fields(schema, "BookingState")["state"]["enum"].remove("canceled"),
        f'data.booking.state: its type was narrowed from {STATES} to the value "active"',
    ),
    "widened enum": (
        lambda schema: fields(schema, "BookingState")["state"]["enum"].append("postponed"),
        f'data.booking.state: its type was widened from {STATES} to {STATES} or the value "postponed"',
    ),
    "shorter text": (
        lambda schema: fields(schema)["uri"].update(maxLength=100),
        "data.uri: its `maxLength` was changed from 2000 to 100",
    ),
    "a pattern where there was none": (
        lambda schema: fields(schema)["uri"].update(pattern="^https:"),
        'data.uri: its `pattern` was changed from nothing to "^https:"',
    ),
    "another default": (
        lambda schema: fields(schema, "BookingState")["no_show"].update(default=True),
        "data.booking.no_show: its `default` was changed from false to true",
    ),
    "closed object": (
        lambda schema: schema.update(additionalProperties=False),
        "data: its `additionalProperties` was changed from nothing to false",
    ),
    "new required field": (
        lambda schema: (fields(schema).update(host={"type": "string"}), schema["required"].append("host")),
        "data.host: is new and required, and records that are on the topics do not have it",
    ),
    "required field that was optional": (
        lambda schema: schema["required"].append("email"),
        "data.email: is required now, and records that are on the topics do not have it",
    ),
    "optional field that was always there": (
        lambda schema: schema["required"].remove("booking"),
        "data.booking: was always there and is optional now",
    ),
}
ALLOWED: dict[str, Change] = {
    "nothing": dict,
    "new optional field": lambda schema: fields(schema).update(host=options("string", "null")),
    "new optional field of an object": lambda schema: fields(schema, "Location").update(floor=options("integer")),
    "another description": lambda schema: fields(schema)["uri"].update(description="The invitee."),
    "a mark": lambda schema: fields(schema)["email"].update({"x-sensitive": True, "deprecated": True}),
    "another order": lambda schema: fields(schema).update(uri=fields(schema).pop("uri")),
    "another name for an object": lambda schema: rename(schema, "Location", "Place"),
    "an object written in place": lambda schema: fields(schema).update(booking=schema["$defs"]["BookingState"]),
}


def rename(schema: Schema, old: str, new: str) -> None:
    """Give a definition another name."""
    schema["$defs"][new] = {**schema["$defs"].pop(old), "title": new}
    fields(schema, "ScheduledEvent")["location"]["anyOf"][0]["$ref"] = f"#/$defs/{new}"


@pytest.fixture
def schema() -> Schema:
    """A schema of ours, to be changed."""
    return json_schema(InviteeCreated)


def test_what_is_published_keeps_what_was_released() -> None:
    """Each released type is still published, and its schema breaks nobody who holds the released one."""
    found = list(breaks(released(), json_schemas()))
    assert not found, "give what changed a new class and version:\n" + "\n".join(found)


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_refused(schema: Schema, name: str) -> None:
    """The planted change is found, once, with its place and what it was."""
    before = deepcopy(schema)
    change, finding = BREAKING[name]
    change(schema)
    assert changes(before, schema) == [finding]


@pytest.mark.parametrize("name", ALLOWED)
def test_a_compatible_change_passes(schema: Schema, name: str) -> None:
    """What adds something optional, or only says more, is no finding."""
    before = deepcopy(schema)
    ALLOWED[name](schema)
    assert changes(before, schema) == []


def test_a_type_may_come_but_not_go(schema: Schema) -> None:
    """A new type or version breaks nobody; one that is no longer published does."""
    assert list(breaks({KIND: schema}, {KIND: schema, "com.calendly.invitee.created.v2": {}})) == []
    assert list(breaks({KIND: schema}, {})) == [f"{KIND}: is no longer published"]


def test_a_release_is_frozen_and_kept(tmp_path: Path, schema: Schema) -> None:
    """The first release takes everything, the next only what changed, and one that breaks changes no file."""
    assert released(tmp_path) == {}
    assert release({KIND: schema}, tmp_path) == [KIND]
    assert released(tmp_path) == {KIND: schema}
    assert release({KIND: schema}, tmp_path) == []
    fields(schema)["host"] = options("string", "null")
    assert release({KIND: schema}, tmp_path) == [KIND]
    broken = deepcopy(schema)
    fields(broken).pop("host")
    with pytest.raises(BreakingChange, match=r"invitee\.created\.v1: data\.host: was removed"):
        release({KIND: broken, "new.v1": {}}, tmp_path)
    assert released(tmp_path) == {KIND: schema}


def test_the_command_freezes_or_says_why_not(
    tmp_path: Path, schema: Schema, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--release-schemas` writes what changed; a break ends it with the place on standard error and no trace."""
    monkeypatch.setattr(command, "pages", dict)
    monkeypatch.setattr(compatibility.release, "__defaults__", (tmp_path,))
    monkeypatch.setattr(sys, "argv", ["generate", "--release-schemas"])
    monkeypatch.setattr("tools.generate.json_schemas.json_schemas", lambda: {KIND: schema})
    command.main()
    assert capsys.readouterr().out == f"released {KIND}\n"
    fields(schema).pop("email")
    with pytest.raises(SystemExit, match=r"not released:\n.*data\.email: was removed"):
        command.main()
