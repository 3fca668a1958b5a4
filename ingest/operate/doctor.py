"""The doctor: checks everything that a working installation needs, changes nothing, and says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta

from slotwire.ingest.control.retention import TABLES, held_ranges, retained
from slotwire.ingest.control.subscriptions import check_callback
from slotwire.ingest.errors import ConfigurationError, SlotwireError
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.migrations import PROCESSES, require_fitting, role_of
from slotwire.ingest.foundation.open_files import fitting, needed, reachable_limit
from slotwire.ingest.foundation.postgres import Connection, Session, connect, read_queries, translated
from slotwire.ingest.foundation.postgres_session import describe, durability_of
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.settings_base import is_loopback
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.operate import (
    doctor_agents,
    doctor_availability,
    doctor_organizations,
    doctor_schedules,
    privileges,
    uses,
)
from slotwire.ingest.operate.doctor_network import calls_of_agents, calls_of_mcp, encryption, kafka_findings
from slotwire.ingest.operate.findings import CHECKS, MAX_NAMED, Finding, Process, asked, failed, ok

SKEW_WARNING = timedelta(seconds=2)
SKEW_FAILURE = timedelta(seconds=60)
"""Signatures from more than 300 s ahead are refused, so a clock that is off by a minute must be set."""
UNWRITTEN_WARNING = timedelta(seconds=60)
"""An accepted delivery that is not written for so long waits for a writer that is not there."""
RANGES_WARNING = 2
"""Partitions are made for a week ahead; with fewer days than this, nothing has made them for days."""
RETENTION_WARNING = 3
"""Days that could go and have not: one of each kind comes up at midnight, and goes within the hour."""
SERVER_CONNECTIONS_WARNING = 0.85
"""Of the connections that ordinary roles may have; the alert comes at the same share."""

_NEEDED = (("serve", "accept"), ("relay", "append"), ("control", "accept"), ("control", "make_ranges"))
"""Functions without which a process cannot work."""
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_UNWRITTEN = read_queries("slotwire.ingest.sql", "unwritten.sql")


async def examine(settings: Settings, clock: Clock, *, process: Process | None = None) -> AsyncIterator[Finding]:
    """Run checks, and yield each finding as soon as it is known. A check that fails does not end the others.

    Args:
        settings: what is checked.
        clock: is compared with the server's.
        process: the process whose needs are checked, with what it has itself; None checks the whole installation.
    """
    wanted = None if process is None else CHECKS[process]
    for check, look in _settings_checks(settings).items():
        # An installation need not have an MCP server.
        if check in wanted if wanted is not None else check != "mcp" or settings.mcp.token_keys:
            yield _tried(check, look)
    if wanted is None or "open files" in wanted:
        yield check_open_files(settings.http.max_connections, reachable_limit())
    yield encryption(settings, kafka=wanted is None or "kafka" in wanted)
    async for found in _postgres(settings, clock, process):
        yield found
    if wanted is None or "kafka" in wanted:
        async for found in kafka_findings(settings, cursor=wanted is None or "cursor" in wanted):
            yield found
    if settings.agents.control_url and (wanted is None or "calls" in wanted):
        yield await asked("calls", calls_of_agents(settings))
    if settings.mcp.control_url and (wanted is None or "mcp calls" in wanted):
        yield await asked("mcp calls", calls_of_mcp(settings))


def _settings_checks(settings: Settings) -> dict[str, Callable[[], str]]:
    def hook_keys() -> str:
        HookAddresses.from_settings(settings)
        return "present"

    def address() -> str:
        hooks = HookAddresses.from_settings(settings)
        check_callback(hooks.url(hooks.mint()), settings.calendly.api_url)
        return f"Calendly sends to {settings.public_url}"

    def mcp() -> str:
        from slotwire.ingest.mcp.tokens import TokenKeys  # needs a library that no other check needs

        keys, mcp = TokenKeys.from_settings(settings.mcp), settings.mcp
        if not mcp.public_url and not is_loopback(mcp.host):
            raise ConfigurationError(
                "agents' tokens are bound to an address, and none is set",
                remedy="Set SLOTWIRE_MCP__PUBLIC_URL to the https address at which agents reach the MCP server.",
            )
        return f"{next(iter(keys.keys))!r} signs tokens for {mcp.public_url or 'this machine'}"

    return {
        "mcp": mcp,
        "vault keys": lambda: f"present; {Vault.from_settings(settings.vault).key_names[0]!r} encrypts",
        "hook keys": hook_keys,
        "public url": address,
    }


def check_open_files(connections: int, limit: int) -> Finding:
    """Compare the cap on connections with the files that a process started like this one may have open."""
    need = needed(connections)
    if need <= limit:
        return ok("open files", f"{limit} may be open; `serve` needs at most {need} for {connections} connections")
    try:
        fits = fitting(connections, limit)
    except ConfigurationError as error:
        return failed("open files", error)
    return Finding(
        check="open files",
        state="warning",
        message=f"only {limit} may be open, so `serve` takes {fits} connections, not {connections}",
        remedy=f"Raise the hard limit (`ulimit -Hn`, LimitNOFILE of systemd) to {need}, or lower "
        "SLOTWIRE_HTTP__MAX_CONNECTIONS.",
    )


def _tried(check: str, look: Callable[[], str]) -> Finding:
    try:
        return ok(check, look())
    except SlotwireError as error:
        return failed(check, error)


async def _postgres(settings: Settings, clock: Clock, process: Process | None) -> AsyncIterator[Finding]:
    dsn = settings.database_url.get_secret_value()
    any_server = settings.database.model_copy(update={"durable": False})  # durability is a finding of its own
    try:
        connection = await connect(dsn, any_server, application="doctor")
    except SlotwireError as error:
        yield failed("postgres", error)
        return
    try:
        version = connection.get_server_version()
        way = " by way of a pooler in session mode" if connection.pooled else ""
        yield ok("postgres", f"reached{way}, version {version.major}.{version.micro}, accepts writes")
        yield await asked("durability", _durability(connection, settings))
        yield await asked("clock", _skew(connection, clock if settings.local.clock_file is None else SystemClock()))
        schema = await asked("schema", _schema(connection))
        yield schema
        if schema.state != "ok":
            return
        yield await asked("rights", _rights(connection, settings, process))
        prefix = settings.migrate.role_prefix
        questions: dict[str, Callable[[], Awaitable[Finding]]] = {
            "functions": lambda: privileges.functions(connection, prefix),
            "roles": lambda: privileges.roles(connection, prefix),
            "logins": lambda: privileges.logins(connection, prefix),
            "unwritten": lambda: _unwritten(connection, settings, clock),
            "ranges": lambda: _ranges(connection, clock),
            "retention": lambda: _retention(connection, settings, clock),
            "sealed keys": lambda: doctor_organizations.sealed_keys(connection, settings),
            "vault use": lambda: doctor_organizations.vault_use(connection, settings),
            "oauth app": lambda: doctor_organizations.oauth_app(connection, settings),
            "server connections": lambda: _server_connections(connection),
            "connections": lambda: doctor_organizations.connections(connection, settings),
            "deliveries": lambda: doctor_organizations.deliveries(connection),
            "rate limits": lambda: doctor_organizations.rate_limits(connection, clock),
            "organizations": lambda: doctor_organizations.organizations(connection, settings),
            "holes": lambda: doctor_organizations.holes(connection, clock),
            "erasures": lambda: doctor_organizations.erasures(connection, clock),
            "actions": lambda: doctor_organizations.actions(connection, clock),
            "changes": lambda: doctor_organizations.changes(connection, settings, clock),
            "dead letters": lambda: doctor_agents.dead_letters(connection, clock),
            "runs": lambda: doctor_agents.runs(connection, clock),
            "agent tables": lambda: doctor_agents.agent_tables(connection, settings),
            "agent settings": lambda: doctor_agents.agent_settings(connection, settings),
            "availability": lambda: doctor_availability.availability(connection, clock),
            "schedules": lambda: doctor_schedules.schedules(connection, clock),
            "mcp subscriptions": lambda: doctor_agents.mcp_subscriptions(connection, clock),
        }
        for check, question in questions.items():
            if process is None or check in CHECKS[process]:
                yield await asked(check, question())
    finally:
        await connection.close()


async def _durability(connection: Session, settings: Settings) -> Finding:
    found = durability_of(await describe(connection))
    said = f"fsync {'on' if found.fsync else 'off'}, synchronous_commit {found.synchronous_commit}; "
    said += f"an acknowledged delivery {found.promise}" if found.survives_crash else found.promise
    if found.survives_crash:
        return ok("durability", said)
    return Finding(
        check="durability",
        state="failed" if settings.database.durable else "warning",
        message=said,
        remedy="Set fsync=on and synchronous_commit=on on the server, and for the role if it has its own value.",
    )


async def _skew(connection: Connection, clock: Clock) -> Finding:
    """Compare the clocks. The server's time is read half-way between two readings of ours."""
    before = clock.now()
    with translated():
        theirs = await connection.fetchval("SELECT clock_timestamp()")
    after = clock.now()
    skew = abs(theirs - (before + (after - before) / 2))
    said = f"{skew.total_seconds():.3f} s between this machine and Postgres"
    if skew <= SKEW_WARNING:
        return ok("clock", said)
    return Finding(
        check="clock",
        state="failed" if skew > SKEW_FAILURE else "warning",
        message=said,
        remedy="Synchronize both clocks with NTP. Deliveries signed more than 300 s ahead of this machine are refused.",
    )


