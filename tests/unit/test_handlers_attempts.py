"""What becomes of one event: done, skipped, tried again, given up, or handed back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from slotwire.handlers import Agent, Context, Done, Reject, Retry
from slotwire.handlers.outcome import MAX_REASON_CHARACTERS, MAX_RETRY_AFTER_SECONDS, Outcome
from slotwire.handlers.policy import MAX_ATTEMPTS, MAX_PAUSE_SECONDS, GiveUpLimit, RetryPolicy
from slotwire.handlers.records import Record
from slotwire.handlers.settle.inbox import AlreadyDone
from slotwire.handlers.testing import MAX_PAUSES, RecordStatus, Trial, event_of, record_of
from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, InviteeCanceled, InviteeCreated
from tests.support.agent_setup import invitee_created

THRICE = RetryPolicy(attempts=3)


def agent_that(answers: list[Any], *, agent: Agent | None = None) -> Agent:
    """Make an agent whose handler returns these outcomes, or raises these exceptions, one per run."""
    made = agent or Agent("unit", retry=THRICE)

    @made.on(InviteeCreated)
    async def answer(event: Event[InviteeCreated], ctx: Context) -> Outcome | None:
        del event, ctx
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        outcome: Outcome | None = given
        return outcome

    return made


@pytest.mark.parametrize("answer", [None, Done()])
async def test_an_event_is_done_when_its_handler_returns_done_or_nothing(answer: Outcome | None) -> None:
    """Returning nothing means the same as Done: settled after one run, and marked in the inbox."""
    trial = Trial(agent_that([answer]))
    event = invitee_created("k", 1)
    (result,) = await trial.deliver(event)
    assert (result.status, result.attempts) == (RecordStatus.DONE, 1)
    assert trial.done == {event.id}


async def test_an_event_that_is_done_is_skipped() -> None:
    """The second delivery of an event does not reach the handler."""
    trial = Trial(agent_that([None]))
    await trial.deliver(invitee_created("k", 1))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert result.status is RecordStatus.SKIPPED


@pytest.mark.parametrize("failure", [Retry(), ValueError("alice@example.com"), TimeoutError()])
async def test_a_failure_is_tried_again_under_the_policy(failure: Any) -> None:
    """Retry and an exception count alike, and the run that succeeds settles the event."""
    trial = Trial(agent_that([failure, failure, None]))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts) == (RecordStatus.DONE, 3)
    assert len(trial.pauses) == 2
    assert trial.pauses[0] < trial.pauses[1]


async def test_the_last_attempt_gives_up_with_reason_and_trace() -> None:
    """After the policy's attempts the event is a dead letter that says where it failed, not with which values."""
    trial = Trial(agent_that([ValueError("alice@example.com")] * 3))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts) == (RecordStatus.DEAD_LETTERED, 3)
    (letter,) = trial.dead_letters
    assert letter.why.reason == "raised ValueError"
    assert "test_handlers_attempts.py" in letter.why.trace
    assert "alice" not in repr(letter.why)
    assert not trial.done, "a dead letter that is driven again must take effect"


async def test_a_rejection_gives_up_at_once() -> None:
    """Reject is not tried again, and its reason travels with the dead letter."""
    trial = Trial(agent_that([Reject("no such account")]))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts, result.reason) == (RecordStatus.DEAD_LETTERED, 1, "no such account")
    assert not trial.pauses


async def test_a_handler_may_say_how_long_to_wait() -> None:
    """Retry(after=...) takes the place of the policy's pause, and counts as an attempt all the same."""
    trial = Trial(agent_that([Retry(7.5), Retry(timedelta(seconds=9)), Retry(1.0)]))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert trial.pauses == [7.5, 9.0]
    assert result.status is RecordStatus.DEAD_LETTERED


@pytest.mark.parametrize(
    "problem",
    [
        DatabaseUnavailable("away", reason="unreachable"),
        SchemaMismatch("old", remedy="Run `slotwire migrate`."),
        ConfigurationError("no right"),
    ],
)
async def test_an_outage_does_not_count_as_an_attempt(problem: Exception) -> None:
    """While the database is away the event is tried more often than the policy has attempts, and is done in the end."""
    trial = Trial(agent_that([problem] * 10 + [None]))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts) == (RecordStatus.DONE, 1)
    assert len(trial.pauses) == 10


