"""What shows that a step of an action had its effect, and what follows from it. Pure.

    step      what settles it
    book      the answer's URI; else our tag; else event type, start, folded e-mail, `scheduling_method` and made after
    restore   the same: the old slot is booked again
    cancel    the scheduled event is canceled
    mark      a mark of the invitee that was set after the intent
    clear     the mark is gone

An effect that others had, or that was there before, is `done_by_other`. A booking that fits without the tag is
`probable`, and is never undone by itself. Where two fit, a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from slotwire.ingest.control.actions.intents import TAG, TAG_FIELDS
from slotwire.schemas.ids import person_digest

SKEW = timedelta(seconds=30)
"""By how much Calendly's clock may be behind ours."""
API = "api"
"""`scheduling_method` of a booking by API."""

StepName: TypeAlias = Literal["book", "cancel", "mark", "clear", "restore"]
Evidence: TypeAlias = Literal["answer", "webhook", "read"]
Plan: TypeAlias = Literal["new_first", "cancel_first"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a booking that a step made is known.

    Attributes:
        tag: None where it carries none.
        person: the digest of the invitee's address.
        since: when the step was intended; None where it may have been before, and is forgotten.
    """

    tag: str | None
    event_type: str
    start_time: datetime
    person: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A booking that was seen, in the log or at Calendly."""

    invitee: str
    scheduled_event: str
    tags: frozenset[str]
    event_type: str
    start_time: datetime | None
    person: str
    method: str | None
    created_at: datetime | None
    active: bool
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Effect:
    """What a step was seen to have come to.

    Attributes:
        kind: `several`: more than one booking fits.
        evidence: what showed it.
    """

    kind: Literal["done", "probable", "done_by_other", "several"]
    evidence: Evidence
    invitee: str | None = None
    scheduled_event: str | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class StepRefused:
    """Calendly refused a step: it had no effect."""

    reason: str


@dataclass(frozen=True, slots=True)
class StepNotSeen:
    """A step's effect was not there when it must have been; no read proves that it will not come."""


StepResult: TypeAlias = Effect | StepRefused | StepNotSeen


@dataclass(frozen=True, slots=True)
class Settle:
    """An action is over, or waits for its caller or a person."""

    state: Literal["done", "probable", "done_by_other", "refused", "not_seen", "person"]
    reason: str | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class NextStep:
    """An action goes on with a call; `again`: with the one that was made already, which is safe to repeat."""

    step: StepName
    plan: Plan | None = None
    again: bool = False


def sighting(invitee: dict[str, Any], meeting: dict[str, Any], evidence: Evidence) -> Sighting | None:
    """Read a booking, as webhooks and REST describe it; None if something essential is missing."""
    uri, event = invitee.get("uri"), meeting.get("uri")
    email, kind = invitee.get("email"), meeting.get("event_type")
    if not all(isinstance(each, str) for each in (uri, event, email, kind)):
        return None
    tracking = invitee.get("tracking")
    tags = [tracking.get(name) for name in TAG_FIELDS] if isinstance(tracking, dict) else []
    return Sighting(
        invitee=str(uri),
        scheduled_event=str(event),
        tags=frozenset(each for each in tags if isinstance(each, str) and each.startswith(TAG)),
        event_type=str(kind),
        start_time=time_in(meeting, "start_time"),
        person=person_digest(str(email)),
        method=invitee.get("scheduling_method"),
        created_at=time_in(invitee, "created_at"),
        active=invitee.get("status") == "active",
        evidence=evidence,
    )


def time_in(document: dict[str, Any], name: str) -> datetime | None:
    """Read a time of a document; None where there is none that can be read."""
    try:
        found = datetime.fromisoformat(document.get(name) or "")
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def judge_booking(expected: Expectation, seen: Iterable[Sighting]) -> Effect | None:
    """Say which of the bookings that were seen is the step's own; None if none fits."""
    by_uri: dict[str, Sighting] = {}
    for each in seen:
        by_uri.setdefault(each.invitee, each)
    found = list(by_uri.values())
    ours = [each for each in found if expected.tag is not None and expected.tag in each.tags]
    if ours:
        return _one(ours, "done")
    same = [
        each
        for each in found
        if (each.event_type, each.start_time, each.person)
        == (expected.event_type, expected.start_time, expected.person)
    ]
    fits = [each for each in same if each.method == API and not each.tags and _after(each.created_at, expected.since)]
    if fits:
        return _one(fits, "probable")
    others = [each for each in same if each.active]
    return _one(others[:1], "done_by_other") if others else None


def _one(found: Sequence[Sighting], kind: Literal["done", "probable", "done_by_other"]) -> Effect:
    first = found[0]
    if len(found) > 1:
        return Effect("several", first.evidence)
    return Effect(kind, first.evidence, first.invitee, first.scheduled_event)


def judge_cancellation(meeting: dict[str, Any], since: datetime, evidence: Evidence) -> Effect | None:
    """Say whether a scheduled event, as it was seen, was canceled by the step; None while it is active."""
    if meeting.get("status") != "canceled":
        return None
    told = meeting.get("cancellation")
    told = told if isinstance(told, dict) else {}
    ours = told.get("canceler_type") in (None, "host") and _after(time_in(told, "created_at"), since)
    return Effect("done" if ours else "done_by_other", evidence, scheduled_event=meeting.get("uri"))


def judge_mark(invitee: dict[str, Any], since: datetime, evidence: Evidence) -> Effect | None:
    """Say whether an invitee, as it was seen, was marked by the step; None while it is not marked."""
    told = invitee.get("no_show")
    if not isinstance(told, dict) or not isinstance(told.get("uri"), str):
        return None
    kind: Literal["done", "done_by_other"] = "done" if _after(time_in(told, "created_at"), since) else "done_by_other"
    return Effect(kind, evidence, invitee=invitee.get("uri"), mark=told["uri"])


def _after(time: datetime | None, since: datetime | None) -> bool:
    return time is not None and (since is None or time >= since - SKEW)


def by_other(effect: Effect) -> Effect:
    """Say that an effect is not the step's: its one call was refused, so another had it."""
    return replace(effect, kind="done_by_other")


def after_step(verb: str, step: StepName, plan: Plan, result: StepResult, *, may_lose_slot: bool) -> Settle | NextStep:
    """Say what follows when it is known what a step came to."""
    if verb == "reschedule":
        return (
            _after_first(step, result, may_lose_slot=may_lose_slot)
            if plan == "new_first"
            else _after_lost(step, result)
        )
    match result:
        case StepRefused(reason):
            return Settle("refused", reason)
        case StepNotSeen():
            return Settle("not_seen", "not_seen_twice")
        case Effect(kind="several", evidence=evidence):
            return Settle("person", "several_fit")
        case Effect(kind="done" | "probable" | "done_by_other" as kind, evidence=evidence):
            return Settle(kind, None, evidence)
    raise AssertionError  # pragma: no cover - the cases above are all there are


def _after_first(step: StepName, result: StepResult, *, may_lose_slot: bool) -> Settle | NextStep:  # noqa: PLR0911 -- a return a rule
    """The new slot is booked first, so nothing is lost before it is there."""
    match step, result:
        case "book", Effect(kind="done"):
            return NextStep("cancel")
        case "book", StepRefused(reason):
            return NextStep("cancel", "cancel_first") if may_lose_slot else Settle("refused", reason)
        case "book", StepNotSeen():
            return Settle("not_seen", "not_seen_twice")
        case "book", Effect(kind=kind):
            return Settle(
                "person", {"several": "several_fit", "probable": "new_slot_probable"}.get(kind, "booked_by_other")
            )
        case "cancel", Effect(evidence=evidence):
            return Settle("done", None, evidence)
        case "cancel", StepNotSeen():
            return NextStep("cancel", again=True)
        case _:
            return Settle("person", "old_slot_not_canceled")


def _after_lost(step: StepName, result: StepResult) -> Settle | NextStep:  # noqa: PLR0911 -- a return a rule
    """The old slot is canceled first: then the new one, else the old one again, else a person."""
    match step, result:
        case "cancel", Effect(kind="done"):
            return NextStep("book")
        case "cancel", Effect():
            return Settle("refused", "canceled_by_other")
        case "cancel", StepNotSeen():
            return NextStep("cancel", again=True)
        case "cancel", StepRefused(reason):
            return Settle("refused", reason)
        case "book", Effect(kind="done" | "probable" as kind, evidence=evidence):
            return Settle(kind, None, evidence)
        case "book", StepRefused():
            return NextStep("restore")
        case "restore", Effect(kind="done" | "probable"):
            return Settle("refused", "old_slot_booked_again")
        case _, Effect(kind="several"):
            return Settle("person", "several_fit")
        case _:
            return Settle("person", "slot_lost")
