"""Actions whose calls, answers and processes are lost, and what must hold of all of them afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from slotwire.ingest.control.actions import action_rounds
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.simulator.model import SimulatedInvitee
from tests.support.actions_setup import ActionsSetup
from tests.support.dying import dying
from tests.support.dying_action import act_until

Verb = Literal["book", "cancel", "reschedule", "mark_no_show", "clear_no_show"]
VERBS: tuple[Verb, ...] = ("book", "cancel", "reschedule", "mark_no_show", "clear_no_show")
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "before": {"rest_error_rate": 1.0, "rest_faults": "writes"},
    "after": {"rest_lost_answer_rate": 1.0, "rest_faults": "writes"},
}
"""Which answers are lost: none, or all of writes, before or after the effect."""
WEBHOOKS = ("before", "with", "after")
ACTS_A_ROUND = 5
MANY_ROUNDS = 400
BETWEEN = timedelta(hours=1)
WAITED = {"open", "not_sent"}


@dataclass(frozen=True)
class Planned:
    """One action, what is lost of it, and where it dies.

    Attributes:
        place: the wait at which its task is cancelled; 0 for none.
        process: a process of its own is killed there instead.
    """

    verb: Verb
    fault: str
    webhook: str
    place: int = 0
    process: bool = False


@dataclass
class Storm:
    """Many actions, one after the other, on bookings of their own.

    Attributes:
        folder: for what processes are shown.
        seconds: how far the clock goes between two rounds of the chore.
    """

    setup: ActionsSetup
    folder: Path
    seconds: float
    asked: list[tuple[Planned, str, str]] = field(default_factory=list)
    """Each with its key and the e-mail address that only it concerns."""

    async def act(self, planned: Planned) -> int:
        """Have one done, and let it die; return how often it waited, if it came to its end."""
        setup, number = self.setup, len(self.asked)
        mail, start = f"invitee{number}@example.test", setup.start(24) + number * BETWEEN
        await setup.faults()
        intent = self._intent(planned.verb, mail, start)
        key = f"storm-{number}"
        self.asked.append((planned, key, mail))
        await setup.faults(booking_webhook=planned.webhook, **FAULTS[planned.fault])
        if planned.process:
            await act_until(setup.settings, setup.clock, setup.asked(intent, key=key), planned.place, self.folder)
            waits = planned.place
        else:
            async with setup.process() as performer:
                work = performer.act(setup.asked(intent, key=key))
                task = asyncio.ensure_future(dying(work, planned.place, cut=None))
                await asyncio.wait({task})
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                assert isinstance(error, SlotwireError), error
            waits = 0 if task.cancelled() or task.exception() else task.result()
        await setup.faults()
        if number % ACTS_A_ROUND == 0:
            await self.round(0)
        return waits

    async def round(self, place: int) -> None:
        """Let some time pass, and go on with what is due; die at a place of that, too, unless it is 0."""
        await self.setup.advance(seconds=self.seconds)
        async with self.setup.process() as performer:
            work = action_rounds.run_once(performer)
            await asyncio.wait({asyncio.ensure_future(dying(work, place, cut=None))})

    def _intent(self, verb: Verb, mail: str, start: datetime) -> dict[str, Any]:
        setup = self.setup
        if verb == "book":
            return setup.booking(email=mail, start_time=start.isoformat())
        invitee = setup.book_directly(email=mail, start=start)
        match verb:
            case "cancel":
                return {"verb": verb, "scheduled_event": setup.meeting(invitee.uri).uri}
            case "reschedule":
                later = (start + timedelta(minutes=30)).isoformat()
                return {"verb": verb, "invitee": invitee.uri, "start_time": later}
            case "mark_no_show":
                return {"verb": verb, "invitee": invitee.uri}
        mark = setup.calendly.engine.mark_no_show(invitee.id).no_show
        assert mark is not None
        return {"verb": verb, "mark": mark.uri}

    async def settle(self, places: list[int]) -> int:
        """Let time pass until nothing is open; rounds die, too, at places as long as there are any."""
        for step in range(MANY_ROUNDS):
            await self.round(places.pop() if places else 0)
            rows = await self.setup.rows("SELECT count(*) AS open FROM slotwire.actions WHERE due_at IS NOT NULL")
            if not rows[0]["open"]:
                return step
        raise AssertionError("actions are forgotten")

    async def check(self) -> tuple[Counter[tuple[str, str]], list[float]]:
        """Compare all with the simulator; return how many of each verb ended how, and their times in seconds."""
        rows = {row["key"]: row for row in await self.setup.rows("SELECT * FROM slotwire.actions")}
        events = Counter(each["action_id"] for each in await self.setup.told())
        at_calendly: dict[str, list[SimulatedInvitee]] = {}
        for invitee in self.setup.bookings(active=False):
            at_calendly.setdefault(invitee.email, []).append(invitee)
        ended, times = Counter[tuple[str, str]](), list[float]()
        for planned, key, mail in self.asked:
            row, found = rows.get(key), at_calendly.get(mail, [])
            said = f"{planned}: {row and (row['state'], row['reason'])}, {[each.status for each in found]}"
            state = "no intent" if row is None else row["state"]
            assert state not in WAITED, said
            assert happened(planned.verb, found) in MEANS[state], said
            ended[planned.verb, state] += 1
            if row is not None:
                assert events[str(row["id"])] == row["settlements"] == 1, said
                times.append((row["settled_at"] - row["intended_at"]).total_seconds())
        return ended, sorted(times)


def happened(verb: Verb, found: list[SimulatedInvitee]) -> str:
    """Say what of an action there is at Calendly: `no`, `once`, `half` of a reschedule, or more than it should be."""
    active = [each for each in found if each.status == "active"]
    match verb:
        case "book":
            return {0: "no", 1: "once"}.get(len(found), "doubled")
        case "cancel":
            return "no" if active else "once"
        case "reschedule":
            if len(found) > 2:
                return "doubled"
            return {1: "no", 2: "once" if len(active) == 1 else "half"}[len(found)]
        case "mark_no_show":
            return "once" if found[0].no_show else "no"
        case "clear_no_show":
            return "no" if found[0].no_show else "once"


MEANS = {
    "no intent": {"no"},
    "done": {"once"},
    "probable": {"once"},
    "done_by_other": {"once"},
    "refused": {"no"},
    "not_seen": {"no"},
    "person": {"no", "once", "half"},
}
"""What there may be at Calendly of an action that ended so."""


def percentile(times: list[float], share: float) -> float:
    """Return the time below which that share of them is."""
    return times[min(int(len(times) * share), len(times) - 1)]