async def test_a_wrong_return_value_is_a_failed_run() -> None:
    """The dead letter names the type of a return value that is no outcome."""
    trial = Trial(agent_that([True] * 3))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert result.reason == "the handler returned bool, not Done, Retry, Reject or None"


async def test_a_handler_that_runs_too_long_is_interrupted_and_has_failed() -> None:
    """The agent's timeout ends a run; the event is given up after its attempts, with the limit in the reason."""
    agent = Agent("slow", retry=RetryPolicy(attempts=2), timeout_seconds=0.01)
    runs = []

    @agent.on(InviteeCreated)
    async def hang(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        runs.append(ctx.attempt)
        await asyncio.Event().wait()

    (result,) = await Trial(agent).deliver(invitee_created("k", 1))
    assert runs == [1, 2]
    assert (result.status, result.reason) == (RecordStatus.DEAD_LETTERED, "ran longer than 0.01 s")


async def test_the_context_names_the_run() -> None:
    """Attempts count from 1, and the idempotency key is the same in each."""
    agent = Agent("named", retry=THRICE)
    seen: list[tuple[int, str]] = []

    @agent.on(InviteeCreated, InviteeCanceled)
    async def look(event: Event[Any], ctx: Context) -> Outcome | None:
        assert ctx.event is event
        seen.append((ctx.attempt, ctx.idempotency_key))
        return Retry() if ctx.attempt < 3 else None

    event = invitee_created("k", 1)
    await Trial(agent).deliver(event)
    assert seen == [(n, f"named:{event.id}") for n in (1, 2, 3)]


async def test_types_without_a_handler_are_skipped_undecoded() -> None:
    """Another type, known or not, is skipped: its data is not even parsed."""
    trial = Trial(agent_that([]))
    uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
    other = event_of(InviteeCanceled(uri=uri, booking=BookingState(state="canceled", revision=1, chain_root=uri)))
    record = record_of(other)
    unknown = Record(
        record.partition, 1, b"k", b"{", (("ce_type", b"com.calendly.invitee.invented.v9"),), record.published_at
    )
    results = await trial.deliver_records(record, unknown)
    assert [result.status for result in results] == [RecordStatus.SKIPPED, RecordStatus.SKIPPED]
    assert not trial.dead_letters


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        ((), b"{}", "not_an_event"),
        ((("ce_type", InviteeCreated.type.encode()),), b"{}", "not_an_event"),
        (None, b"{", "invalid_data"),
        (None, b"{}", "invalid_data"),
    ],
)
async def test_an_undecodable_record_is_given_up_without_a_run(
    headers: tuple[tuple[str, bytes], ...] | None, value: bytes, reason: str
) -> None:
    """A record that is no event of ours, or whose data does not fit, becomes a dead letter without an attempt."""
    good = record_of(invitee_created("k", 1))
    trial = Trial(agent_that([]))
    record = Record(good.partition, 0, b"k", value, good.headers if headers is None else headers, good.published_at)
    (result,) = await trial.deliver_records(record)
    assert (result.status, result.attempts) == (RecordStatus.DEAD_LETTERED, 0)
    assert result.reason.startswith(reason)
    assert trial.dead_letters[0].record is record


