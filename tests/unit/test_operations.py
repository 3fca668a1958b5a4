"""Each operation of Calendly's API: what it takes, and that a call is put together as the table says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwire.ingest.control.calendly_client.operations import BODY, MAX_BODY_BYTES, prepare
from slotwire.ingest.control.calendly_client.transport import _PATH
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.operation_table import Operation, Parameter, operation, operations

ALL = list(operations().values())
FITTING = {"integer": ["1"], "number": ["1"], "boolean": ["true"], "array": ["A1,B2"], "string": ["A1"]}
EVENT = "https://api.calendly.com/scheduled_events/E1"


def values(chosen: Operation, *, every: bool) -> dict[str, list[str]]:
    """Give values for all parameters, or for the required ones."""
    return {each.name: FITTING[each.type] for each in chosen.takes if each.name != BODY and (every or each.required)}


def body(chosen: Operation) -> object:
    """Give a body where one is needed."""
    return {"any": "body"} if any(each.name == BODY for each in chosen.parameters) else None


def test_the_table_is_whole() -> None:
    """77 operations, each with its own method and path, a scope, and every parameter of its path."""
    assert len(ALL) == 77
    assert len({(each.method, each.path) for each in ALL}) == 77
    for each in ALL:
        assert each.scope is not None
        assert {item.name for item in each.parameters if item.place == "path"} == set(re.findall(r"{(\w+)}", each.path))
        assert {item.type for item in each.parameters} <= {*FITTING, "json"}


@pytest.mark.parametrize("chosen", ALL, ids=lambda each: each.name)
def test_a_call_is_put_together(chosen: Operation) -> None:
    """With all values, and with the required ones: a path without braces, the others where the table puts them."""
    for every in (False, True):
        given = values(chosen, every=every)
        call = prepare(chosen, given, body(chosen))
        assert _PATH.fullmatch(call.path)
        places = {each.name: each.place for each in chosen.parameters}
        assert set(call.query) == {name for name in given if places[name] == "query"}
        flat = {name for name in given if places[name] == "body"}
        assert call.body == body(chosen) or set(call.body) == flat
        assert not {"page_token", "count"} & call.query.keys() or not chosen.paged


@pytest.mark.parametrize("chosen", ALL, ids=lambda each: each.name)
def test_what_does_not_fit_is_refused(chosen: Operation) -> None:
    """A missing value, an unknown one, a body too many or too few: named, before anything is sent."""
    given = values(chosen, every=False)
    for name in given:
        with pytest.raises(RequestRefused, match=f"needs .*{name}"):
            prepare(chosen, {other: value for other, value in given.items() if other != name}, body(chosen))
    with pytest.raises(RequestRefused, match="does not take colour"):
        prepare(chosen, {**given, "colour": ["red"]}, body(chosen))
    with pytest.raises(RequestRefused, match="JSON body"):
        prepare(chosen, given, None if body(chosen) else {})


def test_ids_and_uris_are_taken_alike() -> None:
    """Where a path wants an id a URI does, and where a URI is wanted its id does."""
    meeting = operation("get-scheduled-event")
    assert prepare(meeting, {"uuid": [EVENT]}).path == prepare(meeting, {"uuid": ["E1"]}).path == "/scheduled_events/E1"
    listing = operation("list-scheduled-events")
    found = prepare(listing, {"organization": ["O1"], "user": ["https://api.calendly.com/users/U1"]}).query
    assert found == {
        "organization": "https://api.calendly.com/organizations/O1",
        "user": "https://api.calendly.com/users/U1",
    }
    assert prepare(operation("list-meeting-recaps"), {"event": ["E1"]}).query == {"event": EVENT}


def test_values_have_the_type_of_their_parameter() -> None:
    """Truths, numbers and lists; anything else is refused."""
    listing = operation("list-event-types")
    assert prepare(listing, {"active": ["true"]}).query == {"active": "true"}
    with pytest.raises(RequestRefused, match="active is true or false"):
        prepare(listing, {"active": ["yes"]})
    link = operation("create-scheduling-link")
    made = prepare(link, {"max_event_count": ["1"], "owner": ["https://x"], "owner_type": ["EventType"]})
    assert made.body == {"max_event_count": 1, "owner": "https://x", "owner_type": "EventType"}
    with pytest.raises(RequestRefused, match="max_event_count is not a number"):
        prepare(link, {"max_event_count": ["one"], "owner": ["https://x"], "owner_type": ["EventType"]})
    log = operation("list-activity-log-entries")
    assert prepare(log, {"organization": ["O"], "actor": ["a", "b,c"]}).query["actor"] == ["a", "b", "c"]
    with pytest.raises(RequestRefused, match="takes one value"):
        prepare(log, {"organization": ["O", "P"]})


def test_a_body_has_a_limit() -> None:
    """The longest that fits is taken, and one byte more is not."""
    chosen = operation("create-contact")
    fits = {"name": "x" * (MAX_BODY_BYTES - len('{"name":""}'))}
    assert prepare(chosen, {}, fits).body == fits
    with pytest.raises(RequestRefused, match="longer than"):
        prepare(chosen, {}, {"name": fits["name"] + "x"})


def test_an_unknown_operation_names_near_ones() -> None:
    """A mistyped name is answered with what it may have meant."""
    with pytest.raises(RequestRefused) as caught:
        operation("list-event-type")
    assert "list-event-types" in caught.value.remedy


NAMES = st.sampled_from([each.name for chosen in ALL for each in chosen.parameters] + ["", "colour", "__proto__"])


@given(chosen=st.sampled_from(ALL), given=st.dictionaries(NAMES, st.lists(st.text(), max_size=3), max_size=5))
def test_no_value_leaves_the_path(chosen: Operation, given: Mapping[str, Sequence[str]]) -> None:
    """Whatever is given: refused, or a path of Calendly's API with nothing of a query in it."""
    try:
        call = prepare(chosen, given, body(chosen))
    except RequestRefused:
        return
    assert _PATH.fullmatch(call.path)
    assert call.path.count("/") == chosen.path.count("/")


def test_what_is_turned_for_the_caller_is_not_taken() -> None:
    """Pages are turned: their token and size are no parameters of a caller."""
    names = {each.name for each in operation("list-contacts").takes}
    assert Parameter("page_token", "query", required=False, type="string").name not in names
    with pytest.raises(RequestRefused, match="does not take page_token"):
        prepare(operation("list-contacts"), {"page_token": ["x"]})
