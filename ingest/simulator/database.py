"""The simulator's state: one SQLite file that survives `kill -9`.

Writes gather in one open transaction; `commit()` ends it. A request is answered after a commit. The outcome of an
attempt may wait `LAZY_COMMIT_SECONDS`: losing it only repeats a delivery, and Calendly repeats deliveries too.
`synchronous=OFF` is enough, because the file must survive the process, not the machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from slotwire.ingest.errors import SlotwireError

FORMAT = "1"
LAZY_COMMIT_SECONDS = 0.05
LOCK_SECONDS = 0.2
NUMBER_BLOCK = 1_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (value TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refresh_tokens (value TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS subscriptions (id TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL, host TEXT NOT NULL, start TEXT NOT NULL,
    status TEXT NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_start ON events (organization, start, id);
CREATE TABLE IF NOT EXISTS invitees (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, email TEXT NOT NULL,
    status TEXT NOT NULL, no_show TEXT, doc BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS invitees_by_event ON invitees (event);
CREATE INDEX IF NOT EXISTS invitees_by_email ON invitees (email);
CREATE UNIQUE INDEX IF NOT EXISTS invitees_by_no_show ON invitees (no_show) WHERE no_show IS NOT NULL;
CREATE TABLE IF NOT EXISTS submissions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, form TEXT NOT NULL, doc BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, doc BLOB NOT NULL,
    UNIQUE (kind, id));
CREATE INDEX IF NOT EXISTS documents_by_owner ON documents (kind, owner);
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY, subscription TEXT NOT NULL, event TEXT NOT NULL, resource TEXT NOT NULL,
    body BLOB NOT NULL, created_at TEXT NOT NULL, due_at TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, first_attempt_at TEXT, signed_at INTEGER, after INTEGER, duplicate_of INTEGER);
CREATE INDEX IF NOT EXISTS messages_pending ON messages (number) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS messages_by_resource ON messages (resource);
CREATE TABLE IF NOT EXISTS attempts (
    message INTEGER NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, seconds REAL NOT NULL,
    status INTEGER, error TEXT, fault TEXT, PRIMARY KEY (message, number)) WITHOUT ROWID;
"""


class SimulatorDatabase:
    """An open state file, or a state in memory when there is no path."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file, and lock it for this process.

        Raises:
            SlotwireError: another simulator uses it, or it is not a state file of this version.
        """
        self._path = path
        self._numbers: dict[str, tuple[int, int]] = {}
        try:
            self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=LOCK_SECONDS)
        except sqlite3.OperationalError as error:
            raise SlotwireError(
                f"the simulator's state file {path} cannot be opened: {error}",
                remedy="Name a file in a folder you may write to.",
            ) from error
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = OFF"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if "locked" in str(error):
                raise SlotwireError(
                    f"the simulator's state file {path} is in use", remedy="Stop the other simulator."
                ) from error
            raise SlotwireError(
                f"{path} cannot be used as the simulator's state file: {error}",
                remedy="Name another file with --state-file, in a folder you may write to.",
            ) from error
        self._check_format()

    def _check_format(self) -> None:
        found = self.meta("format")
        if found not in {None, FORMAT}:
            self._connection.close()
            raise SlotwireError(
                f"{self._path} was written by another version of the simulator (format {found}, not {FORMAT})",
                remedy="Delete it to start over, or name another file with --state-file.",
            )
        self.set_meta("format", FORMAT)
        self.commit()

    def write(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement that writes, inside the open transaction; begin one if there is none.

        Returns:
            the row id of the last insertion.
        """
        try:
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
            return self._connection.execute(sql, values).lastrowid or 0
        except sqlite3.OperationalError as error:
            raise self._unwritable(error) from error

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterable[tuple[Any, ...]]:
        """Run a statement that reads; it sees uncommitted writes too."""
        return self._connection.execute(sql, values)

    def row(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a statement that reads, or None."""
        found: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        return found

    def meta(self, key: str) -> str | None:
        """Return the value stored under a key, or None."""
        found = self.row("SELECT value FROM meta WHERE key = ?", (key,))
        return None if found is None else str(found[0])

    def set_meta(self, key: str, value: str) -> None:
        """Store a value under a key."""
        self.write(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3 … for each name; no number comes twice, and a killed simulator leaves a gap.

        Numbers are reserved in the file in blocks, because a statement per number would slow a load down.
        """
        last, limit = self._numbers.get(name) or (int(self.meta(f"number:{name}") or 0),) * 2
        if last == limit:
            limit = last + NUMBER_BLOCK
            self.set_meta(f"number:{name}", str(limit))
        self._numbers[name] = (last + 1, limit)
        return last + 1

    def commit(self) -> None:
        """End the open transaction, if there is one."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: sqlite3.OperationalError) -> SlotwireError:
        return SlotwireError(
            f"the simulator's state file {self._path} cannot be written: {error}",
            remedy="Make room on its disk, or name a file elsewhere with --state-file.",
        )

    def close(self) -> None:
        """Release the reserved numbers that were not used, commit and close."""
        try:
            for name, (last, _) in self._numbers.items():
                self.set_meta(f"number:{name}", str(last))
            self.commit()
        finally:
            self._connection.close()
