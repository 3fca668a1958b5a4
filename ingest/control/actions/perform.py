"""An action from its intent to its end.

    act:      the key is new ─▶ what can be refused beforehand ─▶ intent committed ─▶ call
    call:     answered ─▶ settled, or the next step     refused ─▶ look, then settled     not sent ─▶ again later
              lost ─▶ look: seen ─▶ as if answered      not seen ─▶ `resume`
    resume:   the log since the intent, and reads at Calendly, until it is seen or must have been
    a limit of Calendly's: it waits as long as that lasts (`holding`), and goes on

Who commits an intent has the action for `CLAIM`. The call begins within `CALL_WINDOW_SECONDS` of that or not at all,
and ends within `ANSWER_SECONDS`, so nobody who goes on with the action meets a call that is still to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from slotwire.ingest.control.actions.calls import (
    ANSWER_SECONDS,
    RETRIES,
    CallLost,
    CallNotSent,
    CallOutcome,
    CallRefused,
    make_call,
    not_sent,
)
from slotwire.ingest.control.actions.intents import fingerprint
from slotwire.ingest.control.actions.keeping import CALL_AGAIN, booking_wait, books, hold, keep, settle
from slotwire.ingest.control.actions.looks import seen_at_calendly, seen_in_log
from slotwire.ingest.control.actions.preparing import AskedAction, behalf_of, joined_since, prepare
from slotwire.ingest.control.actions.records import (
    MAX_REASON,
    SQL,
    ActionElsewhere,
    ActionRecord,
    begin_step,
    claim_action,
    intend,
    read_action,
    read_of_key,
    remembered,
)
from slotwire.ingest.control.actions.settlement import (
    Effect,
    NextStep,
    Settle,
    StepNotSeen,
    StepRefused,
    StepResult,
    after_step,
    by_other,
)
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, CalendlyTransport
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.errors import CalendlyError, RequestRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger

CALL_WINDOW_SECONDS = 15.0
"""A call begins so long after the commit of its intent, or not at all."""
CLAIM = timedelta(seconds=60)
"""How long an action belongs to who goes on with it: longer than a call may take to begin and to end."""
DEADLINE = timedelta(seconds=CALL_WINDOW_SECONDS + ANSWER_SECONDS)
"""When a call has ended, whatever became of it: a look before that proves no absence."""
READ_AGAIN = timedelta(seconds=60)
"""The time between two reads that show an effect is not there."""
LOOK_AGAIN = timedelta(seconds=5)
"""How often the log is looked at for the effect of a call whose answer was lost."""
GIVE_UP = timedelta(hours=1)
"""An action that is still not known after so long waits for a person."""
MAX_CALLS = 5
"""Calls of one step that is safe to repeat; then a person decides."""

_log = get_logger("actions")


@dataclass(frozen=True, slots=True)
class Performer:
    """Does what callers ask for, and goes on with what is open."""

    pool: Pool
    clock: Clock
    connections: Connections
    tags: bool

    @classmethod
    def from_settings(cls, settings: Settings, pool: Pool, clock: Clock, calendly: CalendlyHttp) -> Self:
        """Read what it needs.

        Raises:
            ConfigurationError: the vault's keys are missing or unfit.
        """
        connections = Connections.from_settings(settings, pool, clock, calendly, retries=RETRIES)
        return cls(pool, clock, connections, settings.actions.tag)

    async def act(self, asked: AskedAction) -> tuple[ActionRecord, bool]:
        """Do what is asked for, unless the key was used; return the action as it is then, and whether it is new.

        Raises:
            RequestRefused: the key was used for something else (`idempotency_key_reused`), or it is refused before
                anything is called: `preparing` says why. Nothing is stored.
            CalendlyError: it could not be prepared; nothing is stored.
            DatabaseUnavailable: the intent may be stored; nothing was called unless it is.
        """
        mark = fingerprint(asked.intent, asked.connection)
        known = await read_of_key(self.pool, asked.org, asked.caller, asked.key)
        if known is not None:
            _require_same(known, mark)
            if known.state != "not_seen" or not asked.retry_not_seen:
                return known, False
            return await self._again(known), False
        connection = await self._connection(asked)
        async with self.connections.acting(connection, behalf=behalf_of(asked.caller, asked.key)) as calendly:
            now, forgotten = self.clock.now(), not await remembered(self.pool)
            new, move = await prepare(calendly, asked, connection, mark, now=now, tags=self.tags, forgotten=forgotten)
            began, now = asyncio.get_running_loop().time(), self.clock.now()
            record = await intend(self.pool, new, move, now=now, due_at=now + CLAIM)
            if record.id != new.id:  # somebody used the key at the same moment
                _require_same(record, mark)
                return record, False
            return await self._kept(record, self._go(record, calendly, connection, began)), True

    async def resume(self, record: ActionRecord) -> ActionRecord:
        """Go on with an action that was claimed: see what became of its call, or make it where it was not sent."""
        return await self._kept(record, self._resumed(record))

    async def _again(self, record: ActionRecord) -> ActionRecord:
        """Call again what was not seen: the caller chose to."""
        connection = await self.connections.get(record.connection_id, record.org)
        async with self.connections.acting(connection, behalf=behalf_of(record.caller, record.key)) as calendly:
            chosen = {"asked_at": self.clock.now().isoformat()}
            return await self._kept(record, self._repeat(record, calendly, connection, record.calls + 1, chosen))

    async def _connection(self, asked: AskedAction) -> ConnectionRecord:
        if asked.connection is not None:
            return await self.connections.get(asked.connection, asked.org)
        return await self.connections.for_organization(asked.org)

    async def _kept(self, record: ActionRecord, work: Awaitable[ActionRecord]) -> ActionRecord:
        try:
            return await work
        except ActionElsewhere:
            return await read_action(self.pool, record.id)

    async def _repeat(
        self,
        record: ActionRecord,
        calendly: CalendlyTransport,
        connection: ConnectionRecord,
        calls: int,
        facts: Mapping[str, object] | None = None,
    ) -> ActionRecord:
        began, now = asyncio.get_running_loop().time(), self.clock.now()
        again = await begin_step(self.pool, record, record.step, now=now, lasts=CLAIM, calls=calls, facts=facts)
        return await self._go(again, calendly, connection, began)

    async def _go(
        self, record: ActionRecord, calendly: CalendlyTransport, connection: ConnectionRecord, began: float
    ) -> ActionRecord:
        """Make the call of the present step, and follow what comes of it as far as it is known."""
        try:
            seen = await self._seen_before(record, calendly, connection)
        except CalendlyError as error:
            return await self._not_sent(record, not_sent(error), calendly, connection)
        if seen is not None:
            return await self._follow(record, seen, calendly, connection)
        outcome = await self._called(record, calendly, began)
        match outcome:
            case Effect():
                return await self._follow(record, outcome, calendly, connection)
            case CallNotSent():
                return await self._not_sent(record, outcome, calendly, connection)
            case CallRefused(reason):
                return await self._refused(record, reason, calendly, connection)
            case CallLost():
                return await self._look(record, calendly, connection)

    async def _seen_before(
        self, record: ActionRecord, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> StepResult | None:
        """Look before a call that may not be the first, or is made later than its caller looked."""
        only = record.step == "book" and bool(record.facts.get("only_looked_for"))
        forgotten = only or not await remembered(self.pool)
        if record.calls > 1 or forgotten:
            found = await seen_at_calendly(calendly, record, connection, forgotten=forgotten)
            if found is not None or only:
                return found or StepRefused("this invitee's booking is canceled already, so it cannot be moved")
        if self.clock.now() <= record.intended_at + CLAIM:
            return None
        joined = await joined_since(calendly, record)
        return None if joined is None else StepRefused(joined)

    async def _called(self, record: ActionRecord, calendly: CalendlyTransport, began: float) -> CallOutcome:
        if record.step == "cancel" and (wait := await booking_wait(self.pool, self.connections, record)) > 0:
            return CallNotSent("the old slot is kept until another one can be booked", wait)
        return await make_call(calendly, record, not_after=began + CALL_WINDOW_SECONDS)

    async def _refused(
        self, record: ActionRecord, reason: str, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> ActionRecord:
        """Calendly refused: is the effect there all the same, by an earlier call or by somebody else?"""
        try:
            found = await seen_at_calendly(calendly, record, connection)
        except CalendlyError:
            if record.calls > 1:  # an earlier call may have had it
                return await self._keep(record, LOOK_AGAIN)
            found = None
        if found is not None and record.calls == 1:
            found = by_other(found)
        return await self._follow(record, found or StepRefused(reason), calendly, connection)

    async def _look(
        self, record: ActionRecord, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> ActionRecord:
        """Look for the effect of a call whose answer was lost, in the log and at Calendly."""
        found = await seen_in_log(self.pool, record)
        if found is not None:
            return await self._follow(record, found, calendly, connection)
        with translated():
            accepted = await self.pool.fetchval(SQL["last_accepted_of"], record.org)
        try:
            found = await seen_at_calendly(calendly, record, connection)
        except CalendlyError as error:
            _log.info("look_failed", action=str(record.id), error=error.message)
            return await self._keep(record, LOOK_AGAIN)
        ended = self.clock.now() >= record.called_at + DEADLINE
        if found is not None and (ended or found.kind != "done_by_other"):
            return await self._follow(record, found, calendly, connection)
        if not ended:  # the call may still be at work at Calendly
            return await self._keep(record, LOOK_AGAIN)
        return await self._absent(record, accepted or 0, calendly, connection)

    async def _absent(
        self, record: ActionRecord, accepted: int, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> ActionRecord:
        """A read has not shown the effect: two of them, and no webhook among what had come, are the most one can do."""
        now = self.clock.now()
        if record.reads == 0 or record.read_at is None:
            return await self._keep(replace(record, reads=1, read_at=now, accepted=accepted), LOOK_AGAIN)
        if now < record.read_at + READ_AGAIN or not await self._written(record):
            return await self._keep(record, LOOK_AGAIN)
        return await self._follow(record, StepNotSeen(), calendly, connection)

    async def _written(self, record: ActionRecord) -> bool:
        """Whether what had come by the first read is in the log, with a webhook that may have been among it."""
        with translated():
            head: int = await self.pool.fetchval(SQL["written_of"], record.org)
        return head >= (record.accepted or 0)

    async def _resumed(self, record: ActionRecord) -> ActionRecord:
        now = self.clock.now()
        if self._is_given_up(record, now):
            return await self._settle(record, Settle("person", "not_sent" if record.state == "not_sent" else "unknown"))
        if record.state == "open":
            return await self._resumed_open(record, now)
        if record.held is not None and (wait := await booking_wait(self.pool, self.connections, record)) > 0:
            return await self._hold(record, CallNotSent(str(record.reason), wait))
        return await self._resumed_at_calendly(record, None)

    async def _resumed_open(self, record: ActionRecord, now: datetime) -> ActionRecord:
        found = await seen_in_log(self.pool, record)
        follows = None if found is None else self._follows(record, found)
        if found is not None and isinstance(follows, Settle):  # nobody has to be asked
            return await self._settle(_with(record, found), follows)
        if found is None and not self._read_is_due(record, now):
            return await self._keep(record, LOOK_AGAIN)
        return await self._resumed_at_calendly(record, found)

    async def _resumed_at_calendly(self, record: ActionRecord, found: Effect | None) -> ActionRecord:
        behalf = behalf_of(record.caller, record.key)
        try:
            connection = await self.connections.get(record.connection_id, record.org)
            async with self.connections.acting(connection, priority=Priority.REPAIR, behalf=behalf) as calendly:
                if found is not None:
                    return await self._follow(record, found, calendly, connection)
                if record.state == "not_sent":
                    return await self._repeat(record, calendly, connection, record.calls + 1)
                return await self._look(record, calendly, connection)
        except (CalendlyError, RequestRefused) as error:
            _log.warning("not_resumed", action=str(record.id), error=error.message)
            if record.state == "not_sent" and isinstance(error, CalendlyError):
                return await self._hold(record, not_sent(error))
            return await self._keep(record, CALL_AGAIN)

    def _is_given_up(self, record: ActionRecord, now: datetime) -> bool:
        """Whether nothing more happens by itself: it waits neither for a limit nor for a first look."""
        if record.held is not None:
            return record.held.endless
        return now >= (record.asked_at if record.state == "not_sent" else record.called_at) + GIVE_UP

    def _read_is_due(self, record: ActionRecord, now: datetime) -> bool:
        if record.reads == 0 or record.read_at is None:
            return now >= record.called_at + DEADLINE
        return now >= record.read_at + READ_AGAIN

    def _follows(self, record: ActionRecord, result: StepResult) -> Settle | NextStep:
        return after_step(record.verb, record.step, record.plan, result, may_lose_slot=record.may_lose_slot)

    async def _follow(
        self, record: ActionRecord, result: StepResult, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> ActionRecord:
        """Settle, or commit the next step and make its call."""
        follows = self._follows(record, result)
        if isinstance(follows, Settle):
            return await self._settle(_with(record, result), follows)
        if follows.again:
            if record.calls >= MAX_CALLS:
                return await self._settle(record, Settle("person", "old_slot_not_canceled"))
            return await self._repeat(record, calendly, connection, record.calls + 1)
        effect = result if isinstance(result, Effect) else None
        began = asyncio.get_running_loop().time()
        again = await begin_step(
            *(self.pool, record, follows.step),
            now=self.clock.now(),
            lasts=CLAIM,
            facts={"held": None} | ({} if follows.plan is None else {"plan": follows.plan}),
            invitee=effect.invitee if effect is not None and record.step == "book" else None,
            scheduled_event=effect.scheduled_event if effect is not None and record.step == "book" else None,
        )
        return await self._go(again, calendly, connection, began)

    async def _not_sent(
        self, record: ActionRecord, outcome: CallNotSent, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> ActionRecord:
        """Nothing left: the next call is the first again, as far as earlier ones did not leave."""
        record = replace(record, calls=max(record.calls - 1, 0))
        if outcome.wait is None or outcome.refused or record.calls or not books(record):
            return await self._hold(record, outcome)
        if self.clock.now() + timedelta(seconds=outcome.wait) < record.booking.start_time:
            return await self._hold(record, outcome)
        late = StepRefused(f"the slot starts before a booking is possible again: {outcome.reason}"[:MAX_REASON])
        return await self._follow(record, late, calendly, connection)

    async def _hold(self, record: ActionRecord, outcome: CallNotSent) -> ActionRecord:
        return await hold(self.pool, self.clock, record, outcome)

    async def _keep(self, record: ActionRecord, later: timedelta) -> ActionRecord:
        return await keep(self.pool, self.clock, record, later)

    async def _settle(self, record: ActionRecord, settled: Settle) -> ActionRecord:
        return await settle(self.pool, self.clock, record, settled)


async def resume_next(performer: Performer) -> ActionRecord | None:
    """Go on with the action that has been due for longest; None if none is due.

    Raises:
        DatabaseUnavailable: it is due again when its claim ends.
    """
    now = performer.clock.now()
    record = await claim_action(performer.pool, now=now, until=now + CLAIM)
    return None if record is None else await performer.resume(record)


def _with(record: ActionRecord, result: StepResult) -> ActionRecord:
    """Note what a step came to, unless it is the old slot of a reschedule that was canceled."""
    if not isinstance(result, Effect) or result.kind == "several":
        return record
    if record.verb == "reschedule" and record.step == "cancel":
        return record
    return replace(
        record,
        invitee=result.invitee or record.invitee,
        scheduled_event=result.scheduled_event or record.scheduled_event,
        mark=result.mark or record.mark,
    )


def _require_same(known: ActionRecord, mark: bytes) -> None:
    if known.fingerprint != mark:
        raise RequestRefused(
            "this key was used for another action",
            code="idempotency_key_reused",
            remedy="Use a new key for each action, and the same one only to repeat it unchanged.",
        )
