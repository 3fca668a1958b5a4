"""The doctor's checks of each organization: keys that open, connections, subscriptions, no holes, no open actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from slotwire.ingest.control import app_keys
from slotwire.ingest.control.changes.sweep_records import sweeps_state
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.signing_keys import signing_key_context
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.operate.findings import MAX_NAMED, Finding, ok
from slotwire.ingest.operate.vault_rotation import keys_in_use

if TYPE_CHECKING:
    import asyncpg

RATES_SEEN = timedelta(minutes=10)
"""How long ago a user's calls may have been counted to be told; clocks may differ by a minute of it."""
ERASURES_WARNING = timedelta(hours=1)
"""An erasure that did not end goes on only when somebody asks for it again."""
HOLES_WARNING = timedelta(hours=1)
"""A hole that is not filled after so long needs somebody's help, or has very much to fetch."""
MAX_KEYS_TRIED = 100
"""Signing keys that are opened to check the vault's keys, newest first."""

SWEEPS_LATE = 3
"""Intervals after which an organization that was not swept again is a warning."""
ACTIONS_WARNING = timedelta(minutes=15)
"""An action whose outcome is not known after so long: `slotwire control` does not run, or cannot see it."""

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_ACTIONS = read_queries("slotwire.ingest.sql", "actions.sql")
_ROUNDS = read_queries("slotwire.ingest.sql", "subscriptions.sql")
_BUDGETS = read_queries("slotwire.ingest.sql", "budget.sql")


async def sealed_keys(connection: Connection, settings: Settings) -> Finding:
    """Open the signing keys: with a missing vault key, genuine deliveries would be refused."""
    with translated():
        rows = await connection.fetch(_SQL["sealed_keys"], MAX_KEYS_TRIED)
    vault = Vault.from_settings(settings.vault)
    for row in rows:
        vault.open(row["sealed"], context=signing_key_context(row["org"], row["subscription_id"], row["id"]))
    return ok("sealed keys", f"{len(rows)} signing keys open with the vault's keys" if rows else "none yet")


async def oauth_app(connection: Connection, settings: Settings) -> Finding:
    """Compare the app's signing keys of the settings with those that deliveries are verified with."""
    oauth = settings.oauth
    if not oauth.client_id:
        return ok("oauth app", "none: customers are connected by token only")
    listed = {key.get_secret_value().encode() for key in oauth.signing_keys}
    known = await app_keys.in_force(connection, Vault.from_settings(settings.vault))
    if listed != known:
        return Finding(
            check="oauth app",
            state="warning",
            message=f"{len(listed - known)} signing keys of the settings are not in force,"
            f" {len(known - listed)} others are",
            remedy="Restart `slotwire control` with the right SLOTWIRE_OAUTH__SIGNING_KEYS: that puts them into force.",
        )
    address = oauth.public_url or settings.public_url
    return ok("oauth app", f"customers connect at {address}; {len(known)} signing keys in force")


async def vault_use(connection: Connection, settings: Settings) -> Finding:
    """Say which keys are still needed, and for how many secrets."""
    uses = await keys_in_use(connection, Vault.from_settings(settings.vault))
    said = ", ".join(f"{use.key or 'unknown form'!r}: {use.secrets}" for use in uses)
    said = f"secrets by the key that encrypted them: {said}"
    if missing := [use.key for use in uses if not use.here]:
        named = ", ".join(repr(name) for name in missing)
        return Finding(
            check="vault use",
            state="failed",
            message=said,
            remedy=f"The vault lacks the key {named}. Add it again, after the others: its secrets cannot be opened.",
        )
    if any(use.secrets and not use.seals for use in uses):
        remedy = "A rotation is not finished. Run `slotwire keys vault rotate`."
        return Finding(check="vault use", state="warning", message=said, remedy=remedy)
    if unused := [use.key for use in uses if use.removable]:
        said += f"; {', '.join(map(repr, unused))} may be removed once every process runs with the new key first"
    return ok("vault use", said)


