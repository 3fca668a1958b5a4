"""Gives records up: each becomes a dead letter, until there are so many that the agent stops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.patience import SERVER_ERRORS, Patience
from slotwire.handlers.policy import GiveUpCounter
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.agent_queue import QueuedRecord
from slotwire.handlers.settle.dead_letters import DeadLetters, GiveUpReason
from slotwire.ingest.foundation.errors import BrokerUnavailable
from slotwire.ingest.foundation.telemetry import DEAD_LETTERS

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class GivingUp:
    """Gives up the records of one agent.

    Attributes:
        halted: set when the limit of dead letters is reached. From then on every record is handed back.
        succeeded: counts an event that is done.
    """

    def __init__(
        self,
        agent: Agent,
        letters: DeadLetters,
        runs: Runs,
        *,
        problems: Problems,
        patience: Patience,
        log: FilteringBoundLogger,
    ) -> None:
        self.halted = asyncio.Event()
        self._agent = agent
        self._letters = letters
        self._runs = runs
        self._problems = problems
        self._patience = patience
        self._log = log
        self._counter = GiveUpCounter(agent.limit)
        self.succeeded = self._counter.succeeded

    async def give_up(
        self, record: Record, why: GiveUpReason, stopping: asyncio.Event, queued: QueuedRecord | None
    ) -> RecordResult:
        """Give a record up, or hand it back if the agent has given up too many.

        Raises:
            Interrupted: the work was asked to stop before the letter was written.
        """
        if self.halted.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        redriven = queued is not None and queued.letter is not None  # drains no topic, however often it fails
        if not redriven and not self._counter.may_give_up():
            limit = self._agent.limit
            self._problems.begin(
                "limit",
                f"agent {self._agent.name} has stopped: it gave up {limit.run} events in a row, or"
                f" {limit.share:.0%} of the last {limit.window}. Nothing is lost: fix the handler, then restart it.",
            )
            self.halted.set()
            return RecordResult(RecordStatus.HANDED_BACK)
        await self._patience.until_answered("dead_letters", lambda: self._put(record, why), stopping)
        await self._patience.until_answered("postgres", lambda: self._runs.give_up(record, why.reason), stopping)
        DEAD_LETTERS.labels(self._agent.name, record.partition.topic).inc()
        self._log.error(
            "dead_letter",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            reason=why.reason,
            attempts=why.attempts,
        )
        return RecordResult(RecordStatus.DEAD_LETTERED, why.attempts, why.reason)

    async def _put(self, record: Record, why: GiveUpReason) -> None:
        """Write a dead letter; where that fails by a defect, the record waits as if a server were away."""
        try:
            await self._letters.put(record, why)
        except SERVER_ERRORS:
            raise
        except Exception as defect:
            place = f"{record.partition.topic}/{record.partition.number} at offset {record.offset}"
            raise BrokerUnavailable(
                f"the record of {place} cannot be written to the dead letters: {type(defect).__name__}",
                reason="defect",
                remedy="Report this defect. To go on without the record, set the group's offset past it.",
            ) from defect
