"""Scheduled events, invitees, no-shows, routing form submissions and tokens in the state file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.model import SimulatedInvitee, SimulatedScheduledEvent, SimulatedSubmission, Token
from slotwire.ingest.simulator.shelf import Shelf

LONGEST = timedelta(days=1)
"""No simulated meeting lasts longer."""
EVENT = TypeAdapter(SimulatedScheduledEvent)
INVITEE = TypeAdapter(SimulatedInvitee)
SUBMISSION = TypeAdapter(SimulatedSubmission)
TOKEN = TypeAdapter(Token)


@dataclass(frozen=True, slots=True)
class ScheduledEventFilter:
    """The filter of `GET /scheduled_events`; None as organization or hosts means all."""

    organization: str | None
    hosts: tuple[str, ...] | None = None
    email: str | None = None
    status: str | None = None
    min_start: datetime | None = None
    max_start: datetime | None = None


@dataclass(frozen=True, slots=True)
class PagePosition:
    """Where a page begins: after (or, going back, before) the row with this sort key and id."""

    key: str | int
    ident: str


@dataclass(frozen=True, slots=True)
class PageOrder:
    """How a page is sorted and bounded; `backward` reads the page that ends before `position`."""

    count: int
    descending: bool = False
    position: PagePosition | None = None
    backward: bool = False


class Bookings:
    """Reads and writes scheduled events, invitees, submissions and tokens; `shelf` has everything else."""

    def __init__(self, database: SimulatorDatabase) -> None:
        self._database = database
        self.shelf = Shelf(database)

    def next_number(self, kind: str) -> int:
        """Return 1, 2, 3 … for each kind; no number comes twice, even after a restart."""
        return self._database.next_number(kind)

    def put_event(self, event: SimulatedScheduledEvent) -> None:
        """Write a scheduled event."""
        self._database.write(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (event.id, event.organization, event.host, stamp(event.start), event.status, EVENT.dump_json(event)),
        )

    def event(self, ident: str) -> SimulatedScheduledEvent | None:
        """Return a scheduled event."""
        found = self._database.row("SELECT doc FROM events WHERE id = ?", (ident,))
        return EVENT.validate_json(found[0]) if found else None

    def active_around(self, host: str, start: datetime, end: datetime) -> list[SimulatedScheduledEvent]:
        """Return a host's active events that overlap a time, by their start."""
        rows = self._database.rows(
            "SELECT doc FROM events WHERE host = ? AND status = 'active' AND start > ? AND start < ? ORDER BY start",
            (host, stamp(start - LONGEST), stamp(end)),
        )
        return [event for (doc,) in rows if (event := EVENT.validate_json(doc)).end > start]

    def events(self, wanted: ScheduledEventFilter, order: PageOrder) -> list[SimulatedScheduledEvent]:
        """Return a page of scheduled events by start time, in the order of the page."""
        where: list[str] = []
        values: list[object] = []
        if wanted.hosts is not None:
            where.append(f"host IN ({', '.join('?' * len(wanted.hosts))})")
            values += wanted.hosts
        for condition, value in (
            ("organization = ?", wanted.organization),
            ("status = ?", wanted.status),
            ("start >= ?", wanted.min_start and stamp(wanted.min_start)),
            ("start <= ?", wanted.max_start and stamp(wanted.max_start)),
            ("id IN (SELECT event FROM invitees WHERE email = ?)", wanted.email),
        ):
            if value is not None:
                where.append(condition)
                values.append(value)
        return [EVENT.validate_json(doc) for doc in self._page("events", "start", where, values, order)]

    def put_invitee(self, invitee: SimulatedInvitee) -> None:
        """Write an invitee; the first write gives it its number in the order of creation."""
        mark = invitee.no_show.id if invitee.no_show else None
        self._database.write(
            "INSERT INTO invitees (id, event, email, status, no_show, doc) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, no_show = excluded.no_show, doc = excluded.doc",
            (invitee.id, invitee.event, invitee.email, invitee.status, mark, INVITEE.dump_json(invitee)),
        )

    def invitee(self, ident: str) -> SimulatedInvitee | None:
        """Return an invitee by its id."""
        found = self._database.row("SELECT doc FROM invitees WHERE id = ?", (ident,))
        return INVITEE.validate_json(found[0]) if found else None

    def meeting_end(self, resource: str) -> datetime | None:
        """Return when the meeting of an invitee's URI ends; None for any other resource."""
        invitee = self.invitee(resource.rpartition("/")[2])
        event = None if invitee is None else self.event(invitee.event)
        return None if event is None else event.end

    def invitee_of_mark(self, no_show: str) -> SimulatedInvitee | None:
        """Return the invitee that carries a no-show mark."""
        found = self._database.row("SELECT doc FROM invitees WHERE no_show = ?", (no_show,))
        return INVITEE.validate_json(found[0]) if found else None

    def invitees_of(self, event: str, status: str | None = None) -> list[SimulatedInvitee]:
        """Return all invitees of a scheduled event in the order they were made."""
        rows = self._database.rows(
            "SELECT doc FROM invitees WHERE event = ? AND status = coalesce(?, status) ORDER BY number", (event, status)
        )
        return [INVITEE.validate_json(doc) for (doc,) in rows]

    def invitees(self, event: str, status: str | None, email: str | None, order: PageOrder) -> list[SimulatedInvitee]:
        """Return a page of a scheduled event's invitees by creation."""
        where = ["event = ?"]
        values: list[object] = [event]
        for condition, value in (("status = ?", status), ("email = ?", email)):
            if value is not None:
                where.append(condition)
                values.append(value)
        return [INVITEE.validate_json(doc) for doc in self._page("invitees", "number", where, values, order)]

    def number_of(self, invitee: str) -> int:
        """Return an invitee's number in the order of creation, which is its sort key."""
        found = self._database.row("SELECT number FROM invitees WHERE id = ?", (invitee,))
        return int(found[0]) if found else 0

    def counts(self, event: str) -> tuple[int, int]:
        """Return how many invitees a scheduled event has, and how many of them are active."""
        found = self._database.row(
            "SELECT count(*), coalesce(sum(status = 'active'), 0) FROM invitees WHERE event = ?", (event,)
        )
        return (int(found[0]), int(found[1])) if found else (0, 0)

    def latest_active(self, organization: str) -> SimulatedInvitee | None:
        """Return the newest active invitee of an organization."""
        found = self._database.row(
            "SELECT i.doc FROM invitees i JOIN events e ON e.id = i.event"
            " WHERE i.status = 'active' AND e.organization = ? ORDER BY i.number DESC LIMIT 1",
            (organization,),
        )
        return INVITEE.validate_json(found[0]) if found else None

    def put_submission(self, value: SimulatedSubmission) -> None:
        """Write a routing form submission."""
        self._database.write(
            "INSERT INTO submissions (id, form, doc) VALUES (?, ?, ?)",
            (value.id, value.form, SUBMISSION.dump_json(value)),
        )

    def submission(self, ident: str) -> SimulatedSubmission | None:
        """Return a routing form submission."""
        found = self._database.row("SELECT doc FROM submissions WHERE id = ?", (ident,))
        return SUBMISSION.validate_json(found[0]) if found else None

    def submissions(self, form: str) -> list[SimulatedSubmission]:
        """Return a form's submissions in the order they were made."""
        rows = self._database.rows("SELECT doc FROM submissions WHERE form = ? ORDER BY number", (form,))
        return [SUBMISSION.validate_json(doc) for (doc,) in rows]

    def put_token(self, token: Token) -> None:
        """Write a token that was issued or changed after the start."""
        self._database.write("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (token.value, TOKEN.dump_json(token)))

    def tokens(self) -> list[Token]:
        """Return the tokens that were issued or changed after the start."""
        return [TOKEN.validate_json(doc) for (doc,) in self._database.rows("SELECT doc FROM tokens")]

    def put_refresh_token(self, value: str, document: bytes) -> None:
        """Write a refresh token of the OAuth app."""
        self._database.write("INSERT OR REPLACE INTO refresh_tokens VALUES (?, ?)", (value, document))

    def refresh_tokens(self) -> list[bytes]:
        """Return the refresh tokens of the OAuth app."""
        return [doc for (doc,) in self._database.rows("SELECT doc FROM refresh_tokens")]

    def _page(self, table: str, key: str, where: list[str], values: list[object], order: PageOrder) -> list[bytes]:
        # Keyset paging: rows added to or removed from earlier pages do not shift this one.
        falling = order.descending != order.backward
        sign, direction = ("<", "DESC") if falling else (">", "ASC")
        if order.position:
            where = [*where, f"({key}, id) {sign} (?, ?)"]
            values = [*values, order.position.key, order.position.ident]
        rows = self._database.rows(
            f"SELECT doc FROM {table} WHERE {' AND '.join(where)} ORDER BY {key} {direction}, id {direction} LIMIT ?",
            (*values, order.count),
        )
        docs = [doc for (doc,) in rows]
        return docs[::-1] if order.backward else docs


def with_mark_cleared(invitee: SimulatedInvitee) -> SimulatedInvitee:
    """Return the invitee without its no-show mark; `updated_at` stays (docs/reference/calendly.md, "Payloads")."""
    return replace(invitee, no_show=None)