async def _schema(connection: Connection) -> Finding:
    found = await require_fitting(connection)
    if found.missing:
        return Finding(
            check="schema",
            state="warning",
            message=f"a rollout is not finished: {', '.join(each.name for each in found.missing)} waits",
            remedy="When no process of the version before is left, run `slotwire migrate --post`.",
        )
    newer = f"newer than this version, which can work with it: {', '.join(found.newer)}"
    return ok("schema", newer if found.newer else "this version's")


async def _rights(connection: Connection, settings: Settings, process: Process | None) -> Finding:
    """Say which processes' rights the login has: one process should have those of one role."""
    prefix = settings.migrate.role_prefix
    roles = [role_of(process, prefix) for process in PROCESSES]
    needed = [(role_of(process, prefix), function) for process, function in _NEEDED]
    with translated():
        row = await connection.fetchrow(
            _SQL["rights"], roles, [each[0] for each in needed], [each[1] for each in needed]
        )
    if row is None:  # pragma: no cover - a SELECT without FROM gives one row
        raise AssertionError
    role = row["role"]
    if row["superuser"] or row["owns"] or row["writes"]:
        return Finding(
            check="rights",
            state="warning",
            message=f"the database role {role} may do more than the processes need: it could change the log",
            remedy=f"Let each process log in as its own role: {', '.join(roles)}.",
        )
    own = role_of(process or "control", prefix)
    missing = own not in row["roles"] if process else not row["roles"]
    if missing or row["lacking"]:
        lacking = "has the rights of no process" if process is None else f"has not the rights of {own}"
        lacking = lacking if missing else f"{', '.join(row['lacking'])} lack rights"
        grant = f'As a superuser: GRANT "{own}" TO "{role}". ' if missing else ""
        return Finding(
            check="rights",
            state="failed",
            message=f"the database role {role}: {lacking}",
            remedy=f"{grant}Then run `slotwire migrate`, which grants the rights.",
        )
    return ok("rights", f"the role {role} has the rights of {', '.join(row['roles'])}, and cannot change the log")


