"""Cursors of paged lists: opaque to clients, and checked when they come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.key_texts import decode_base64url, encode_base64url

DEFAULT_PAGE = 50
MAX_PAGE = 200
"""Items of one page."""
MAX_CURSOR = 4_000
"""Characters of a cursor; the longest of ours, over 64 shards, has about 2,000."""

LogPlace = Mapping[int, int]
"""The last position seen in each shard."""
TimePlace = tuple[datetime, UUID]
"""The time and id of the last item seen."""
BookingPlace = tuple[str, str]
"""The invitee and the organization of the last booking seen: two organizations may be told of one invitee."""
SchedulePlace = tuple[str, str, str]
"""The agent, the name and the organization of the last scheduled work seen."""

OfferPlace = tuple[str, str, str]
"""The organization, the user and the event type of the last availability seen."""

T = TypeVar("T")
_LOG = TypeAdapter(dict[int, int])
_TIME = TypeAdapter(TimePlace)
_ID = TypeAdapter(UUID)
_NAME = TypeAdapter(str)
_BOOKING = TypeAdapter(BookingPlace)
_SCHEDULE = TypeAdapter(SchedulePlace)
_OFFER = TypeAdapter(OfferPlace)
_LARGEST = 2**63
_FORM = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def write_log_place(kind: str, place: LogPlace) -> str:
    """Write a place in a list that is ordered by position."""
    return _write(kind, {str(shard): position for shard, position in sorted(place.items())})


def read_log_place(kind: str, cursor: str) -> LogPlace:
    """Read a place in a list that is ordered by position.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    place = _read(kind, cursor, _LOG)
    if not place or any(not (0 <= shard < 64 and 0 <= position < _LARGEST) for shard, position in place.items()):
        raise _refused()
    return place


def write_time_place(kind: str, place: TimePlace) -> str:
    """Write a place in a list that is ordered by time."""
    return _write(kind, place)


def read_time_place(kind: str, cursor: str) -> TimePlace:
    """Read a place in a list that is ordered by time.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    place = _read(kind, cursor, _TIME)
    if place[0].tzinfo is None:
        raise _refused()
    return place


def write_id_place(kind: str, last: UUID) -> str:
    """Write a place in a list that is ordered by id."""
    return _write(kind, last)


def read_id_place(kind: str, cursor: str) -> UUID:
    """Read a place in a list that is ordered by id.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    return _read(kind, cursor, _ID)


def write_name_place(kind: str, last: str) -> str:
    """Write a place in a list that is ordered by name."""
    return _write(kind, last)


def read_name_place(kind: str, cursor: str) -> str:
    """Read a place in a list that is ordered by name.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    return _read(kind, cursor, _NAME)


def write_booking_place(place: BookingPlace) -> str:
    """Write a place in the list of bookings."""
    return _write("bookings", place)


def read_booking_place(cursor: str) -> BookingPlace:
    """Read a place in the list of bookings.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    return _read("bookings", cursor, _BOOKING)


def write_schedule_place(place: SchedulePlace) -> str:
    """Write a place in the list of scheduled work."""
    return _write("schedules", place)


def read_schedule_place(cursor: str) -> SchedulePlace:
    """Read a place in the list of scheduled work.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    return _read("schedules", cursor, _SCHEDULE)


def write_offer_place(place: OfferPlace) -> str:
    """Write a place in the list of availability."""
    return _write("availability", place)


def read_offer_place(cursor: str) -> OfferPlace:
    """Read a place in the list of availability.

    Raises:
        RequestRefused: it is not a cursor of this list.
    """
    return _read("availability", cursor, _OFFER)


def _write(kind: str, value: object) -> str:
    # asyncpg's ids are a subclass of UUID, which orjson does not take for one.
    return encode_base64url(orjson.dumps([kind, value], default=str))


def _read(kind: str, cursor: str, form: TypeAdapter[T]) -> T:
    if len(cursor) > MAX_CURSOR or not _FORM.fullmatch(cursor):
        raise _refused()
    try:
        kind_read, value = orjson.loads(decode_base64url(cursor))
        if kind_read != kind:
            raise _refused()
        return form.validate_json(orjson.dumps(value))
    except (ValueError, TypeError, ValidationError):
        raise _refused() from None


def _refused() -> RequestRefused:
    return RequestRefused(
        "this is not a cursor of this list",
        code="cursor_invalid",
        remedy="Send `next_cursor` of the page before, unchanged, or leave it out.",
    )
