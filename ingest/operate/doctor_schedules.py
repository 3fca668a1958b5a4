"""The doctor's check of scheduled work: whether a process of each agent fires it, and whether any of it is overdue."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.operate.findings import MAX_NAMED, Finding, ok

WARNING = timedelta(minutes=5)
"""Work that is due for so long was not fired; the alert comes at the same age. So for a process that was not there."""
UNUSED = timedelta(days=7)
"""An agent whose work is due for so long was taken out of service: the alert forgets it, too."""

_SQL = read_queries("slotwire.ingest.sql", "agent_schedules.sql")


async def schedules(connection: Connection, clock: Clock) -> Finding:
    """Say which agents have scheduled work, and which of them nobody fires or is late with it."""
    with translated():
        rows = await connection.fetch(_SQL["scheduled_agents"])
    if not rows:
        return ok("schedules", "no agent has scheduled work, or none has run yet")
    now = clock.now()
    unused = [row for row in rows if now - row["since"] > UNUSED]
    used = [row for row in rows if row not in unused]
    wrong = [said for row in used if (said := _problem(row, now))]
    work = sum(row["schedules"] for row in used)
    named = ", ".join(row["agent"] for row in used[:MAX_NAMED]) or "none"
    message = f"{len(used)} agents have {work} works: {named}" + (", …" if len(used) > MAX_NAMED else "")
    if unused:
        message += f"; not run for a week: {', '.join(row['agent'] for row in unused[:MAX_NAMED])}"
    if not wrong:
        return ok("schedules", message)
    return Finding(
        check="schedules",
        state="warning",
        message=f"{message}; {'; '.join(wrong[:MAX_NAMED])}",
        remedy="Start a process of the agent: slotwire agents run. If one runs, its /readyz says why it does not fire;"
        " docs/runbooks/schedule-late.md says the rest.",
    )


def _problem(row: asyncpg.Record, now: datetime) -> str:
    """Say what is wrong with an agent; empty if nothing is."""
    seen: datetime | None = row["seen_at"]
    if now - row["since"] > WARNING:
        return f"{row['latest']} of {row['agent']} is due since {row['since']:%Y-%m-%d %H:%M}Z"
    if not row["taken"]:
        return (
            f"nobody fires for {row['agent']}: all its processes have stopped, or it is past its limit of dead letters"
        )
    if seen is not None and now - seen > WARNING:
        return f"nobody fires for {row['agent']} since {seen:%Y-%m-%d %H:%M}Z"
    return ""
