"""Writes meetings in the transaction of an event."""

from __future__ import annotations

from schemas.meeting import Meeting

from slotwire.handlers import DatabaseConnection


async def store(connection: DatabaseConnection, meeting: Meeting) -> None:
    """Insert a meeting."""
    await connection.execute("INSERT INTO meetings VALUES ($1, $2)", meeting.invitee, meeting.starts_at)


async def start_of(connection: DatabaseConnection, invitee: str) -> str | None:
    """Return when a meeting starts, as text."""
    row = await connection.fetchrow("SELECT starts_at FROM meetings WHERE invitee = $1", invitee)
    return str(row["starts_at"]) if row else None