async def _unwritten(connection: Connection, settings: Settings, clock: Clock) -> Finding:
    """Say up to where each shard is written, and how much is accepted beyond it, for how long."""
    with translated():
        rows = await connection.fetch(_UNWRITTEN["unwritten"], None)
    now, limit = clock.now(), settings.http.max_unwritten_bytes
    said, late = list[str](), False
    for row in rows:
        text = f"shard {row['shard']}: written up to {row['position']}"
        if row["since"] is not None:
            age = now - row["since"]
            text += f", {row['bytes']} bytes beyond it, the oldest accepted {max(0.0, age.total_seconds()):.0f} s ago"
            late = late or age >= UNWRITTEN_WARNING or row["bytes"] >= limit / 2
        said.append(text)
    if not late:
        return ok("unwritten", "; ".join(said))
    return Finding(
        check="unwritten",
        state="warning",
        message=f"{'; '.join(said)}; past {limit} bytes deliveries are answered 503",
        remedy="Is `slotwire relay` running, and ready? docs/runbooks/unwritten-growing.md says what to do.",
    )


async def _ranges(connection: Connection, clock: Clock) -> Finding:
    """Say for how many days the log's partitions are made."""
    with translated():
        days = await connection.fetchval(_SQL["ranges_ahead"], clock.now())
    said = f"partitions are made for {max(days, 0)} days ahead"
    if days >= RANGES_WARNING:
        return ok("ranges", said)
    remedy = "Is `slotwire control` running? It makes them every hour, and its log says why it fails."
    return Finding(check="ranges", state="warning", message=said, remedy=remedy)