async def connections(connection: Connection, settings: Settings) -> Finding:
    """Count connections by state, and name organizations without one that can act."""
    with translated():
        rows = await connection.fetch(_SQL["connections_by_state"])
        idle = await connection.fetch(_SQL["organizations_without_connection"], MAX_NAMED)
    counted = ", ".join(f"{row['connections']} {row['state']}" for row in rows) or "none yet"
    if not idle:
        days = settings.connections.expiring_days
        unrefreshed = sum(row["unrefreshed"] for row in rows)
        expiring = sum(row["connections"] for row in rows if row["state"] == "expiring") - unrefreshed
        said = counted + (f"; expiring means within {days} days" if expiring else "")
        said += f"; {unrefreshed} by OAuth not refreshed, and soon unable to act" if unrefreshed else ""
        remedies = ["Make new tokens and add them: slotwire connections add --token-file FILE"] if expiring else []
        remedies += ["docs/runbooks/calendly-away.md says why refreshes fail."] if unrefreshed else []
        remedy = "\n".join(remedies)
        return Finding(check="connections", state="warning" if remedy else "ok", message=said, remedy=remedy)
    named = ", ".join(row["org"] for row in idle)
    return Finding(
        check="connections",
        state="warning",
        message=f"{counted}; nothing can be done at Calendly for: {named}",
        remedy="Connect an owner or admin of each: slotwire connections add --token-file FILE\n"
        "Or, where customers connect by OAuth: slotwire connections link --organization ORG",
    )


async def deliveries(connection: Connection) -> Finding:
    """Say to which subscriptions Calendly sends and gets no delivery through, as it lists them."""
    with translated():
        rows = await connection.fetch(_SQL["deliveries_failing"], MAX_NAMED)
    if not rows:
        return ok("deliveries", "Calendly retries none, or others of the same subscription come through")
    first = rows[0]
    named = ", ".join(dict.fromkeys(row["org"] for row in rows))
    return Finding(
        check="deliveries",
        state="warning",
        message=f"every delivery fails to {first['failing']} of {first['active']} active subscriptions, since"
        f" {first['retrying_since']:%Y-%m-%d %H:%M}Z: {named}",
        remedy="Calendly retries for 24 h and then disables them. `serve` refuses them, or they do not reach it:"
        " docs/runbooks/deliveries-refused.md says what to look at.",
    )


async def rate_limits(connection: Connection, clock: Clock) -> Finding:
    """Name the connections whose users' calls other programs spend, or Calendly refuses now."""
    since = (clock.now() - RATES_SEEN).timestamp()
    with translated():
        rows = await connection.fetch(_BUDGETS["crowded_budgets"], since, MAX_NAMED)
    if not rows:
        return ok("rate limits", "no user's calls are refused, or spent for the greater part by other programs")
    named = ", ".join(
        f"{row['id']} ("
        + (f"refused for {row['blocked']:.0f} s more" if row["blocked"] else f"others spend {row['others']}")
        + f" of {row['calls_limit']} a minute)"
        for row in rows
    )
    return Finding(
        check="rate limits",
        state="warning",
        message=f"{rows[0]['users']} connections have few calls to Calendly: {named}",
        remedy="Find out which other program acts as this user, or connect a user of Slotwire's own:"
        " slotwire connections add --token-file FILE",
    )


async def organizations(connection: Connection, settings: Settings) -> Finding:
    """Say whether wanted subscriptions exist, as far as the database knows; only Calendly knows the rest."""
    with translated():
        row = await connection.fetchrow(_SQL["organizations_at_work"])
        unserved = await connection.fetch(_SQL["organizations_unserved"])
        contested = await connection.fetch(_SQL["organizations_contested"])
        confirmed = await connection.fetchval(_ROUNDS["deletions_confirmed"])
    if row is None:  # pragma: no cover - an aggregate gives one row
        raise AssertionError
    said = f"{row['active']} active, {row['wanted']} wanted subscriptions"
    said += f"; {row['backfilling']} still to be backfilled" if row["backfilling"] else ""
    if contested:
        return Finding(
            check="organizations",
            state="warning",
            message=f"{said}; something deletes the subscriptions of: {_named(contested)}",
            remedy="Find out who or what does, then: slotwire subscriptions resume --organization ORG",
        )
    if not confirmed:
        return Finding(
            check="organizations",
            state="warning",
            message=f"{said}; this database was restored, copied or failed over, so nothing is deleted at Calendly",
            remedy="If no other installation uses its subscriptions: slotwire subscriptions confirm-deletions",
        )
    if not unserved:
        return ok("organizations", said if row["active"] else "none yet")
    return Finding(
        check="organizations",
        state="warning",
        message=f"{said}; {sum(item['wanted'] for item in unserved)} wanted are missing, of: {_named(unserved)}",
        remedy=f"`slotwire control` tries every {settings.subscriptions.interval_seconds:g} s, and its log says why it"
        " fails.\n  To try now and see the error: slotwire organizations add --token-file FILE",
    )


