"""Sends a digest each day: the bookings of the day to come, what has changed, and what needs attention.

    slotwire agents run nightly-digest

To readers of mail, to a receiver of webhooks, or into files; for the organization, and for each host their own. What an
organization wants is set with `slotwire agents settings`; without settings nothing is sent. docs/howto/send-a-digest.md
is for whoever runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from slotwire.handlers.context import Context
from slotwire.handlers.firings import Firing
from slotwire.handlers.outcome import Done
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.reach.bookings import MAX_BOOKINGS
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.handlers.shipped.digest import rendered
from slotwire.handlers.shipped.digest.days import span_of
from slotwire.handlers.shipped.digest.delivery import DigestToSend, DigestWays
from slotwire.handlers.shipped.digest.plan import (
    MAX_HOSTS,
    Memories,
    PlannedDigest,
    days_of_hosts,
    due_hosts,
    due_readers,
    fitting,
    plan_as_json,
    plan_from_json,
    read_memories,
    remembered,
    written,
)
from slotwire.handlers.shipped.digest.selection import facts_of, hosts_of
from slotwire.ingest.foundation.agent_settings import NightlyDigestSettings
from slotwire.ingest.foundation.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    OutgoingFailed,
    OutgoingRefused,
    SchemaMismatch,
    SlotwireError,
)
from slotwire.ingest.foundation.outgoing_metrics import DIGESTS

STATE = "digests"
"""The key of what is remembered, beside the keys of chains."""
SENDING = timedelta(seconds=200)
"""How long a run goes on to send: readers whose turn does not come in it are tried again with those who cannot be
reached. With a mail server that answers nothing, all of them would take longer than a run may."""

agent = ShippedAgent(
    "nightly-digest",
    NightlyDigestSettings,
    # Few and close together: a reader who cannot be reached now is tried again at the next half hours.
    retry=RetryPolicy(attempts=3, first_seconds=2.0, longest_seconds=8.0),
    # What is given up depends on readers: one organization's must not stop the agent for all others.
    limit=GiveUpLimit(run=100_000, window=1_000, share=1.0),
    timeout_seconds=300,
    concurrency=10,  # all organizations may be due at once, and a mail server takes few connections
)


@agent.cron("0,30 * * * *", timezone="UTC", missed="skip", name="digest")
async def send_digests(firing: Firing, ctx: Context) -> Done | None:
    """Send the digests of an organization that are due, and remember for each reader up to where they were told.

    Half hours that were missed need not be caught up: what was due in them is due in the next one.
    """
    settings = await agent.settings(ctx.organization)
    begun = ctx.run is not None and ctx.run.known is not None  # then its journal decides, whatever has changed since
    if not begun and (settings is None or not await _is_due(ctx, settings, firing.due)):
        return None
    plan = await ctx.step("plan", lambda _: _planned(ctx, settings, firing.due), on_unknown="retry")
    until, digests = int(plan["until"]), plan_from_json(plan["digests"])
    sent = {each: await _sent(ctx, settings, each, until) for each in digests}
    async with ctx.transaction() as connection:
        if settings is not None:
            # Read again: a firing that comes late must not undo what a later one remembers.
            which, place = plan["which"], _place(plan["which"])
            known = read_memories((await ctx.chains.state(ctx.organization, place, connection)).get(which, {}))
            state = {which: written(remembered(known, sent, until, firing.due, settings))}
            await ctx.chains.remember(connection, ctx.organization, place, orjson.dumps(state).decode())
    return Done()


async def _is_due(ctx: Context, settings: NightlyDigestSettings, now: datetime) -> bool:
    known = await _memories(ctx, settings)
    return bool(days_of_hosts(settings, known, now)) or any(True for _ in due_readers(settings, known, now))


async def _planned(ctx: Context, settings: NightlyDigestSettings | None, now: datetime) -> dict[str, Any]:
    """Say which digests are due, and up to where they tell: the same for all tries of this firing."""
    digests: Sequence[PlannedDigest] = []
    if settings is not None:
        known = await _memories(ctx, settings)
        due = [*due_readers(settings, known, now), *await _of_hosts(ctx, settings, known, now)]
        digests = fitting(due)
        if len(digests) < len(due):
            ctx.log.warning("digests_left_out", due=len(due), planned=len(digests))
    until = await ctx.bookings.last_event()
    return {"which": _which(settings), "until": until, "digests": plan_as_json(digests)}


async def _memories(ctx: Context, settings: NightlyDigestSettings) -> Memories:
    which = _which(settings)
    state = await ctx.chains.state(ctx.organization, _place(which), None)
    return read_memories(state.get(which, {}))


def _which(settings: NightlyDigestSettings | None) -> str:
    """Name what is remembered: of dry runs apart, so that they take nothing from what is sent later."""
    return "dry_run" if settings is not None and settings.dry_run else "sent"


def _place(which: str) -> str:
    """Return the key of what is remembered of these."""
    return STATE if which == "sent" else f"{STATE} {which}"


async def _of_hosts(
    ctx: Context, settings: NightlyDigestSettings, known: Memories, now: datetime
) -> Sequence[PlannedDigest]:
    """Return the digests of hosts that are due: of those who host a meeting on the day that is theirs."""
    found: list[PlannedDigest] = []
    for day, zone in days_of_hosts(settings, known, now):
        hosts: dict[str, str] = {}
        start, end = span_of(day, zone)
        while start < end:
            page = await ctx.bookings.between(start, end)
            hosts = {**hosts_of(page), **hosts}
            # The last of a full page is read again with the next one; only a page of one instant is passed over.
            full = len(page) > MAX_BOOKINGS
            start = max(page[-1].start_time, start + timedelta(microseconds=1)) if full else end
        here = {host: mail for host, mail in hosts.items() if settings.zone_of(host) == zone.key}
        found += due_hosts(settings, known, now, here)
    if len(found) > MAX_HOSTS:
        ctx.log.warning("hosts_left_out", hosts=len(found), most=MAX_HOSTS)
    return found[:MAX_HOSTS]


async def _sent(ctx: Context, settings: NightlyDigestSettings | None, digest: PlannedDigest, until: int) -> bool:
    """Send one digest, once in this firing; whether its reader has it."""
    until = until if digest.until is None else digest.until

    async def send(_: str) -> bool:
        if settings is None:
            return False
        problem: SlotwireError | None = None
        try:
            await _deliver(ctx, settings, digest, until)
        except (DatabaseUnavailable, SchemaMismatch):
            raise
        except (OutgoingRefused, ConfigurationError) as error:
            problem = error
        except Exception as error:
            # Whatever it is: at the end it costs this reader their digest, and nobody else theirs.
            if ctx.attempt < agent.retry.attempts:
                raise
            problem = error if isinstance(error, SlotwireError) else SlotwireError(f"defect: {type(error).__name__}")
        if problem is not None:
            ctx.log.error("digest_not_sent", reader=digest.key, reason=problem.message, remedy=problem.remedy)
        outcome = "failed" if problem is not None else "dry_run" if settings.dry_run else "sent"
        DIGESTS.labels(digest.key.partition(" ")[0], outcome).inc()
        return problem is None

    return await ctx.step(f"send {digest.key}", send, on_unknown="retry")


async def _deliver(ctx: Context, settings: NightlyDigestSettings, digest: PlannedDigest, until: int) -> None:
    if ctx.clock.now() - ctx.started_at > SENDING:
        raise OutgoingFailed("those before took too long", reason="limited", remedy="It is tried again later.")
    window = digest.window(until, settings)
    start, end = span_of(window.day, window.zone)
    bookings = await ctx.bookings.between(start, end, host=window.host)
    changes = await ctx.bookings.changes(window.after, window.until, since=window.since, host=window.host)
    waiting = [] if window.host is not None else await ctx.bookings.waiting()
    words = rendered(facts_of(window, bookings, changes, waiting))
    if settings.dry_run:
        whole = {"text": words.text} if agent.logs_personal_data else {}
        agent.would(ctx, "send a digest", reader=digest.key, subject=words.subject, **whole)
        return
    made = DigestToSend(digest.id(ctx.organization, until), ctx.organization, window.day, ctx.clock.now(), words)
    ways = DigestWays(agent.mailer, agent.outgoing, agent.output_folder)
    if digest.mail is not None:
        await ways.to_mail(made, digest.mail)
    elif digest.key == "file":
        await ways.to_file(made)
    elif settings.webhook is not None and settings.webhook_secret is not None:
        url, secret = settings.webhook.get_secret_value(), settings.webhook_secret.get_secret_value()
        await ways.to_receiver(made, url, secret)
