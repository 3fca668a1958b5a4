"""The subscription manager's rounds over all organizations.

Each round lists an organization's subscriptions at Calendly, mends what is wrong, and finishes work that was
interrupted. Rounds do nothing else: what was missed meanwhile is fetched by another chore, so a thousand replacements
never wait for a fetch. Several processes may make rounds at once: each claims the organization whose round is due for
longest. A failure affects only its own organization; one without a connection that can act is paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from slotwire.ingest.control import round_records
from slotwire.ingest.control.calendly_client import organization_memberships
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.claims import DueRound, OrganizationClaim, OrganizationClaimLost, claim_due, claimed
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.round_records import WatchRecord, read_watch
from slotwire.ingest.control.round_schedule import ListingTurn, pause_after, turn
from slotwire.ingest.control.subscription_facts import Place
from slotwire.ingest.control.subscription_findings import FindingKind
from slotwire.ingest.control.subscriptions import ReconcileResult
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused, SlotwireError
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.subscriptions_settings import SubscriptionsSettings
from slotwire.ingest.foundation.telemetry import SUBSCRIPTION_ROUNDS, get_logger
from slotwire.schemas.ids import OrganizationUri

AT_ONCE = 16
"""Organizations reconciled concurrently: each has a rate limit of its own at Calendly."""
TICK_SECONDS = 1.0
"""How often we look whether a round is due."""
WATCH_TICKS = 30
"""After how many idle looks organizations without a row are looked for: a command that adds one makes its row."""
CREATORS_EVERY = timedelta(hours=1)
"""How often we ask whether the creators of subscriptions are still in the organization."""
MAX_CREATORS = 20
"""Creators of one organization who are asked about; the acting user is not."""

_CANNOT_ACT = frozenset({"connection_missing", "connection_unable"})
_UNWELL = frozenset({FindingKind.GONE, FindingKind.DISABLED, FindingKind.RETRYING})
_log = get_logger("rounds")


class RoundOutcome(StrEnum):
    """The outcome of a round for one organization; also the label of `slotwire_subscription_rounds`."""

    UNCHANGED = "unchanged"
    """Its subscriptions were as wanted."""
    CHANGED = "changed"
    """Subscriptions were created or deleted at Calendly."""
    PAUSED = "paused"
    """It has no connection that can act."""
    FAILED = "failed"
    """Calendly or Postgres failed, Calendly refused, or our code has a defect; the next round tries again."""
    ELSEWHERE = "elsewhere"
    """Another process changes its subscriptions."""


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round did: what it leaves, when the next is due, and what is wrong."""

    outcome: RoundOutcome
    left: WatchRecord
    next_at: datetime
    unserved: int


async def run(organizations: Organizations, settings: SubscriptionsSettings) -> None:
    """Make the rounds that are due until cancelled."""
    interval, limit, idle = timedelta(seconds=settings.interval_seconds), asyncio.Semaphore(AT_ONCE), 0
    async with asyncio.TaskGroup() as group:
        while True:
            await limit.acquire()
            due: DueRound | None = None
            try:
                if idle % WATCH_TICKS == 0:
                    await round_records.watch_organizations(organizations.pool, organizations.clock.now())
                due = await claim_due(organizations.pool, organizations.clock)
            except SlotwireError as problem:
                _log.warning("round_failed", error=problem.message)
            if due is None:
                limit.release()
                idle += 1
                await pause(TICK_SECONDS)
                continue
            idle = 1
            task = group.create_task(make_round(organizations, due.claim, due.uri, interval=interval))
            task.add_done_callback(lambda _: limit.release())


async def run_once(organizations: Organizations) -> dict[str, RoundOutcome]:
    """Reconcile every organization once, whether its round is due or not; returns the outcome by organization.

    Raises:
        DatabaseUnavailable: the organizations cannot be listed.
    """
    limit, outcomes = asyncio.Semaphore(AT_ONCE), dict[str, RoundOutcome]()

    async def reconcile(org: str, uri: OrganizationUri) -> None:
        async with limit:
            try:
                async with claimed(organizations.pool, organizations.clock, org, patience=None) as claim:
                    outcomes[org] = await make_round(organizations, claim, uri, everything=True)
            except OrganizationClaimLost:
                outcomes[org] = RoundOutcome.ELSEWHERE

    work = await organizations.with_work()
    async with asyncio.TaskGroup() as group:
        for org, uri in work:
            group.create_task(reconcile(org, uri))
    return outcomes


async def make_round(
    organizations: Organizations,
    claim: OrganizationClaim,
    uri: OrganizationUri,
    *,
    interval: timedelta = timedelta(minutes=1),
    everything: bool = False,
) -> RoundOutcome:
    """Make one organization's round under its claim, and say when the next is due. A failure is logged.

    Args:
        organizations: what acts at Calendly.
        claim: the organization's.
        uri: the organization's URI.
        interval: the time between two rounds, where the rate limit allows it.
        everything: list every user and group, instead of those whose turn it is.
    """
    outcome = RoundOutcome.FAILED
    try:
        done = await _round(organizations, claim, uri, interval, everything=everything)
        outcome = done.outcome
        await round_records.end_round(
            *(organizations.pool, claim, done.left),
            next_at=done.next_at,
            unserved=done.unserved,
        )
    except OrganizationClaimLost:
        outcome = RoundOutcome.ELSEWHERE
    except SlotwireError as problem:
        _log.warning("organization_failed", organization=claim.org, error=problem.message)
    except Exception as error:  # noqa: BLE001 -- the edge: one organization's must not end the process for all others
        _log.error("round_defect", organization=claim.org, **defect(error))
    SUBSCRIPTION_ROUNDS.labels(outcome).inc()
    return outcome


