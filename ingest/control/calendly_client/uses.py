"""What the audit says of a call to Calendly: whose credential, which operation, about what, on whose behalf.

A call is told by URIs and keyed hashes only. Mail addresses, what was searched for, reasons and answers are not kept.
`use_log.py` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

from slotwire.ingest.control.calendly_client.resources import MAX_URI, ORIGIN
from slotwire.ingest.errors import CalendlyProblem
from slotwire.ingest.foundation.operation_table import Operation

MAX_PEOPLE = 500
"""Mail addresses of one call that are kept as hashes: as many as one call may name."""
_URI = re.compile(re.escape(ORIGIN) + r"(?:/[A-Za-z0-9_-]+)+", re.ASCII)
_ABOUT = (
    *("invitee", "event", "event_type", "contact", "form", "group", "user_availability_schedule", "owner"),
    *("user", "organization"),
)
"""Values of a call that name what it is about, the most telling first."""


@dataclass(frozen=True, slots=True)
class Behalf:
    """On whose behalf a credential is used.

    Attributes:
        actor: `control` for chores, `command line`, or the id of a key or link.
        agent: the agent that asked for it.
        event: the event that the agent handled, or the call of a tool by which an agent of MCP asked.
    """

    actor: str = "control"
    agent: str | None = None
    event: UUID | None = None


CHORES = Behalf()


@dataclass(slots=True)
class Bearer:
    """Whose credential a piece of work uses, as far as the audit tells it.

    Attributes:
        org: the user's organization; None until it is known.
        connection: the connection; None for a token that is not stored yet.
        behalf: on whose behalf.
        mark: makes the keyed hash of a mail address; None leaves hashes out.
    """

    org: str | None = None
    connection: UUID | None = None
    behalf: Behalf = CHORES
    mark: Callable[[str], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ActingAs:
    """The connection behind a transport; `app`: its token belongs to our OAuth app."""

    connection_id: UUID
    app: bool


@dataclass(frozen=True, slots=True)
class Use:
    """One call with a credential, before it is made.

    Attributes:
        user: the user's URI; None until Calendly has said it.
        org: the user's organization.
        connection: the connection.
        action: the operation's name.
        target: the URI of what it is about.
        people: keyed hashes of the mail addresses that it names.
        behalf: on whose behalf.
    """

    user: str | None
    org: str | None
    connection: UUID | None
    action: str
    target: str | None
    people: tuple[str, ...]
    behalf: Behalf


@dataclass(frozen=True, slots=True)
class UseEnd:
    """How a call ended.

    Attributes:
        result: `done`; `refused` by Calendly; `failed`: on Calendly's side, or no answer came.
        status: of the answer; None where none came.
        code: why it was refused or failed.
    """

    result: str
    status: int | None = None
    code: str | None = None


@dataclass(eq=False, slots=True)
class TurnLease:
    """Turns that were given together; the audit holds them as the beginning of the calls that take them.

    Attributes:
        id: of its row.
        user: whose turns.
        org: that user's organization.
        left: turns that are neither taken nor lost.
        open: turns that were taken by calls whose end is not noted.
    """

    id: UUID
    user: str
    org: str | None
    left: int
    open: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.left == 0 and self.open == 0


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Whose token a request to the OAuth server is about, and the lease of its turn.

    Attributes:
        action: such as `oauth-refresh`.
        user: the user's URI; None until Calendly has said it.
        by: what else the audit says.
        lease: of its turn; None where it took none.
    """

    action: str
    user: str | None
    by: Bearer
    lease: TurnLease | None = None

    @property
    def use(self) -> Use:
        """The row of the audit."""
        return Use(self.user, self.by.org, self.by.connection, self.action, None, (), self.by.behalf)


class UseLog(Protocol):
    """Where uses are written."""

    async def begin(self, use: Use) -> UUID:
        """Write a call before it is made; return the id of its beginning.

        Raises:
            DatabaseUnavailable: the call may not be made.
        """
        ...

    def note(self, use: Use, end: UseEnd, *, begun: UUID | None, lease: TurnLease | None) -> None:
        """Keep how a call ended, to be written within a second."""
        ...

    def drop(self, lease: TurnLease, *, taken: bool) -> None:
        """Take note that a turn was lost, or, if it was taken, that no call was made."""
        ...

    def watch(self, drop_late: Callable[[], bool]) -> None:
        """Call it each second, so that turns which nobody takes are dropped; until it returns that none is left."""
        ...

    async def aclose(self) -> None:
        """Write what is left."""
        ...


def describe(
    made: Operation | None,
    path: str,
    query: Mapping[str, str | Sequence[str]] | None,
    body: object,
    user: str | None,
    by: Bearer,
) -> Use:
    """Describe a call for the audit; `made` is the operation that it is, None where the table has none."""
    people = _people(query, body, by.mark) if by.mark is not None else ()
    action = made.name if made is not None else _words(path)
    return Use(user, by.org, by.connection, action, _target(path, query, body), people, by.behalf)


def end_of(status: int) -> UseEnd:
    """Return how a request to the OAuth server ended, by the status of its answer."""
    if status < HTTPStatus.BAD_REQUEST:
        return UseEnd("done", status)
    refused = status < HTTPStatus.INTERNAL_SERVER_ERROR
    return UseEnd("refused" if refused else "failed", status, "refused" if refused else CalendlyProblem.UPSTREAM)


def _words(path: str) -> str:
    """Return a path without what may be an id."""
    return "/".join(part for part in path[1:].split("/")[::2])[:100]


def _target(path: str, query: Mapping[str, str | Sequence[str]] | None, body: object) -> str | None:
    """Return the URI of what a call is about: what its path names, else the most telling URI among its values."""
    parts = path[1:].split("/")
    if len(parts) > 1 and not (parts[0] == "contacts" and parts[1] == "custom_field_definitions" and len(parts) == 2):
        # Up to the last id: of `/scheduled_events/{id}/invitees` the meeting.
        named = parts if len(parts) % 2 == 0 or parts[1] == "custom_field_definitions" else parts[:-1]
        return f"{ORIGIN}/{'/'.join(named)}"
    values: dict[str, object] = {**(query or {}), **(body if isinstance(body, dict) else {})}
    for name in _ABOUT:
        value = values.get(name)
        if isinstance(value, str) and len(value) <= MAX_URI and _URI.fullmatch(value):
            return value
    return None


def _people(
    query: Mapping[str, str | Sequence[str]] | None, body: object, mark: Callable[[str], str]
) -> tuple[str, ...]:
    """Return hashes of the mail addresses in a call, each once."""
    if body is None and not query:
        return ()
    found = dict.fromkeys(text for text in _texts([*(query or {}).values(), body]) if "@" in text)
    return tuple(mark(text) for text, _ in zip(found, range(MAX_PEOPLE), strict=False))


def _texts(value: object) -> Iterator[str]:
    """Return the words of all texts within a value: a text may list several addresses."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if "@" in each:
                yield from (part.strip("<>()[];:.\"'") for part in re.split(r"[\s,]+", each[:10_000]))
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
