"""Documents that people keep at Calendly besides bookings: contacts, lists, notes, schedules, invitations, recaps.

Each has a kind, an id and an owner, and is kept as REST shows it.
"""

from __future__ import annotations

import orjson

from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.model import Json


class Shelf:
    """Reads and writes documents; the caller commits."""

    def __init__(self, database: SimulatorDatabase) -> None:
        self._database = database

    def put(self, kind: str, ident: str, owner: str, document: Json) -> None:
        """Write a document; the first write gives it its place among those of its kind."""
        self._database.write(
            "INSERT INTO documents (kind, id, owner, doc) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE SET doc = excluded.doc",
            (kind, ident, owner, orjson.dumps(document)),
        )

    def get(self, kind: str, ident: str, owner: str | None = None) -> Json | None:
        """Return a document, of one owner or of any."""
        found = self._database.row(
            "SELECT doc FROM documents WHERE kind = ? AND id = ? AND owner = coalesce(?, owner)", (kind, ident, owner)
        )
        return None if found is None else _read(found[0])

    def owner(self, kind: str, ident: str) -> str | None:
        """Return whose a document is."""
        found = self._database.row("SELECT owner FROM documents WHERE kind = ? AND id = ?", (kind, ident))
        return None if found is None else str(found[0])

    def every(self, kind: str, owner: str) -> list[Json]:
        """Return an owner's documents of a kind, the oldest first."""
        rows = self._database.rows(
            "SELECT doc FROM documents WHERE kind = ? AND owner = ? ORDER BY number", (kind, owner)
        )
        return [_read(doc) for (doc,) in rows]

    def remove(self, kind: str, ident: str) -> None:
        """Remove a document."""
        self._database.write("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, ident))


def _read(doc: bytes) -> Json:
    found: Json = orjson.loads(doc)
    return found
