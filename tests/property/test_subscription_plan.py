"""The plan against a Calendly that disables, loses and retries as it likes: one serves in the end, without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.ingest.control.subscription_facts import (
    OVERLAP,
    CalendlySubscription,
    Circumstances,
    Loss,
    PlaceState,
    SubscriptionRecord,
    WantedSubscription,
)
from slotwire.ingest.control.subscription_plan import MAX_LOSSES, ReconcilePlan, plan
from slotwire.ingest.keys.hooks import HookId

PASSES = 8
FAR = OVERLAP * 2
EVENTS = (("invitee.created",), ("invitee.created", "invitee.canceled"))
HAPPENS = ("deliver", "retry", "calm", "disable", "delete", "renew", "want", "hour", "day", "cut", "resume")


@dataclass
class Model:
    """Both sides of one organization, each as the plan sees it."""

    now: datetime = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    want: WantedSubscription = WantedSubscription(EVENTS[0])  # noqa: RUF009 - frozen
    ours: list[SubscriptionRecord] = field(default_factory=list)
    theirs: dict[str, CalendlySubscription] = field(default_factory=dict)
    ended: list[SubscriptionRecord] = field(default_factory=list)
    unrestored: list[SubscriptionRecord] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    contested_at: datetime | None = None
    resumed_at: datetime | None = None
    told: dict[UUID, list[str]] = field(default_factory=dict)
    made: int = 0

    def happen(self, what: str) -> None:
        """Let something happen, at Calendly or here."""
        self.now += timedelta(minutes=1)
        match what:
            case "renew":
                self.ours = [replace(item, renew_at=item.renew_at or self.now) for item in self.ours]
            case "want":
                self.want = WantedSubscription(EVENTS[self.want.events == EVENTS[0]])
            case "hour" | "day":
                self.now += timedelta(hours=1 if what == "hour" else 25)
            case "resume":
                self.contested_at, self.resumed_at = None, self.now
            case "cut":
                self.round(passes=1)
            case _:
                self._happen_there(what)

    def _happen_there(self, what: str) -> None:
        """Let something happen at Calendly, mostly to the oldest subscription that it has."""
        active = [item for item in self.theirs.values() if item.state == "active"]
        match what:
            case "deliver":
                for item in active:
                    self._change(item, last_delivery_at=self.now)
            case "retry" | "calm" if active:
                since = self.now if what == "retry" else None
                self.theirs[active[0].uri] = replace(active[0], retry_started_at=since)
            case "disable" if active:
                self.theirs[active[0].uri] = replace(active[0], state="disabled", retry_started_at=self.now)
            case "delete" if self.theirs:
                del self.theirs[next(iter(self.theirs))]

    def _change(self, item: CalendlySubscription, **changes: Any) -> None:
        for number, each in enumerate(self.ours):
            if each.hook_id == item.hook_id:
                first = each.first_delivery_at or self.now
                self.ours[number] = replace(each, first_delivery_at=first, **changes)

    def round(self, passes: int = PASSES) -> bool:
        """Reconcile; return whether nothing was left to do."""
        for _ in range(passes):
            state = PlaceState({}, None, self.contested_at, self.resumed_at, tuple(self.losses))
            known = Circumstances(places={self.want.place: state}, unrestored=tuple(self.unrestored))
            steps = plan(
                [self.want], self.ours, list(self.theirs.values()), self.now, skip_in_progress=True, known=known
            )
            if steps.done:
                return True
            self._apply(steps)
        return False

    def _apply(self, steps: ReconcilePlan) -> None:
        for item, since in steps.retries:
            self._set(item.id, retrying_since=since)
        for item, _ in steps.disabled:
            self._lose(item, "disabled")
        for item in steps.gone:
            self._lose(item, "gone")
            self.losses.append(Loss(self.now, item.retrying_since is not None))
        for lost, _ in steps.restored:
            self.told[lost.id].append("restored")
            self.unrestored = [each for each in self.unrestored if each.id != lost.id]
        if steps.contest:
            self.contested_at = self.now
        for item in (*steps.lost, *steps.gone):
            self._end(item.id)
        for item, uri in steps.delete:
            self._check_deletion(item)
            del self.theirs[uri]
            self._end(item.id)
        for creation in steps.create:
            self._create(creation.events, creation.replaces)

    def _check_deletion(self, item: SubscriptionRecord) -> None:
        """One that serves is deleted only where another one that serves is verified, and none is owed to it."""
        theirs = self.theirs[item.provider_uri or ""]
        assert not theirs.owes
        others = [each for each in self.ours if each.id != item.id and each.provider_uri in self.theirs]
        fit = [each for each in others if self.theirs[each.provider_uri or ""].state == "active"]
        assert any(
            each.events == self.want.events
            and (each.first_delivery_at is not None or self.now - each.created_at >= OVERLAP)
            for each in fit
        )

    def _create(self, events: tuple[str, ...], replaces: UUID | None) -> None:
        assert self.contested_at is None
        self.made += 1
        uri, hook = f"uri/{self.made}", HookId(f"h{self.made}")
        made = SubscriptionRecord(
            UUID(int=self.made), "ORG", hook, uri, "organization", events, "active", None, self.now, None
        )
        self.ours.append(replace(made, replaces=replaces))
        self.theirs[uri] = CalendlySubscription(uri, hook, here=True, state="active", events=frozenset(events))

    def _lose(self, item: SubscriptionRecord, reason: str) -> None:
        if item.lost_at is None:
            self.told.setdefault(item.id, []).append("lost")
            self._set(item.id, lost_at=self.now)
            self.unrestored.append(
                replace(item, lost_at=self.now, lost_reason="gone" if reason == "gone" else "disabled")
            )

    def _set(self, ident: UUID, **changes: Any) -> None:
        self.ours = [replace(item, **changes) if item.id == ident else item for item in self.ours]

    def _end(self, ident: UUID) -> None:
        self.ended += [item for item in self.ours if item.id == ident]
        self.ours = [item for item in self.ours if item.id != ident]


@given(st.lists(st.sampled_from(HAPPENS), max_size=30))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_one_serves_in_the_end(story: list[str]) -> None:
    """After any story, rounds that are left alone end with the one wanted subscription, and each loss was told once."""
    model = Model()
    model.round()
    for what in story:
        model.happen(what)
        model.round()
    model.happen("calm")
    for item in list(model.theirs.values()):
        model.theirs[item.uri] = replace(
            item, retry_started_at=None if item.state == "active" else item.retry_started_at
        )
    for _ in range(6):
        model.now += FAR
        assert model.round()
    if model.contested_at is not None:
        assert len(model.losses) >= MAX_LOSSES - 1
        model.happen("resume")
        assert model.round()
        model.now += FAR
        assert model.round()
    [ours], [theirs] = model.ours, model.theirs.values()
    assert (theirs.state, theirs.events, ours.provider_uri) == ("active", frozenset(model.want.events), theirs.uri)
    assert all(told == ["lost", "restored"] for told in model.told.values())
    assert model.unrestored == []