async def _round(
    organizations: Organizations,
    claim: OrganizationClaim,
    uri: OrganizationUri,
    interval: timedelta,
    *,
    everything: bool,
) -> _Round:
    now, watch = organizations.clock.now(), await read_watch(organizations.pool, claim.org)
    wanted = await organizations.subscriptions.wanted(claim.org)
    live = await organizations.subscriptions.live(claim.org)
    known = {want.place for want in wanted} | {item.place for item in live}
    after = "" if everything else watch.after_place
    chosen = turn(known, after, limit=watch.rate_limit, interval=interval, silent=watch.silent or everything)
    try:
        best = await organizations.connections.for_organization(claim.org)
        async with organizations.connections.acting(best, priority=Priority.REPAIR) as calendly:
            result = await organizations.subscriptions.round(calendly, uri, claim, places=chosen.places)
            watch = await _with_creators(calendly, uri, best, result, watch, now)
    except OrganizationClaimLost:
        raise
    except SlotwireError as problem:
        outcome = _problem(claim.org, problem)
        if outcome is RoundOutcome.PAUSED:
            watch = replace(watch, findings=(_written(FindingKind.UNWATCHED, ("organization", "")),))
        return _Round(outcome, watch, now + interval, len(wanted))
    limit = calendly.limit or watch.rate_limit
    rest = pause_after(chosen.calls, limit=limit, interval=interval, silent=watch.silent)
    left = replace(
        _listed(watch, chosen, result, now), rate_limit=limit, findings=_findings(watch, chosen, known, result)
    )
    served = {want.place for want in result.serving}
    served |= {item.place for item in live if item.state == "active" and item.lost_at is None} - chosen.places
    return _Round(_outcome(claim.org, result), left, now + rest, sum(want.place not in served for want in wanted))


def _findings(
    watch: WatchRecord, chosen: ListingTurn, known: Collection[Place], result: ReconcileResult
) -> tuple[str, ...]:
    """Return what is wrong: as this round found it, and elsewhere as the last round that looked there did."""
    before = {_written(kind, place) for kind in FindingKind for place in set(known) - chosen.places}
    found = [_written(item.kind, item.place) for item in result.findings]
    found += [_written(FindingKind.REFUSED, place) for place in result.refused]
    return (*found, *(each for each in watch.findings if each in before))


def _written(kind: FindingKind, place: Place) -> str:
    return " ".join((kind.value, *place)).rstrip()


def _listed(watch: WatchRecord, chosen: ListingTurn, result: ReconcileResult, now: datetime) -> WatchRecord:
    """Return what a round leaves that has listed its turn of users and groups."""
    begun = watch.cycle_at if watch.after_place and watch.cycle_at is not None else now
    well = (watch.cycle_well or not watch.after_place) and not any(
        item.kind in _UNWELL for item in result.noticed or ()
    )
    if not chosen.completes:
        return replace(watch, listed_at=now, after_place=chosen.after, cycle_at=begun, cycle_well=well)
    return replace(
        watch, listed_at=now, after_place="", cycle_at=None, cycle_well=True, well_at=begun if well else watch.well_at
    )


async def _with_creators(
    calendly: CalendlyTransport,
    uri: OrganizationUri,
    acting: ConnectionRecord,
    result: ReconcileResult,
    watch: WatchRecord,
    now: datetime,
) -> WatchRecord:
    """Ask now and then whether creators of subscriptions are still members; the acting user has just been confirmed."""
    creators = sorted(result.creators - {acting.user_uri})[:MAX_CREATORS]
    if not creators:
        return replace(watch, departed=(), creators_at=now)
    if watch.creators_at is not None and not watch.silent and now - watch.creators_at < CREATORS_EVERY:
        return watch
    try:
        here = [await _is_member(calendly, uri, user, acting.user_uri) for user in creators]
    except CalendlyError as error:
        if error.problem not in {CalendlyProblem.SCOPE, CalendlyProblem.PERMISSION}:
            raise
        return replace(watch, creators_at=now)  # the token may not ask
    gone = tuple(user for user, member in zip(creators, here, strict=True) if not member)
    return replace(watch, departed=gone, creators_at=now)


async def _is_member(calendly: CalendlyTransport, organization: OrganizationUri, user: str, acting: str) -> bool:
    """Ask whether a user is in the organization. Of one who is elsewhere Calendly may also say that we may not ask."""
    try:
        return await organization_memberships.find(calendly, organization=organization, user=user) is not None
    except CalendlyError as error:
        if error.problem is not CalendlyProblem.PERMISSION:
            raise
    return await organization_memberships.find(calendly, organization=organization, user=acting) is None


def _problem(org: str, problem: SlotwireError) -> RoundOutcome:
    if isinstance(problem, RequestRefused) and problem.code in _CANNOT_ACT:
        _log.warning("organization_paused", organization=org, reason=problem.code)
        return RoundOutcome.PAUSED
    _log.warning("organization_failed", organization=org, error=problem.message)
    return RoundOutcome.FAILED


def _outcome(org: str, result: ReconcileResult) -> RoundOutcome:
    for error in result.refused.values():
        _log.warning("organization_failed", organization=org, error=error.message)
    _log_findings(org, (item.kind for item in result.noticed or ()))
    changed = bool(result.created or result.deleted or result.orphans)
    if changed:
        created, deleted = len(result.created), len(result.deleted)
        _log.info("subscriptions_changed", organization=org, created=created, deleted=deleted, orphans=result.orphans)
    if result.refused:
        return RoundOutcome.FAILED
    return RoundOutcome.CHANGED if changed else RoundOutcome.UNCHANGED


def _log_findings(org: str, kinds: Iterable[FindingKind]) -> None:
    if found := sorted({kind.value for kind in kinds}):
        _log.info("subscriptions_unwell", organization=org, findings=found)