def _named(rows: Sequence[asyncpg.Record]) -> str:
    return ", ".join(row["org"] for row in rows[:MAX_NAMED]) + (", …" if len(rows) > MAX_NAMED else "")


async def holes(connection: Connection, clock: Clock) -> Finding:
    """Say how many times in which something may have been missed are not filled yet, and which ones for long."""
    with translated():
        row = await connection.fetchrow(_SQL["open_holes"], clock.now() - HOLES_WARNING, MAX_NAMED)
    if row is None:  # pragma: no cover - an aggregate gives one row
        raise AssertionError
    if not row["holes"]:
        return ok("holes", "none: nothing that may have been missed is left to fetch")
    said = f"{row['holes']} not filled yet, the first of {row['oldest']:%Y-%m-%d %H:%M}Z"
    if not row["late"]:
        return ok("holes", f"{said}; `slotwire control` fills them by itself")
    return Finding(
        check="holes",
        state="warning",
        message=f"{said}; for more than an hour: {', '.join(row['late'])}",
        remedy="Each with its progress: slotwire reconcile --list\n"
        "  `unwatched` needs a credential. To fetch now and see why it fails: slotwire reconcile ORG",
    )


async def erasures(connection: Connection, clock: Clock) -> Finding:
    """Say how many people were to be erased and are not yet."""
    with translated():
        rows = await connection.fetch(_SQL["open_erasures"], clock.now() - ERASURES_WARNING)
    if not rows:
        return ok("erasures", "none is open")
    return Finding(
        check="erasures",
        state="warning",
        message=f"{len(rows)} did not end within an hour, of {_named(rows)}",
        remedy="Each with its beginning: slotwire erase --list\n"
        "  Ask for the same again, and it goes on: slotwire erase ORG --email ADDRESS",
    )


async def changes(connection: Connection, settings: Settings, clock: Clock) -> Finding:
    """Say how many organizations are swept for changes that Calendly does not tell, at what cost, and who waits."""
    minutes = settings.changes.interval_minutes
    if minutes is None:
        return ok("changes", "upcoming meetings are not compared (SLOTWIRE_CHANGES__INTERVAL_MINUTES is unset)")
    swept = await sweeps_state(connection)
    took = f"{swept.meetings} meetings in {swept.calls} calls"
    said = f"{swept.organizations} organizations, each every {minutes:g} min: {took}"
    late = swept.oldest is not None and clock.now() - swept.oldest > SWEEPS_LATE * timedelta(minutes=minutes)
    if not late and not swept.failing:
        return ok("changes", said)
    why = f"; {swept.failing} failed, such as {swept.named}" if swept.failing else ""
    return Finding(
        check="changes",
        state="warning",
        message=f"{said}; the one that waits longest was last swept at {swept.oldest}{why}",
        remedy="Is `slotwire control` running, and can its connection act? Its log has sweep_failed with the reason."
        " Else compare less often, or fewer days: SLOTWIRE_CHANGES__INTERVAL_MINUTES and SLOTWIRE_CHANGES__DAYS_AHEAD.",
    )


async def actions(connection: Connection, clock: Clock) -> Finding:
    """Say how many actions wait for a person, or are open for long, and whether all of them look before they call."""
    with translated():
        rows = await connection.fetch(_ACTIONS["count_actions"])
        late = await connection.fetch(_ACTIONS["waiting_actions"], clock.now() - ACTIONS_WARNING, MAX_NAMED)
        remembered = await connection.fetchval(_ACTIONS["actions_remembered"])
    said = ", ".join(f"{row['actions']} {row['state']}" for row in rows) or "none is open or waits for a person"
    if late:
        return Finding(
            check="actions",
            state="warning",
            message=f"{said}; it is not known what became of: {', '.join(str(row['id']) for row in late)}",
            remedy="docs/runbooks/action-with-person.md says how to find out: slotwire actions show ID,"
            " then slotwire actions decide ID done|not_done --why …",
        )
    if not remembered:
        return Finding(
            check="actions",
            state="warning",
            message=f"{said}; this database was restored, copied or failed over, so each action looks before it calls",
            remedy="When no caller repeats a key from before: slotwire actions confirm-restore",
        )
    return ok("actions", said)
