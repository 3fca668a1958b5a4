"""Event types, contacts and recaps in the fetch of a hole: read by their own lists, and compared with what is known.

A resource is told as `created` if it was created since the hole began, and as `updated` if `updated_at` or a field of
the contract differs from the last event about it. One that was known and is not listed any more is read by its URI:
where Calendly has it no more it was deleted. Its event has the id that a webhook's has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from slotwire.ingest.control.calendly_client import contacts, event_types, meeting_recaps
from slotwire.ingest.control.calendly_client.contacts import ContactResource
from slotwire.ingest.control.calendly_client.event_types import EventTypeResource
from slotwire.ingest.control.calendly_client.meeting_recaps import MeetingRecapResource
from slotwire.ingest.control.calendly_client.pages import PageRefused
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.fetch_plan import FetchPlan
from slotwire.ingest.control.fetch_progress import FetchProgress, Unprovable
from slotwire.ingest.control.meetings import ITS_OWN, MAX_RESTARTS, read_document
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.codec import encode_data
from slotwire.schemas.events import (
    ContactCreated,
    ContactDeleted,
    ContactUpdated,
    EventTypeCreated,
    EventTypeDeleted,
    EventTypeUpdated,
    MeetingRecapCreated,
    MeetingRecapDeleted,
    MeetingRecapUpdated,
    ResourceEvent,
)
from slotwire.schemas.ids import OrganizationUri, content_digest

MAX_KNOWN = 20_000
"""Resources of a kind that are looked for among those listed; beyond it no deletion is inferred."""
MAX_MISSING = 500
"""Resources that are not listed any more and are read by their URI; the rest is reported as not proven."""

FEW_MISSING = 10
"""So many may be missing whatever their share; of more, where they are most of those that are known, no deletion is
inferred."""

Resource = EventTypeResource | ContactResource | MeetingRecapResource
Pages = Callable[[CalendlyTransport, OrganizationUri, str | None], AsyncIterator[tuple[Any, ...]]]

_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """A kind of resource with a list and events of its own."""

    name: str
    created: type[ResourceEvent]
    updated: type[ResourceEvent]
    deleted: type[ResourceEvent]
    resource: type[Resource]
    documents: Pages
    get: Callable[[CalendlyTransport, str], Awaitable[Resource]]

    @property
    def events(self) -> frozenset[str]:
        """Calendly's names of its events."""
        return frozenset(str(each.calendly_event) for each in (self.created, self.updated, self.deleted))


KINDS = (
    ResourceKind(
        *("event types", EventTypeCreated, EventTypeUpdated, EventTypeDeleted),
        *(EventTypeResource, event_types.documents, event_types.get),
    ),
    ResourceKind(
        *("contacts", ContactCreated, ContactUpdated, ContactDeleted),
        *(ContactResource, contacts.documents, contacts.get),
    ),
    ResourceKind(
        *("meeting recaps", MeetingRecapCreated, MeetingRecapUpdated, MeetingRecapDeleted),
        *(MeetingRecapResource, meeting_recaps.documents, meeting_recaps.get),
    ),
)


class Change(NamedTuple):
    """A change of a resource: Calendly's name of the event, its payload, and whether it is inferred."""

    event: str
    payload: Mapping[str, Any]
    inferred: bool


async def changes(
    pool: Pool,
    calendly: CalendlyTransport,
    kind: ResourceKind,
    *,
    org: str,
    organization: OrganizationUri,
    since: datetime,
    plan: FetchPlan,
    progress: FetchProgress,
) -> AsyncIterator[Change]:
    """Find what changed since a hole began: the last changed of a page first, then what was deleted.

    Raises:
        CalendlyError: the list may not be read, or Calendly failed.
        DatabaseUnavailable: Postgres does not answer.
    """
    listed = set[str]()
    async for page in _pages(calendly, kind, organization, plan.event_types_of):
        read = [read_document(kind.resource, each, progress.skipped) for each in page]
        found = [each for each in read if each is not None]
        listed.update(each.uri for each in found)
        fresh = [each for each in found if max(each.updated_at or since, each.created_at or since) >= since]
        fresh.sort(key=lambda each: each.updated_at or each.created_at or since, reverse=True)
        last = await _last_told(pool, org, [each.uri for each in fresh])
        for each in fresh:
            for cls in _told_by(each, kind, last.get(each.uri), since):
                if cls.calendly_event in plan.events:
                    yield Change(cls.calendly_event, each.raw, inferred=False)
        if len(found) < len(page):  # one that cannot be read is listed all the same, and is not missing
            listed.update(each["uri"] for each in page if isinstance(each, dict) and isinstance(each.get("uri"), str))
    deleted = kind.deleted.calendly_event
    if deleted in plan.events:
        async for tombstone in _deleted(pool, calendly, kind, org, listed, progress):
            yield Change(str(deleted), tombstone, inferred=True)


