"""Typed calls of `/notes`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from slotwire.ingest.control.calendly_client.documents import NoteDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class NotesCalls(ResourceCalls):
    """Calls of `/notes`."""

    def list(self, *, contact: str) -> AsyncIterator[NoteDocument]:
        """List notes.

        `GET /notes`. Scope: `contacts:read`.

        Example:
            async for found in calendly.notes.list(contact="CONTACT"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("list-notes", NoteDocument, {"contact": contact})

    async def create(
        self,
        *,
        contact: str,
        title: str | None = None,
        body: str | None = None,
        remind_at: str | datetime | None = None,
    ) -> NoteDocument:
        """Write a note. Twice is two notes.

        `POST /notes`. Scope: `contacts:write`.

        Example:
            found = await calendly.notes.create(contact="CONTACT", title="Called")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-note", NoteDocument, {"contact": contact, "title": title, "body": body, "remind_at": remind_at}
        )

    async def get(self, uuid: str) -> NoteDocument:
        """Read a note.

        `GET /notes/{uuid}`. Scope: `contacts:read`.

        Example:
            found = await calendly.notes.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-note", NoteDocument, {"uuid": uuid})