async def test_data_published_by_reference_is_fetched() -> None:
    """A record with `ce_dataref` reaches its handler with the data of the log; without it there, it is given up."""
    event = invitee_created("k", 1)
    large = record_of(event)
    headers = (*large.headers, ("ce_dataref", b"/v1/events/x"))
    record = Record(large.partition, 0, b"k", None, headers, large.published_at)
    agent = Agent("large")
    got: list[Event[InviteeCreated]] = []

    @agent.on(InviteeCreated)
    async def take(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        got.append(event)

    trial = Trial(agent)
    (lost,) = await trial.deliver_records(record)
    assert (lost.status, lost.reason.partition(":")[0]) == (RecordStatus.DEAD_LETTERED, "data_elsewhere")
    trial._inbox.data[event.id] = large.value or b""
    (result,) = await trial.deliver_records(record)
    assert result.status is RecordStatus.DONE
    assert got[0].data == event.data
    assert got[0].dataref == "/v1/events/x"


class TestTransaction:
    """`ctx.transaction()`: effect and mark together."""

    async def test_its_commit_marks_the_event_as_done(self) -> None:
        """After the block the event is done, and the handler's writes went through its connection."""
        agent = Agent("tx")
        connection = object()
        used: list[object] = []

        @agent.on(InviteeCreated)
        async def write(event: Event[InviteeCreated], ctx: Context) -> None:
            del event
            async with ctx.transaction() as given:
                used.append(given)

        trial = Trial(agent, connection=connection)
        event = invitee_created("k", 1)
        (result,) = await trial.deliver(event)
        assert (result.status, used, set(trial.done)) == (RecordStatus.DONE, [connection], {event.id})

    async def test_an_exception_in_it_undoes_the_mark(self) -> None:
        """A block that raises leaves nothing behind, and the event is tried again."""
        agent = Agent("tx", retry=THRICE)

        @agent.on(InviteeCreated)
        async def write(event: Event[InviteeCreated], ctx: Context) -> None:
            del event
            async with ctx.transaction():
                if ctx.attempt < 3:
                    raise ValueError

        (result,) = await Trial(agent, connection=object()).deliver(invitee_created("k", 1))
        assert (result.status, result.attempts) == (RecordStatus.DONE, 3)

    @pytest.mark.parametrize("answer", [Retry(), Reject("no"), ValueError()])
    async def test_a_failure_after_the_commit_becomes_a_dead_letter(self, answer: Any) -> None:
        """What was committed cannot be tried again: the event becomes a dead letter that says why."""
        agent = Agent("tx", retry=THRICE)

        @agent.on(InviteeCreated)
        async def write(event: Event[InviteeCreated], ctx: Context) -> Outcome | None:
            del event
            async with ctx.transaction():
                pass
            if isinstance(answer, Exception):
                raise answer
            outcome: Outcome | None = answer
            return outcome

        trial = Trial(agent, connection=object())
        (result,) = await trial.deliver(invitee_created("k", 1))
        assert result.status is RecordStatus.DEAD_LETTERED
        assert result.reason.startswith("failed after its transaction had committed: ")
        assert len(trial.done) == 1

    async def test_a_second_run_skips_even_if_its_handler_catches_already_done(self) -> None:
        """A run that finds the mark skips the event, even if its handler catches AlreadyDone."""
        agent = Agent("tx")
        event = invitee_created("k", 1)
        swallowed: list[AlreadyDone] = []

        @agent.on(InviteeCreated)
        async def write(event: Event[InviteeCreated], ctx: Context) -> None:
            trial._inbox.settled.add(event.id)  # another member was faster
            try:
                async with ctx.transaction():
                    raise AssertionError("the block must not run")
            except AlreadyDone as error:
                if event.sequence == 1:
                    raise
                swallowed.append(error)

        trial = Trial(agent, connection=object())
        results = await trial.deliver(event, invitee_created("k", 2))
        assert [result.status for result in results] == [RecordStatus.SKIPPED, RecordStatus.SKIPPED]
        assert len(swallowed) == 1

    @pytest.mark.parametrize("nested", [False, True])
    async def test_a_run_opens_one_transaction_only(self, *, nested: bool) -> None:
        """A second transaction, after the first or inside it, would wait for its own mark, so it is refused."""
        agent = Agent("tx", retry=RetryPolicy(attempts=1))

        @agent.on(InviteeCreated)
        async def write(event: Event[InviteeCreated], ctx: Context) -> None:
            del event
            async with ctx.transaction():
                if nested:
                    async with ctx.transaction():
                        pass
            async with ctx.transaction():
                pass

        (result,) = await Trial(agent, connection=object()).deliver(invitee_created("k", 1))
        prefix = "" if nested else "failed after its transaction had committed: "
        assert result.reason == f"{prefix}raised RuntimeError"


async def test_a_bad_deploy_stops_the_agent_before_the_limit_is_passed() -> None:
    """With every event failing, exactly `run` become dead letters; the rest is handed back unsettled."""
    agent = Agent("bad", retry=RetryPolicy(attempts=1), limit=GiveUpLimit(run=5))
    agent_that([ValueError()] * 100, agent=agent)
    trial = Trial(agent)
    results = await trial.deliver(*(invitee_created(f"k{n}", 1) for n in range(30)))
    assert len(trial.dead_letters) == 5
    assert trial.halted
    assert [result.status for result in results].count(RecordStatus.HANDED_BACK) == 25
    assert "restart" in (await trial._handling._problems.check() or "")


async def test_a_poison_event_does_not_stop_the_agent() -> None:
    """Dead letters with successes between them stay under the limit."""
    agent = Agent("poisoned", retry=RetryPolicy(attempts=1), limit=GiveUpLimit(run=1, window=4, share=0.5))
    agent_that([ValueError(), None, ValueError(), None] * 3, agent=agent)
    trial = Trial(agent)
    for n in range(12):
        await trial.deliver(invitee_created("k", n + 1))
    assert len(trial.dead_letters) == 6
    assert not trial.halted


def test_bounds_are_accepted_and_values_past_them_refused() -> None:
    """Every bound is accepted itself, and the next value is refused."""
    assert Retry(MAX_RETRY_AFTER_SECONDS).seconds == MAX_RETRY_AFTER_SECONDS
    assert Retry(0).seconds == 0
    for wrong in (MAX_RETRY_AFTER_SECONDS + 1, -0.1):
        with pytest.raises(ValueError, match="0 to 900"):
            Retry(wrong)
    assert RetryPolicy(attempts=MAX_ATTEMPTS).attempts == MAX_ATTEMPTS
    for attempts in (0, MAX_ATTEMPTS + 1):
        with pytest.raises(ValueError, match="1 to 100"):
            RetryPolicy(attempts=attempts)
    assert RetryPolicy(longest_seconds=MAX_PAUSE_SECONDS).longest_seconds == MAX_PAUSE_SECONDS
    for policy in ({"longest_seconds": MAX_PAUSE_SECONDS + 1}, {"first_seconds": 0.0}, {"first_seconds": 61.0}):
        with pytest.raises(ValueError, match="first_seconds"):
            RetryPolicy(**policy)  # type: ignore[arg-type]  # one field each
    for jitter, factor in ((1.1, 2.0), (-0.1, 2.0), (0.5, 0.9)):
        with pytest.raises(ValueError, match="jitter"):
            RetryPolicy(jitter=jitter, factor=factor)
    for run, share, window in ((0, 0.5, 10), (1, 0.0, 10), (1, 1.1, 10), (1, 0.5, 1)):
        with pytest.raises(ValueError, match="share"):
            GiveUpLimit(run=run, share=share, window=window)


async def test_a_long_reason_is_cut() -> None:
    """A reason of the greatest length is written whole into its header; a longer one is cut."""
    from slotwire.handlers.settle.dead_letters import GiveUpReason, error_headers
    from slotwire.ingest.foundation.clock import SystemClock

    record = record_of(invitee_created("k", 1))
    for length in (MAX_REASON_CHARACTERS, MAX_REASON_CHARACTERS + 1):
        headers = dict(error_headers(record, GiveUpReason("x" * length, 1), agent="a", now=SystemClock().now()))
        assert len(headers["slotwire-error-reason"]) == MAX_REASON_CHARACTERS


async def test_a_trial_of_an_agent_that_pauses_without_end_fails() -> None:
    """A trial raises, and says why, when its agent has paused more often than the limit."""
    trial = Trial(agent_that([DatabaseUnavailable("away", reason="x")] * (MAX_PAUSES + 2)))
    with pytest.raises(ExceptionGroup) as caught:
        await trial.deliver(invitee_created("k", 1))
    assert "database that is away" in str(caught.value.exceptions[0])


async def test_a_stop_hands_a_record_back_without_an_attempt() -> None:
    """A pause that ends because the partition goes away leaves the event unsettled and no dead letter."""
    trial = Trial(agent_that([Retry()]))
    stopping = asyncio.Event()

    async def pause(event: asyncio.Event, seconds: float) -> bool:
        assert seconds > 0
        event.set()
        return True

    trial._handling.patience._pause = pause
    result = await trial._handling.handle(record_of(invitee_created("k", 1)), stopping)
    assert result.status is RecordStatus.HANDED_BACK
    assert not trial.dead_letters
    assert not trial.done
