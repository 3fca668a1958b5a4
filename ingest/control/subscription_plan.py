"""The reconciliation plan: compares wanted subscriptions, our subscriptions and Calendly's. Pure.

A wanted subscription is served by one that Calendly calls active, that leads here, and that has its events and its
maximum age. One that no longer serves is replaced: the new one is made first, and names the old one (`replaces`). The
old one is deleted only when

    the new one is verified: a delivery came over it, or for the overlap none came over either, and
    Calendly has nothing left to deliver to the old one: it is disabled, or not retrying.

One that is gone is made again: at once the first time, after `REMAKE_AFTER` the second time, and no more (`contested`)
after `MAX_LOSSES` in `LOSS_SPAN`, or `MAX_UNEXPLAINED` before which no delivery had failed: then something deletes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from slotwire.ingest.control.subscription_facts import (
    CalendlySubscription,
    Circumstances,
    Loss,
    Place,
    PlaceState,
    SubscriptionRecord,
    WantedSubscription,
    match,
)
from slotwire.ingest.control.subscription_findings import FindingKind, Remedy, SubscriptionFinding, about
from slotwire.ingest.keys.hooks import HookId

UNFINISHED_AFTER = timedelta(minutes=2)
"""A creation that Calendly does not list after this long has failed; none of our requests runs longer."""
REMAKE_AFTER = timedelta(minutes=15)
"""How long after its second loss a subscription is made again."""
LOSS_SPAN = timedelta(hours=24)
"""Losses are counted over this long."""
TOGETHER = timedelta(minutes=1)
"""Losses of one place that begin within this long are one: whoever cleans up at Calendly deletes what is there."""
MAX_LOSSES = 3
"""After so many losses nothing more is made."""
MAX_UNEXPLAINED = 2
"""The same, of losses before which no delivery had failed."""
ASK_AGAIN = timedelta(hours=24)
"""How long after Calendly refused some events it is asked for them again."""

_NOTHING_KNOWN = Circumstances()


@dataclass(frozen=True, slots=True)
class Creation:
    """A subscription to make.

    Attributes:
        want: what it serves.
        events: those of the wanted events that Calendly has not refused.
        replaces: the subscription whose place it takes; None if there was none.
    """

    want: WantedSubscription
    events: tuple[str, ...]
    replaces: UUID | None = None


@dataclass(frozen=True, slots=True)
class ReconcilePlan:
    """The steps that make the three lists agree, in this order.

    Attributes:
        adopt: creations whose answer was lost, with the URI Calendly gave them.
        lost: ours that Calendly does not have, and need not have: failed creations, and deletions that were cut off.
        gone: ours that Calendly had and does not have any more, though they are wanted.
        disabled: ours that Calendly has disabled, with the time since which it retried.
        retries: ours that began to be retried, or no longer are, with that time or None.
        restored: lost ones whose place is served again, with what serves it.
        contest: places in which nothing is made any more.
        serving: the subscription that serves each wanted one.
        create: what to make.
        delete: ours that are unwanted or replaced, with Calendly's URI.
        orphans: Calendly's that lead here and are not in our list: URI and hook id. Check again that a hook is not
            ours before deleting: it may have been created after the list was read.
        findings: all that is wrong, whether a step mends it or not.
    """

    adopt: tuple[tuple[SubscriptionRecord, str], ...] = ()
    lost: tuple[SubscriptionRecord, ...] = ()
    gone: tuple[SubscriptionRecord, ...] = ()
    disabled: tuple[tuple[SubscriptionRecord, datetime | None], ...] = ()
    retries: tuple[tuple[SubscriptionRecord, datetime | None], ...] = ()
    restored: tuple[tuple[SubscriptionRecord, SubscriptionRecord], ...] = ()
    contest: tuple[Place, ...] = ()
    serving: dict[WantedSubscription, SubscriptionRecord] = field(default_factory=dict)
    create: tuple[Creation, ...] = ()
    delete: tuple[tuple[SubscriptionRecord, str], ...] = ()
    orphans: tuple[tuple[str, HookId], ...] = ()
    findings: tuple[SubscriptionFinding, ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        told = self.gone or self.disabled or self.retries or self.restored or self.contest
        return not (told or self.adopt or self.lost or self.create or self.delete or self.orphans)


def plan(
    wanted: Sequence[WantedSubscription],
    ours: Sequence[SubscriptionRecord],
    theirs: Sequence[CalendlySubscription],
    now: datetime,
    *,
    skip_in_progress: bool = False,
    known: Circumstances = _NOTHING_KNOWN,
) -> ReconcilePlan:
    """Compare what is wanted with what exists.

    Args:
        wanted: at most one per scope and subject.
        ours: those that are not ended, oldest first, read before `theirs`.
        theirs: everything Calendly lists in the scopes and subjects of `wanted` and `ours`.
        now: the time.
        skip_in_progress: leave alone what another process may be creating now.
        known: what decides beside the lists.
    """
    planner = _Planner(now, known, {want.place for want in wanted}, skip_in_progress=skip_in_progress)
    planner.sort(ours, theirs)
    wants = {want.place: want for want in wanted}
    for place in dict.fromkeys((*wants, *planner.live, *planner.strays)):
        if place in wants:
            planner.serve(wants[place])
        else:
            planner.clear(place)
    return planner.steps()


@dataclass(slots=True)
class _Planner:
    """Collects the steps, place by place."""

    now: datetime
    known: Circumstances
    wanted: set[Place]
    skip_in_progress: bool
    live: dict[Place, list[tuple[SubscriptionRecord, CalendlySubscription]]] = field(default_factory=dict)
    strays: dict[Place, list[tuple[str, HookId]]] = field(default_factory=dict)
    in_progress: set[Place] = field(default_factory=set)
    adopt: list[tuple[SubscriptionRecord, str]] = field(default_factory=list)
    lost: list[SubscriptionRecord] = field(default_factory=list)
    gone: list[SubscriptionRecord] = field(default_factory=list)
    disabled: list[tuple[SubscriptionRecord, datetime | None]] = field(default_factory=list)
    retries: list[tuple[SubscriptionRecord, datetime | None]] = field(default_factory=list)
    restored: list[tuple[SubscriptionRecord, SubscriptionRecord]] = field(default_factory=list)
    contest: list[Place] = field(default_factory=list)
    serving: dict[WantedSubscription, SubscriptionRecord] = field(default_factory=dict)
    create: list[Creation] = field(default_factory=list)
    delete: list[tuple[SubscriptionRecord, str]] = field(default_factory=list)
    orphans: list[tuple[str, HookId]] = field(default_factory=list)
    findings: list[SubscriptionFinding] = field(default_factory=list)

    def steps(self) -> ReconcilePlan:
        """Return what was collected."""
        return ReconcilePlan(
            tuple(self.adopt),
            tuple(self.lost),
            tuple(self.gone),
            tuple(self.disabled),
            tuple(self.retries),
            tuple(self.restored),
            tuple(self.contest),
            self.serving,
            tuple(self.create),
            tuple(self.delete),
            tuple(self.orphans),
            tuple(self.findings),
        )

    def sort(self, ours: Sequence[SubscriptionRecord], theirs: Sequence[CalendlySubscription]) -> None:
        """Find ours at Calendly, and what is at Calendly without being ours."""
        for item in ours:
            found = match(item, theirs)
            if found is not None:
                self._at_calendly(item, found)
            elif item.state == "creating" and self.now - item.created_at <= UNFINISHED_AFTER:
                self.in_progress.add(item.place)
            elif item.state == "active" and item.deleting_at is None and item.place in self.wanted:
                self.gone.append(item)
                self.findings.append(about(FindingKind.GONE, item, None, Remedy.CREATE))
            else:
                self.lost.append(item)
        hooks = {item.hook_id for item in ours}
        for each in theirs:
            if each.here and each.hook_id is not None and each.hook_id not in hooks:
                self.strays.setdefault(each.place, []).append((each.uri, each.hook_id))

    def _at_calendly(self, item: SubscriptionRecord, found: CalendlySubscription) -> None:
        self.live.setdefault(item.place, []).append((item, found))
        if item.state == "creating":
            self.adopt.append((item, found.uri))
        elif found.retry_started_at != item.retrying_since:
            self.retries.append((item, found.retry_started_at))
        if found.state != "active" and item.lost_at is None and item.place in self.wanted:
            self.disabled.append((item, found.retry_started_at))

    def clear(self, place: Place) -> None:
        """Delete what is in a place where nothing is wanted, even while Calendly retries to it."""
        for item, found in self.live.get(place, ()):
            self._delete(FindingKind.UNWANTED, item, found)
        self._delete_strays(place, unless=False)

    def serve(self, want: WantedSubscription) -> None:
        """Serve a wanted subscription: make one if none does, and delete what the one that does has replaced."""
        state, live = self.known.of(want.place), self.live.get(want.place, [])
        partial = tuple(event for event in want.events if event not in state.refused)
        ask = not state.refused or state.refused_at is None or self.now - state.refused_at >= ASK_AGAIN
        good = [(item, found) for item, found in live if self._serves(item, found, want, partial)]
        whole = frozenset(want.events)
        fit = [item for item, found in good if item.renew_at is None and not (ask and found.events != whole)]
        replaced = {item.replaces for item in fit}
        server = next((item for item in fit if item.id not in replaced), fit[0] if fit else None)
        serving = server or next((item for item, _ in good), None)
        if serving is not None:
            self.serving[want] = serving
            lost = (each for each in self.known.unrestored if each.place == want.place and each.id != serving.id)
            self.restored += [(each, serving) for each in lost]
        verified = server is not None and self._verified(server, live)
        chain = _chain(server, live)
        for item, found in live:
            if server is None:
                kind = _trouble(item, found, self.known.departed, {whole, frozenset(partial)})
                since = item.lost_at or found.retry_started_at
                self.findings.append(about(kind, item, found, Remedy.REPLACE, since=since))
            else:
                self._judge(item, found, server, chain, verified=verified)
        self._delete_strays(want.place, unless=not verified)
        self._refusals(want, state)
        if server is None:
            self._make(want, want.events if ask else partial, state, live, served=serving is not None)

    def _make(
        self,
        want: WantedSubscription,
        events: tuple[str, ...],
        state: PlaceState,
        live: Sequence[tuple[SubscriptionRecord, CalendlySubscription]],
        *,
        served: bool,
    ) -> None:
        place = want.place
        gone = [each for each in self.gone if each.place == place]
        losses = _incidents(
            [*_counted(state, self.now), *(Loss(self.now, each.retrying_since is not None) for each in gone)]
        )
        if state.contested_at is not None or (not served and _contested(losses)):
            if state.contested_at is None:
                self.contest.append(place)
            since = state.contested_at or self.now
            self.findings.append(
                SubscriptionFinding(FindingKind.CONTESTED, place, Remedy.RESUME, applied=False, since=since)
            )
            return
        if gone:
            return  # first it is written that they are
        if not live:
            self.findings.append(SubscriptionFinding(FindingKind.MISSING, place, Remedy.CREATE))
        if len(losses) > 1 and not served and self.now - losses[-1].at < REMAKE_AFTER:
            return
        if self.skip_in_progress and place in self.in_progress:
            return
        before = [item.id for item, _ in live] or [each.id for each in self.known.unrestored if each.place == place]
        self.create.append(Creation(want, events, before[-1] if before else None))

    def _serves(
        self,
        item: SubscriptionRecord,
        found: CalendlySubscription,
        want: WantedSubscription,
        partial: tuple[str, ...],
    ) -> bool:
        return (
            item.max_age_seconds == want.max_age_seconds
            and item.deleting_at is None
            and found.state == "active"
            and found.here
            and found.creator not in self.known.departed
            and found.events in {frozenset(want.events), frozenset(partial)}
        )

    def _verified(
        self, server: SubscriptionRecord, live: Iterable[tuple[SubscriptionRecord, CalendlySubscription]]
    ) -> bool:
        if server.first_delivery_at is not None:
            return True
        others = (item.last_delivery_at for item, _ in live if item.id != server.id)
        quiet = all(at is None or at < server.created_at for at in others)
        return quiet and self.now - server.created_at >= self.known.overlap

    def _judge(
        self,
        item: SubscriptionRecord,
        found: CalendlySubscription,
        server: SubscriptionRecord,
        chain: frozenset[UUID],
        *,
        verified: bool,
    ) -> None:
        """Say what is wrong with one of a place that is served, and delete it if it was replaced."""
        if item.id == server.id:
            if found.owes:
                since = found.retry_started_at
                self.findings.append(about(FindingKind.RETRYING, item, found, Remedy.WAIT, since=since))
            return
        copies = found.state == "active" and found.here and found.events == frozenset(server.events)
        kind = FindingKind.DUPLICATED if copies and item.id not in chain else FindingKind.REPLACING
        if verified and not found.owes:
            self._delete(kind, item, found)
            return
        if not verified and self.now - server.created_at >= self.known.overlap:
            kind = FindingKind.UNVERIFIED
        self.findings.append(about(kind, item, found, Remedy.WAIT, since=server.created_at))

    def _delete(self, kind: FindingKind, item: SubscriptionRecord, found: CalendlySubscription) -> None:
        if self.known.may_delete:
            self.delete.append((item, found.uri))
        remedy = Remedy.DELETE if self.known.may_delete else Remedy.CONFIRM
        self.findings.append(about(kind, item, found, remedy, applied=self.known.may_delete))

    def _delete_strays(self, place: Place, *, unless: bool) -> None:
        may = self.known.may_delete
        for uri, hook_id in self.strays.get(place, ()):
            waits = unless and hook_id not in self.known.dead
            remedy = Remedy.CONFIRM if not may else Remedy.WAIT if waits else Remedy.DELETE
            if may and not waits:
                self.orphans.append((uri, hook_id))
            self.findings.append(SubscriptionFinding(FindingKind.STRAY, place, remedy, applied=may, uri=uri))

    def _refusals(self, want: WantedSubscription, state: PlaceState) -> None:
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for event in want.events:
            if event in state.refused:
                by_reason[state.refused[event]].append(event)
        for reason, events in by_reason.items():
            kind = FindingKind.PLAN_LOST if reason == "plan" else FindingKind.SCOPE_LOST
            self.findings.append(
                SubscriptionFinding(
                    kind, want.place, Remedy.GRANT, applied=False, since=state.refused_at, events=tuple(events)
                )
            )


def _trouble(
    item: SubscriptionRecord,
    found: CalendlySubscription,
    departed: frozenset[str],
    fitting: set[frozenset[str]],
) -> FindingKind:
    """Say why one of a wanted place does not serve it, or is to be renewed."""
    if found.state != "active":
        return FindingKind.DISABLED
    if not found.here:
        return FindingKind.WRONG_ADDRESS
    if found.creator in departed:
        return FindingKind.ORPHANED
    renewed = item.renew_at is not None and found.events in fitting
    return FindingKind.RENEWAL if renewed else FindingKind.WRONG_EVENTS


def _chain(
    server: SubscriptionRecord | None, live: Iterable[tuple[SubscriptionRecord, CalendlySubscription]]
) -> frozenset[UUID]:
    """Return those that a subscription replaces, one after the other, and those that were to replace it."""
    if server is None:
        return frozenset()
    replaces = {item.id: item.replaces for item, _ in live}
    found, each = {item for item, before in replaces.items() if before == server.id}, server.replaces
    while each is not None and each not in found:
        found.add(each)
        each = replaces.get(each)
    return frozenset(found)


def _counted(state: PlaceState, now: datetime) -> list[Loss]:
    begin = now - LOSS_SPAN if state.resumed_at is None else max(now - LOSS_SPAN, state.resumed_at)
    return [loss for loss in state.losses if loss.at > begin]


def _incidents(losses: Iterable[Loss]) -> list[Loss]:
    """Count what was lost together once: a place has several subscriptions while one takes another's place."""
    found = list[Loss]()
    for loss in sorted(losses, key=lambda each: each.at):
        if found and loss.at - found[-1].at < TOGETHER:
            found[-1] = replace(found[-1], failed=found[-1].failed or loss.failed)
        else:
            found.append(loss)
    return found


def _contested(losses: Sequence[Loss]) -> bool:
    return len(losses) >= MAX_LOSSES or sum(not loss.failed for loss in losses) >= MAX_UNEXPLAINED
