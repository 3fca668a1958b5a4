"""Drift: a payload in which a field is not as documented. Pure.

Calendly may change the type of a field without notice. An unreadable field moves under `extra` of its object, as it
came, its own place is null, and it is counted by name; the event is published and fits its schema. (A number that is
written as text is read as that number: that is no drift.) Fields on which an event's identity, its place in the order
or a booking's state depends are essential: without them the delivery is quarantined whole, because the event would say
something else than Calendly did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from slotwire.ingest.errors import CannotNormalize
from slotwire.schemas.calendly import InviteePayload, Part, set_apart

BOOKING = frozenset(
    {
        "uri",
        "status",
        "event",
        "created_at",
        "updated_at",
        "rescheduled",
        "old_invitee",
        "new_invitee",
        "scheduled_event",
        "scheduled_event.uri",
        "scheduled_event.start_time",
        "scheduled_event.end_time",
        "scheduled_event.updated_at",
    }
)
"""Essential in each payload about an invitee."""
MARK = frozenset({"no_show", "no_show.uri", "no_show.created_at"})
"""Essential besides where the payload tells of a no-show mark: `invitee_no_show.created`, and what REST told."""
RESOURCE = frozenset({"uri", "created_at", "updated_at", "deleted_at"})
"""Essential in the payload of any other resource."""
LINKS = ("old_invitee", "new_invitee")
"""Links in which an empty text says that there is none."""
REPLACEMENT = "\ufffd"
"""What stands for half a character."""

P = TypeVar("P", bound=Part)


class Repairs(NamedTuple):
    """What had to be replaced in a body to read it at all.

    Attributes:
        halves: halves of characters, by `REPLACEMENT`.
        numbers: numbers that no double holds, by `VastNumber`.
    """

    halves: bool = False
    numbers: bool = False


WHOLE = Repairs()
"""Nothing was replaced."""


class VastNumber(str):
    """A number that no double holds, as it was written: it is kept as a text."""

    __slots__ = ()


class _Place(NamedTuple):
    """A field of a payload.

    Attributes:
        path: the names that lead to it, without positions in lists.
        holder: the object it is a field of, with unknown fields set apart.
        field: its name there.
        value: as it came.
    """

    path: str
    holder: dict[str, Any]
    field: str
    value: Any


def read_drifted(
    model: type[P], payload: dict[str, Any], essential: frozenset[str], repairs: Repairs = WHOLE
) -> tuple[P, tuple[str, ...]]:
    """Read a payload of which some fields are not as documented.

    Args:
        model: its class.
        payload: as it came; it is not changed.
        essential: the paths of the fields without which it cannot be an event.
        repairs: what was replaced in it.

    Returns:
        The payload as read, and the paths of the fields that are not as documented, sorted.

    Raises:
        CannotNormalize: `invalid_payload`, or `invalid_utf8` for half a character, with the essential fields.
    """
    told: dict[str, Any] = set_apart(model, payload)
    drifted: set[str] = set()
    if repairs.halves:
        drifted.update(_mended(model, told, ""))
        _refuse("invalid_utf8", drifted & essential)
    if repairs.numbers:
        vast = set(_vast(model, told, ""))
        _refuse("invalid_payload", vast & essential)
        drifted |= vast
    if issubclass(model, InviteePayload):
        drifted.update(_clarified(told))
    while True:
        try:
            return model.model_validate(told), tuple(sorted(drifted))
        except ValidationError as problem:
            issues = problem.errors(include_url=False, include_context=False, include_input=False)
        blamed = [_blamed(model, told, payload, issue["loc"], essential) for issue in issues]
        _refuse("invalid_payload", {place.path for place in blamed} & essential)
        moved = _moved(blamed)
        if not moved:
            raise AssertionError("an issue of no field")  # another round would find the same
        drifted |= moved


def _refuse(reason: str, places: set[str]) -> None:
    if places:
        raise CannotNormalize(reason, ", ".join(sorted(places)))


def _clarified(told: dict[str, Any]) -> Iterator[str]:
    """Read an empty link as none, and take a scheduled event's URI from `event`, the same, if it is missing or empty.

    Yields:
        The fields that were not as documented.
    """
    for link in LINKS:
        if told.get(link) == "":
            told.setdefault("extra", {})[link] = told.pop(link)
            yield link
    meeting = told.get("scheduled_event")
    if isinstance(meeting, dict) and meeting.get("uri") in (None, "") and told.get("event"):
        meeting["uri"] = told["event"]
        yield "scheduled_event.uri"


def _moved(places: list[_Place]) -> set[str]:
    """Move fields under `extra` of their objects; those inside of a moved one are left as they came."""
    moved: set[str] = set()
    for place in sorted(places, key=lambda each: len(each.path)):
        inside = any(place.path.startswith(f"{outer}.") for outer in moved)
        if not inside and place.field in place.holder:  # a field of several types has an issue for each
            del place.holder[place.field]
            place.holder.setdefault("extra", {})[place.field] = place.value
            moved.add(place.path)
    return moved


def _blamed(
    model: type[Part],
    told: dict[str, Any],
    payload: dict[str, Any],
    loc: tuple[int | str, ...],
    essential: frozenset[str],
) -> _Place:
    """Find the innermost field that can be moved out of the way of an issue.

    Where an object lacks a field that it must have, the whole object is to blame, unless the field is essential; of a
    list with an item that is no object, the whole list is.
    """
    cls: type[Part] | None = model
    holder: Any = told
    value: Any = payload
    place = _Place("", told, "", payload)
    for step in loc:
        if isinstance(step, int):
            holder, value = holder[step], value[step]
            continue
        if cls is None or step not in cls.parts_inside:
            break  # the rest names a branch of a union
        path = f"{place.path}.{step}".lstrip(".")
        if step in cls.required_names and path not in essential:
            break
        value = value.get(step)
        place = _Place(path, holder, step, value)
        cls, holder = cls.parts_inside[step], holder.get(step)
    return place


def _mended(model: type[Part], told: Any, path: str) -> Iterator[str]:
    """Find the fields with a replaced character: known fields, and `extra` for all that is under it."""
    for field, item in told.items():
        here = f"{path}.{field}".lstrip(".")
        part = model.parts_inside.get(field)
        inside = item if isinstance(item, list) else [item]
        for each in inside:
            if part is not None and isinstance(each, dict):
                yield from _mended(part, each, here)
            elif _holds_replacement(each):
                yield here


def _vast(model: type[Part], told: dict[str, Any], path: str) -> Iterator[str]:
    """Move known fields with a number that no double holds under `extra`; find those, and `extra` for what is unknown.

    A field in which it is deeper inside, as in a conference's own data, stays where it is.
    """
    for field, item in list(told.items()):
        here = f"{path}.{field}".lstrip(".")
        part = model.parts_inside.get(field)
        for each in item if isinstance(item, list) else [item]:
            if part is not None and isinstance(each, dict):
                yield from _vast(part, each, here)
            elif _holds_vast(each):
                yield here
        if isinstance(item, VastNumber) and field in model.parts_inside:
            told.setdefault("extra", {})[field] = told.pop(field)


def _holds_vast(value: Any) -> bool:
    match value:
        case list():
            return any(map(_holds_vast, value))
        case dict():
            return any(map(_holds_vast, value.values()))
        case _:
            return isinstance(value, VastNumber)


def _holds_replacement(value: Any) -> bool:
    match value:
        case str():
            return REPLACEMENT in value
        case list():
            return any(_holds_replacement(each) for each in value)
        case dict():
            return any(_holds_replacement(each) for each in (*value, *value.values()))
        case _:
            return False
