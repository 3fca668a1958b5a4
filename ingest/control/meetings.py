"""Meetings with their invitees, as REST describes them: how a backfill and the fetch of a hole read them.

Meetings are listed by start time, in windows: one ends before its list has `WINDOW_PAGES` pages, and the next begins at
the start time it came to, so that no page's token gets old and an interrupted walk goes on from a time. Windows overlap
in the meetings of that time; those that were read are left out.

A meeting or an invitee that cannot be read costs nothing but itself: it is skipped, counted and named. Failures that
are not its own (the token, the limit, Calendly away) end the walk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from slotwire.ingest.control.calendly_client import invitees, scheduled_events
from slotwire.ingest.control.calendly_client.invitees import InviteeResource
from slotwire.ingest.control.calendly_client.pages import PageRefused
from slotwire.ingest.control.calendly_client.resources import RawResource
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventQuery, ScheduledEventResource
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem

WINDOW_PAGES = 49
"""Pages of one list; then another begins."""
MAX_RESTARTS = 5
"""How often a walk begins a list again because Calendly refused a page, without having come further."""
MAX_NAMED = 50
"""What is skipped and named; the rest is counted."""
MAX_NAME = 300
"""Characters of a name."""
MAX_WHY = 100
"""Characters of a reason."""
MAX_SKIPPED_IN_A_ROW = 20
"""Of so many meetings in a row that cannot be read, each by itself is not to blame: the last failure ends the walk."""

ITS_OWN = frozenset(
    {CalendlyProblem.NOT_FOUND, CalendlyProblem.PERMISSION, CalendlyProblem.INVALID, CalendlyProblem.UNEXPECTED}
)
"""Refusals of one meeting that say nothing about the next."""

R = TypeVar("R", bound=RawResource)


@dataclass(slots=True)
class Skipped:
    """What could not be read.

    Attributes:
        count: of all.
        named: URIs, each with the reason in a short word; those beyond `MAX_NAMED` are only counted.
    """

    count: int = 0
    named: dict[str, str] = field(default_factory=dict)

    def add(self, uri: str, why: str) -> None:
        """Count a resource; naming it again changes nothing."""
        name = plain_name(uri)
        if name in self.named:
            return
        self.count += 1
        if len(self.named) < MAX_NAMED:
            self.named[name] = why[:MAX_WHY]


def plain_name(uri: str) -> str:
    """Write a URI so that it is short wherever it is kept; Calendly's own are unchanged."""
    return "".join(each for each in uri[:MAX_NAME] if each.isascii() and each.isprintable() and each not in '"\\')


def read_document(kind: type[R], document: Any, skipped: Skipped) -> R | None:
    """Read an item of a list; one that is not as documented is skipped."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        uri = document.get("uri") if isinstance(document, dict) else None
        fields = sorted({str(issue["loc"][0]) for issue in error.errors(include_input=False) if issue["loc"]})
        name = uri if isinstance(uri, str) else f"{kind.__name__} without a URI"
        skipped.add(name, f"unreadable: {', '.join(fields) or 'all of it'}")
        return None


async def every_page(
    calendly: CalendlyTransport, hosts: ScheduledEventQuery, start_from: datetime, skipped: Skipped
) -> AsyncIterator[list[ScheduledEventResource]]:
    """List an organization's or some hosts' meetings that start then or later, active and canceled, by start time.

    Yields:
        The meetings of a page that were not read before. Once the next page is asked for, a walk that begins at the
        start time of the last of them misses nothing.

    Raises:
        CalendlyError: see `CalendlyProblem`.
    """
    reached, at_reached, restarts = start_from, set[str](), 0
    while True:
        began, pages = reached, 0
        query = replace(hosts, start_from=began)
        try:
            async for documents in scheduled_events.documents(calendly, query):
                read = [read_document(ScheduledEventResource, each, skipped) for each in documents]
                fresh = [each for each in read if each is not None and each.uri not in at_reached]
                yield fresh
                for each in fresh:
                    if each.start_time > reached:
                        reached, at_reached, restarts = each.start_time, set(), 0
                    at_reached.add(each.uri)
                pages += 1
                if pages >= WINDOW_PAGES and reached > began:
                    break
            else:
                return
        except PageRefused:
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise


class InviteeReader:
    """Reads the invitees of meetings, one meeting after the other."""

    def __init__(self, calendly: CalendlyTransport, skipped: Skipped) -> None:
        self._calendly = calendly
        self._skipped = skipped
        self._in_a_row = 0

    async def of(self, meeting: ScheduledEventResource) -> list[InviteeResource]:
        """Read a meeting's invitees, canceled ones too; none if the meeting has to be skipped.

        Raises:
            CalendlyError: the failure is not the meeting's own, or too many in a row were skipped.
        """
        found: list[InviteeResource] = []
        try:
            async for documents in invitees.documents(self._calendly, meeting.uri):
                read = (read_document(InviteeResource, each, self._skipped) for each in documents)
                found += [each for each in read if each is not None]
        except CalendlyError as error:
            self._in_a_row += 1
            if error.problem not in ITS_OWN or self._in_a_row >= MAX_SKIPPED_IN_A_ROW:
                raise
            self._skipped.add(meeting.uri, error.problem.value)
            return []
        self._in_a_row = 0
        return found
