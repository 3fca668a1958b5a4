"""What `doctor` finds about agents: what they gave up, what they wait for, and whose tables they can read."""

from __future__ import annotations

from datetime import timedelta

from slotwire.ingest.foundation.agent_settings.stored import open_secrets, settings_keys
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.migrations import role_of
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.operate.findings import MAX_NAMED, Finding, ok

LETTERS_WARNING = timedelta(days=1)
"""A dead letter that is open for so long waits for nobody; the alert comes at the same age."""
HELD = frozenset({"unknown", "diverged", "overdue"})
"""States of runs that need somebody, beside `parked`, which another version's process takes."""

DEATHS_WARNING = 2
"""With one death an event may be innocent; the alert comes at the same number."""

MAX_SECRETS_TRIED = 100
"""Settings whose secrets are opened, newest first."""

MCP_WARNING = timedelta(minutes=10)
"""A webhook subscription of MCP Events that fails for so long, or to which nothing comes, needs somebody."""

_OPERATE = read_queries("slotwire.ingest.sql", "operate.sql")
_LETTERS = read_queries("slotwire.ingest.sql", "dead_letters.sql")
_RUNS = read_queries("slotwire.ingest.sql", "agent_runs.sql")
_SETTINGS = read_queries("slotwire.ingest.sql", "agent_settings.sql")


async def dead_letters(connection: Connection, clock: Clock) -> Finding:
    """Say how many dead letters are open, and which agents' for long."""
    with translated():
        rows = await connection.fetch(_LETTERS["count_open_letters"])
    said = ", ".join(f"{row['letters']} of {row['agent']}" for row in rows[:MAX_NAMED])
    if not rows:
        return ok("dead letters", "none is open")
    late = [row["agent"] for row in rows if clock.now() - row["oldest"] > LETTERS_WARNING]
    if not late:
        return ok("dead letters", f"open: {said}; none for more than a day")
    return Finding(
        check="dead letters",
        state="warning",
        message=f"open: {said}; for more than a day: {', '.join(late[:MAX_NAMED])}",
        remedy="Look at them: slotwire dead-letters list. docs/runbooks/dead-letters-open.md says what to do.",
    )


async def runs(connection: Connection, clock: Clock) -> Finding:
    """Say how many runs are not done, and which need somebody, or whose events end the processes of their agents."""
    with translated():
        rows = await connection.fetch(_RUNS["count_runs"], clock.now())
        died = await connection.fetch(_RUNS["count_deaths"], clock.now())
    deaths = [row for row in died if row["deaths"] >= DEATHS_WARNING]
    if deaths:
        named = ", ".join(f"{row['agent']} ({row['deaths']} times)" for row in deaths[:MAX_NAMED])
        return Finding(
            check="runs",
            state="warning",
            message=f"processes die while one and the same event runs: {named}",
            remedy="docs/runbooks/agent-dies.md says how to find the event, and what becomes of it.",
        )
    said = ", ".join(f"{row['runs']} {row['state']} of {row['agent']}" for row in rows[: 2 * MAX_NAMED])
    if not any(row["state"] in HELD for row in rows):
        return ok("runs", said or "none has steps or waits that are not done")
    return Finding(
        check="runs",
        state="warning",
        message=said,
        remedy="docs/runbooks/run-held.md says what each word means, and what lets a run go on or ends it.",
    )


async def agent_tables(connection: Connection, settings: Settings) -> Finding:
    """Say which agents have tables of their own that the processes of the others can read, too."""
    role = role_of("agents", settings.migrate.role_prefix)
    with translated():
        rows = await connection.fetch(_RUNS["agent_schemas"], role)
    schemas = [row["schema"] for row in rows]
    if len(schemas) < 2:
        return ok("agent tables", f"{schemas[0]} alone" if schemas else "no agent has any")
    more = f" and {len(schemas) - MAX_NAMED} more" if len(schemas) > MAX_NAMED else ""
    return ok(
        "agent tables",
        f"agents that log in with the rights of {role} can read and write each other's:"
        f" {', '.join(schemas[:MAX_NAMED])}{more}. Agents that must not belong in an installation of their own",
    )


async def agent_settings(connection: Connection, settings: Settings) -> Finding:
    """Open what is secret in the settings of shipped agents, and name those whose receivers are gone."""
    with translated():
        rows = await connection.fetch(_SETTINGS["latest_sealed_agent_settings"], MAX_SECRETS_TRIED)
        disabled = await connection.fetch(_SETTINGS["disabled_agent_settings"])
    keys = settings_keys(settings.agents)
    for row in rows:
        open_secrets(keys, row["agent"], row["org"], row["sealed"])
    if disabled:
        gone = ", ".join(f"{row['agent']} ({row['settings']}, the first for {row['org'] or 'all'})" for row in disabled)
        return Finding(
            check="agent settings",
            state="warning",
            message=f"receivers are gone, and are told nothing more: {gone}",
            remedy="docs/runbooks/receiver-gone.md says what to do; slotwire agents settings show lists them.",
        )
    return ok("agent settings", f"no receiver is gone; the secrets of {len(rows)} agents and organizations open")


async def mcp_subscriptions(connection: Connection, clock: Clock) -> Finding:
    """Name webhook subscriptions of agents of MCP that do not come on."""
    now = clock.now()
    with translated():
        rows = await connection.fetch(_OPERATE["mcp_subscriptions_stuck"], now, now - MCP_WARNING, MAX_NAMED)
    if not rows:
        return ok("mcp subscriptions", "none is suspended, fails for long, or waits")
    named = ", ".join(f"{row['agent_name'] or 'a removed agent'} at {row['host']} ({row['why']})" for row in rows)
    more = rows[0]["stuck"] - len(rows)
    return Finding(
        check="mcp subscriptions",
        state="warning",
        message=f"do not come on: {named}" + (f", and {more} more" if more else ""),
        remedy="slotwire mcp subscriptions list shows them; docs/runbooks/mcp-events-given-up.md says what to do.",
    )