async def _retention(connection: Connection, settings: Settings, clock: Clock) -> Finding:
    """Say how far back what is kept for a time goes, and which days are kept longer, and why."""
    now, wanted = clock.now(), dict(settings.retention.kept())
    said = ", ".join(
        f"{kind} {days} days" + (f" of {wanted[kind]}" if kind in wanted else "")
        for kind, days in (await retained(connection, now)).items()
    )
    grown = await uses.growth(connection, now)
    said = (
        f"kept: {said or 'nothing yet'}; calls to Calendly: {grown.day} rows a day, {grown.bytes / 1e6:.1f} MB in all,"
        f" in {grown.days} partitions"
    )
    held = Counter((each.kind, each.needed_for) for each in await held_ranges(connection, settings.retention, now))
    late = sum(held.pop((kind, None), 0) for kind in TABLES)
    if held:
        reasons = ", ".join(f"{count} of {kind} ({reason})" for (kind, reason), count in sorted(held.items()))
        remedy = "docs/runbooks/retention-held.md says what each word means, and what lets a day go."
        return Finding(
            check="retention", state="warning", message=f"{said}; days that cannot go: {reasons}", remedy=remedy
        )
    if late > RETENTION_WARNING:
        remedy = "Is `slotwire control` running? It removes them every hour, and its log says why it fails."
        return Finding(check="retention", state="warning", message=f"{said}; {late} days could go", remedy=remedy)
    return ok("retention", said)


async def _server_connections(connection: Connection) -> Finding:
    """Say who has the server's connections: at their limit, a process that restarts cannot come back."""
    with translated():
        rows = await connection.fetch(_SQL["server_connections"])
    used, limit = int(rows[0]["all_connections"]), rows[0]["connections_limit"]
    named = ", ".join(f"{row['connections']} {row['program']}" for row in rows[:MAX_NAMED])
    said = f"{used} of {limit}: {named}" + (", …" if len(rows) > MAX_NAMED else "")
    if used < SERVER_CONNECTIONS_WARNING * limit:
        return ok("server connections", said)
    remedy = "docs/runbooks/connections-at-limit.md says whose to reduce, and how."
    return Finding(check="server connections", state="warning", message=said, remedy=remedy)


def verdict(findings: Iterable[Finding]) -> int:
    """Return the exit code: 1 when something failed."""
    return int(any(found.state == "failed" for found in findings))
