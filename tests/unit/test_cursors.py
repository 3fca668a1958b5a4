"""Cursors come back as they were given, or are refused; never an error of another kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.operate import cursors

READERS: dict[str, Callable[[str], object]] = {
    "log": partial(cursors.read_log_place, "log"),
    "time": lambda text: cursors.read_time_place("keys", text),
    "id": lambda text: cursors.read_id_place("deliveries", text),
}
TIME = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


@given(st.dictionaries(st.integers(0, 63), st.integers(0, 2**63 - 1), min_size=1))
def test_a_place_in_the_log_comes_back(place: dict[int, int]) -> None:
    """Every place over up to 64 shards survives its text form, which stays under the limit."""
    text = cursors.write_log_place("log", place)
    assert cursors.read_log_place("log", text) == place
    assert len(text) <= cursors.MAX_CURSOR


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_place_in_time_comes_back(time: datetime, last: UUID) -> None:
    """Times keep their microseconds."""
    assert cursors.read_time_place("keys", cursors.write_time_place("keys", (time, last))) == (time, last)


@given(st.uuids())
def test_a_place_by_id_comes_back(last: UUID) -> None:
    """Ids come back."""
    assert cursors.read_id_place("deliveries", cursors.write_id_place("deliveries", last)) == last


@given(st.text() | st.binary().map(encode_base64url), st.sampled_from(sorted(READERS)))
def test_nothing_else_is_a_cursor(text: str, reader: str) -> None:
    """Whatever text comes is refused with one code."""
    with pytest.raises(RequestRefused) as caught:
        READERS[reader](text)
    assert caught.value.code == "cursor_invalid"


@pytest.mark.parametrize(
    "value",
    [
        b'["log",{}]',
        b'["log",{"64":1}]',
        b'["log",{"-1":1}]',
        b'["log",{"0":-1}]',
        b'["log",{"0":9223372036854775808}]',
        b'["log",{"0":1},2]',
        b'["keys",["2026-11-23T12:00:00","00000000-0000-0000-0000-000000000000"]]',
        b'["deliveries",1]',
        b'"log"',
        b"{}",
        b"[]",
        b"null",
    ],
)
@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_forged_cursor_is_refused(value: bytes, reader: str) -> None:
    """Values outside what we write are refused, not handed to Postgres."""
    with pytest.raises(RequestRefused):
        READERS[reader](encode_base64url(value))


def test_a_cursor_of_another_list_is_refused() -> None:
    """Each kind of list takes its own cursors only."""
    made = {
        "log": cursors.write_log_place("log", {0: 1}),
        "time": cursors.write_time_place("keys", (TIME, UUID(int=1))),
        "id": cursors.write_id_place("deliveries", UUID(int=1)),
    }
    for kind, text in made.items():
        for reader, read in READERS.items():
            if reader != kind:
                with pytest.raises(RequestRefused):
                    read(text)
    with pytest.raises(RequestRefused):
        cursors.read_time_place("subscriptions", made["time"])


def test_the_longest_cursor_and_one_past_it() -> None:
    """A text of MAX_CURSOR characters is looked at, a longer one is not."""
    padded = cursors.write_log_place("log", {0: 1}) + "A" * cursors.MAX_CURSOR
    for text in (padded[: cursors.MAX_CURSOR], padded[: cursors.MAX_CURSOR + 1]):
        with pytest.raises(RequestRefused):
            cursors.read_log_place("log", text)
    whole = cursors.write_log_place("log", dict.fromkeys(range(64), 2**63 - 1))
    assert cursors.read_log_place("log", whole)[63] == 2**63 - 1
