"""The table of Calendly's operations: what each is called, what it takes, what it needs.

It is `operations.json`, 77 operations as documented in November 2026 (docs/reference/calendly.md, "REST"). The typed
calls, `slotwire calendly`, and the audit's names of calls all come from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

import orjson

from slotwire.ingest.foundation.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that an operation takes.

    Attributes:
        name: Calendly's.
        place: where it goes.
        required: whether Calendly refuses a call without it.
        type: `string`, `integer`, `number`, `boolean`, `array` or `json`.
    """

    name: str
    place: Literal["path", "query", "body"]
    required: bool
    type: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: as Calendly's reference calls it, for example `list-event-types`.
        method: of HTTP.
        path: with its parameters in braces.
        call: what the typed call is called: `resource.verb`.
        gives: the model of what it gives, in `documents`; `str` for a plain text, None for nothing.
        scope: that the token needs; None where the table does not say.
        plan: that the organization's owner needs; None where none is documented.
        parameters: in the table's order.
        body_schema: of a body that is not flat; None where there is none.
    """

    name: str
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    call: str
    gives: str | None
    scope: str | None
    plan: str | None
    parameters: tuple[Parameter, ...]
    body_schema: Mapping[str, Any] | None = field(repr=False)

    @property
    def reads(self) -> bool:
        """Whether it changes nothing at Calendly."""
        return self.method == "GET"

    @property
    def paged(self) -> bool:
        """Whether it gives a list page after page."""
        return self.reads and any(each.name == "page_token" for each in self.parameters)

    @property
    def listed(self) -> bool:
        """Whether it gives a list, in pages or at once."""
        return self.reads and self.call.endswith((".list", ".available_times", ".memberships"))

    @property
    def takes(self) -> tuple[Parameter, ...]:
        """The parameters that a caller gives: pages are turned for them."""
        turned = ("page_token", "count") if self.paged else ()
        return tuple(each for each in self.parameters if each.name not in turned)


@cache
def operations() -> Mapping[str, Operation]:
    """Return the table by name, in the order of the paths."""
    rows = orjson.loads(resources.files(__package__).joinpath("operations.json").read_bytes())
    return MappingProxyType({row["operation"]: _operation(row) for row in rows})


def _operation(row: Mapping[str, Any]) -> Operation:
    return Operation(
        name=row["operation"],
        method=row["method"],
        path=row["path"],
        call=row["call"],
        gives=row["gives"],
        scope=row.get("scope"),
        plan=row.get("plan"),
        parameters=tuple(
            Parameter(each["name"], each["in"], bool(each.get("required")), each.get("type", "string"))
            for each in row["parameters"]
        ),
        body_schema=row.get("body_schema"),
    )


def operation(name: str) -> Operation:
    """Return one operation.

    Raises:
        RequestRefused: there is none of this name; the message names near ones (`operation_unknown`).
    """
    known = operations()
    if name in known:
        return known[name]
    near = ", ".join(difflib.get_close_matches(name, known, n=3))
    raise RequestRefused(
        f"Calendly's API has no operation {name[:80]!r}",
        code="operation_unknown",
        remedy=(f"Near to it: {near}. " if near else "") + "`slotwire calendly` lists all of them.",
    )


def operation_of(method: str, path: str) -> Operation | None:
    """Return the operation that a call is one of; None where the table has none."""
    shapes, parts = _shapes(), tuple(path[1:].split("/"))
    # Ids are the second part, the third, or the second and the fourth; a word wins over an id: `/users/me`.
    for places in ((), (1,), (2,), (1, 3)):
        if not places or places[-1] < len(parts):
            shape = tuple("" if place in places else part for place, part in enumerate(parts))
            if (found := shapes.get((method, shape))) is not None:
                return found
    return None


@cache
def _shapes() -> Mapping[tuple[str, tuple[str, ...]], Operation]:
    return {
        (each.method, tuple("" if part.startswith("{") else part for part in each.path[1:].split("/"))): each
        for each in operations().values()
    }
