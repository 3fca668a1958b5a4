"""What the database must not allow, asked of the database itself: `doctor` reports it, and tests walk it.

SECURITY.md says what each process may do. Here is what would let somebody do more: a function of the owner's that looks
names up where its caller says, or that others may call; a role that may do, own or inherit what no process needs; and a
process that logs in as somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping

from slotwire.ingest.foundation.migrations import PROCESSES, role_of
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.operate.findings import MAX_NAMED, Finding, ok

CALLS: Mapping[str, tuple[str, ...]] = {
    "serve": ("accept", "note_serving"),
    "relay": (
        "adopt_server",
        "append",
        "append_erased",
        "append_moves",
        "erased_among",
        "leave_epoch",
        "pass_over_positions",
        "take_epoch",
        "try_alone",
    ),
    "agents": (
        "agent_settings_for",
        "attention_of",
        "availability_changed",
        "booked_with",
        "booking_changes",
        "bookings_between",
        "bookings_now",
        "chain_of",
        "disable_agent_settings",
        "end_mcp_run",
        "event_of",
        "expire_approval",
        "give_mcp_run",
        "grant_calls",
        "grant_firing_calls",
        "hold_availability",
        "keep_mcp_run",
        "last_event_of",
        "leave_availability",
        "meetings_between",
        "organizations_served",
        "published_availability",
        "unpublished_availability",
        "write_availability",
    ),
    "mcp": (
        "grant_mcp_call",
        "mcp_agent_of",
        "mcp_bookings",
        "mcp_chain",
        "mcp_events_of",
        "mcp_heads",
        "mcp_health",
        "mcp_kept",
        "mcp_published",
        "mcp_run_of",
        "mcp_sight",
        "mcp_users_of",
        "note_mcp_deliveries",
        "note_mcp_use",
    ),
    "control": (
        "accept",
        "actions_remembered",
        "begin_erasure",
        "block_bookings",
        "booking_wait",
        "cancel_run",
        "change_connection",
        "confirm_deletions",
        "decide_approval",
        "decide_step",
        "deletions_confirmed",
        "discard",
        "disconnect",
        "drop_journals",
        "drop_range",
        "drop_use_day",
        "end_erasure",
        "end_mcp_subscription",
        "end_runs",
        "erase_deliveries",
        "erase_events",
        "erase_rows",
        "erased_among",
        "erased_invitees",
        "find_erased",
        "forget_chains",
        "intend_action",
        "lease_calls",
        "lose_subscription",
        "make_ranges",
        "make_use_days",
        "mcp_in_chain",
        "mcp_subscriptions_seen",
        "mcp_subscriptions_stuck",
        "mcp_users_of",
        "meetings_of_span",
        "needed_for",
        "prune",
        "prune_actions",
        "prune_audit",
        "prune_booking_turns",
        "prune_budgets",
        "prune_uses",
        "ranges_of",
        "redrive_letters",
        "remember_actions",
        "restore_subscription",
        "revoke_connection",
        "revoke_signing_keys",
        "set_agent_settings",
        "settle_action",
        "store_connection",
        "take_booking_turn",
        "tell_changes",
        "tell_meetings",
        "unset_agent_settings",
        "use_days",
    ),
}
"""The functions that each process calls. Nobody else but the owner may call any."""
LOGINS: Mapping[str, str] = {
    "slotwire-serve": "serve",
    "slotwire-accept": "serve",
    "slotwire-notify": "serve",
    "slotwire-relay": "relay",
    "slotwire-lease": "relay",
    "slotwire-writer": "relay",
    "slotwire-agents": "agents",
    "slotwire-mcp-delivery": "mcp",
    "slotwire-control": "control",
    "slotwire-mcp": "mcp",
}
"""The process that connects under each `application_name`."""

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


async def functions(connection: Connection, role_prefix: str) -> Finding:
    """Say which functions look names up elsewhere, belong to somebody else, or may be called by others."""
    pairs = [(call, role_of(process, role_prefix)) for process, calls in CALLS.items() for call in calls]
    faults = await _faults(
        connection, _SQL["function_faults"], [call for call, _ in pairs], [role for _, role in pairs]
    )
    if not faults:
        return ok("functions", "each is the owner's, looks names up in pg_catalog alone, and has its callers only")
    return Finding(
        check="functions",
        state="failed",
        message=faults,
        remedy="As the owner, for each: ALTER FUNCTION … SET search_path = pg_catalog, pg_temp; ALTER FUNCTION …"
        " OWNER TO …; REVOKE ALL ON FUNCTION … FROM …\n"
        "  Then find out who changed it: whoever could, could change the log.",
    )


async def roles(connection: Connection, role_prefix: str) -> Finding:
    """Say what the roles of the processes may do, own or inherit that no process needs."""
    faults = await _faults(connection, _SQL["role_faults"], [role_of(process, role_prefix) for process in PROCESSES])
    if not faults:
        return ok("roles", "none may create, inherit or own anything")
    return Finding(
        check="roles",
        state="warning",
        message=faults,
        remedy="Take it away as a superuser. `slotwire migrate`, as the database's owner, takes temporary objects from"
        " everybody.\n  SECURITY.md lists what each process needs.",
    )


async def logins(connection: Connection, role_prefix: str) -> Finding:
    """Say which processes are connected to this database as another role than their own."""
    named = [role_of(process, role_prefix) for process in LOGINS.values()]
    faults = await _faults(connection, _SQL["foreign_logins"], list(LOGINS), named)
    if not faults:
        return ok("logins", "every process that is connected logs in as its own role")
    return Finding(
        check="logins",
        state="warning",
        message=faults,
        remedy="Give each process an address with its own role in SLOTWIRE_DATABASE_URL:"
        " docs/howto/run-in-production.md, Postgres.",
    )


async def _faults(connection: Connection, statement: str, *arguments: list[str]) -> str:
    with translated():
        faults = [row["fault"] for row in await connection.fetch(statement, *arguments)]
    more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    return "; ".join(faults[:MAX_NAMED]) + more