async def _pages(
    calendly: CalendlyTransport, kind: ResourceKind, organization: OrganizationUri, user: str | None
) -> AsyncIterator[tuple[Any, ...]]:
    """List all; where a page is refused the list is begun again, and what comes twice has its id twice."""
    restarts = 0
    while True:
        try:
            async for page in kind.documents(calendly, organization, user):
                yield page
        except PageRefused:
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise
        else:
            return


def _told_by(
    resource: Resource, kind: ResourceKind, last: ResourceEvent | None, since: datetime
) -> Sequence[type[ResourceEvent]]:
    """Return the events that a resource's document tells, given the last one that is known about it."""
    if last is None:
        created = resource.created_at is None or resource.created_at >= since
        return (kind.created,) if created else (kind.updated,)
    return () if _same(kind, last, resource.raw) else (kind.updated,)


def _same(kind: ResourceKind, last: ResourceEvent, document: Mapping[str, Any]) -> bool:
    """Whether a document says in the contract's fields what the last event said: both are read by the same class."""
    try:
        told = kind.updated.model_validate(document)
    except ValidationError:
        return False  # the writer sets apart what cannot be read, and finds the copy by its id
    return _digest(last) == _digest(told)


def _digest(data: ResourceEvent) -> str:
    fields = orjson.loads(encode_data(data))
    extra = fields.pop("extra", {})
    return content_digest({name: item for name, item in {**extra, **fields}.items() if name not in data.beside})


async def _last_told(pool: Pool, org: str, uris: Sequence[str]) -> dict[str, ResourceEvent]:
    with translated():
        rows = await pool.fetch(_SQL["last_told"], org, uris)
    classes = {cls.type: cls for kind in KINDS for cls in (kind.created, kind.updated, kind.deleted)}
    return {
        row["subject"]: classes[row["type"]].model_validate_json(row["data"]) for row in rows if row["type"] in classes
    }


async def _deleted(
    pool: Pool, calendly: CalendlyTransport, kind: ResourceKind, org: str, listed: set[str], progress: FetchProgress
) -> AsyncIterator[Mapping[str, Any]]:
    """Find the tombstones of what was known and is not listed any more."""
    known = [kind.created.type, kind.updated.type]
    with translated():
        rows = await pool.fetch(_SQL["resources_known"], org, known, kind.deleted.type, MAX_KNOWN + 1)
    if len(rows) > MAX_KNOWN:
        progress.cannot_prove(Unprovable.DELETIONS, [f"more than {MAX_KNOWN} {kind.name}"])
        return
    missing = sorted({row["subject"] for row in rows} - listed)
    if len(missing) > FEW_MISSING and len(missing) > len(rows) / 2:
        # Rather than that most were deleted, the credential's user does not see the others'.
        progress.cannot_prove(Unprovable.DELETIONS, missing)
        return
    if len(missing) > MAX_MISSING:
        progress.cannot_prove(Unprovable.DELETIONS, missing[MAX_MISSING:])
    for uri in missing[:MAX_MISSING]:
        try:
            found = await kind.get(calendly, uri)
        except CalendlyError as error:
            if error.problem is CalendlyProblem.NOT_FOUND:
                yield {"uri": uri}
            elif error.problem in ITS_OWN:
                progress.cannot_prove(Unprovable.DELETIONS, [uri])
            else:
                raise
            continue
        if isinstance(found, EventTypeResource) and found.deleted_at is not None:
            yield {"uri": uri, "deleted_at": found.raw["deleted_at"]}
