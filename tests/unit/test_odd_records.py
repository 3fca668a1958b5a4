"""No record ends an agent: whatever it holds, it is handled, skipped, or a dead letter with its bytes and a reason."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.handlers import Agent, Context, Reject
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.records import Record
from slotwire.handlers.settle.dead_letters import (
    LEFT_OUT,
    MAX_LETTER_HEADER_BYTES,
    MAX_LETTER_KEY_BYTES,
    GiveUpReason,
    error_headers,
    letters,
)
from slotwire.handlers.testing import RecordStatus, Trial, record_of
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.schemas.codec import UndecodableRecord, decode
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCanceled, InviteeCreated
from tests.support.agent_setup import invitee_created
from tests.support.odd_records import JSON_VALUES, NAMES, ODD_DATA, TEXTS, TIMES, TYPES, odd_record

PATIENT = GiveUpLimit(run=1_000_000, window=10, share=1.0)
"""No number of dead letters stops the agent."""
SETTLED = {RecordStatus.DONE, RecordStatus.SKIPPED, RecordStatus.DEAD_LETTERED}
GOOD = record_of(invitee_created("k", 1))


def agent_of(behaviour: Any = None) -> Agent:
    """Make an agent whose handler returns, or raises, what it is given."""
    agent = Agent("odd", retry=RetryPolicy(attempts=2), limit=PATIENT)

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> Any:
        del event, ctx
        if isinstance(behaviour, BaseException):
            raise behaviour
        return behaviour

    return agent


async def settle_all(records: list[Record]) -> Counter[RecordStatus]:
    """Deliver records; each is settled, and a dead letter has what it had and says why."""
    trial = Trial(agent_of())
    results = await trial.deliver_records(*(replace(record, offset=n) for n, record in enumerate(records)))
    assert len(results) == len(records)
    assert {result.status for result in results} <= SETTLED
    counts = Counter(result.status for result in results)
    assert len(trial.dead_letters) == counts[RecordStatus.DEAD_LETTERED]
    for letter in trial.dead_letters:
        sent = records[letter.record.offset]
        assert (letter.record.key, letter.record.value) == (sent.key, sent.value)
        assert letter.record.headers == sent.headers
        assert letter.why.reason
    return counts


_VALUES = st.sampled_from([*TEXTS, *TIMES, *TYPES]) | st.binary(max_size=40)
_HEADERS = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=20), st.none() | _VALUES), max_size=12)
_BODIES = st.none() | st.sampled_from([*JSON_VALUES, *ODD_DATA]) | st.binary(max_size=60)


@settings(max_examples=300, deadline=None)
@given(added=_HEADERS, dropped=st.sets(st.integers(0, 9)), value=_BODIES, key=st.none() | st.binary(max_size=9))
async def test_any_headers_key_and_value_are_settled(
    added: list[tuple[str, bytes | None]], dropped: set[int], value: bytes | None, key: bytes | None
) -> None:
    """A good event of which headers are dropped, with any headers, key and value: it is settled."""
    kept = [header for place, header in enumerate(GOOD.headers) if place not in dropped]
    await settle_all([replace(GOOD, key=key, value=value, headers=(*kept, *added)), GOOD])


async def test_thousands_of_drawn_records_are_settled() -> None:
    """Two thousand drawn records: all three ends occur, and every good event is among those done."""
    draw = random.Random(7)  # noqa: S311 - chance, not a secret
    counts = await settle_all([odd_record(draw, number) for number in range(2_000)])
    assert all(counts[status] > 100 for status in SETTLED)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("ce_id", b"\xff")], "the header ce_id occurs twice"),
        ([("ce_type", InviteeCanceled.type.encode())], "the header ce_type occurs twice"),
    ],
)
def test_an_attribute_that_occurs_twice_is_no_event(headers: list[tuple[str, bytes]], reason: str) -> None:
    """Two readers must not take one record for two events."""
    with pytest.raises(UndecodableRecord, match=reason) as caught:
        decode([*GOOD.headers, *headers], GOOD.value)
    assert caught.value.reason == "not_an_event"


def test_a_second_traceparent_is_no_reason_to_give_up() -> None:
    """Tracing libraries add one behind ours: the first counts, and bytes that are no text do no harm."""
    ours, theirs = ("traceparent", b"00-ours"), ("traceparent", b"\xff")
    assert decode([*GOOD.headers, ours, theirs], GOOD.value).traceparent == "00-ours"


@pytest.mark.parametrize("position", [b"", b"-1", b"1_0", b"9" * 19, "\uff11".encode(), b" 1", b"0x1", b"1.0"])
def test_a_position_that_is_none_is_refused(position: bytes) -> None:
    """A position has up to 18 digits, and nothing else."""
    headers = [(name, position if name == "ce_sequence" else value) for name, value in GOOD.headers]
    with pytest.raises(UndecodableRecord, match="ce_sequence cannot be read"):
        decode(headers, GOOD.value)
    most = [(name, b"9" * 18 if name == "ce_sequence" else value) for name, value in GOOD.headers]
    assert decode(most, GOOD.value).sequence == 10**18 - 1


@pytest.mark.parametrize("time", TIMES[:4])
def test_a_time_that_is_none_is_refused(time: bytes) -> None:
    """A time needs an offset, and a place in the calendar in UTC."""
    headers = [(name, time if name == "ce_time" else value) for name, value in GOOD.headers]
    with pytest.raises(UndecodableRecord, match="ce_time cannot be read"):
        decode(headers, GOOD.value)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Reject("half an emoji: \ud83d"), "half an emoji: ?"),
        (Reject(5), "5"),  # type: ignore[arg-type]  # an author without a type checker
        (asyncio.CancelledError(), "raised CancelledError"),
        (SystemExit(3), "raised SystemExit"),
        (RecursionError(), "raised RecursionError"),
    ],
    ids=["surrogate", "number", "cancelled", "exit", "recursion"],
)
async def test_whatever_a_handler_does_it_ends_its_run_only(behaviour: Any, reason: str) -> None:
    """The event becomes a dead letter with a reason that a header can hold, and the next record is handled."""
    trial = Trial(agent_of(behaviour))
    results = await trial.deliver_records(GOOD, replace(GOOD, headers=(), offset=1))
    assert [result.status for result in results] == [RecordStatus.DEAD_LETTERED] * 2
    letter = next(each for each in trial.dead_letters if each.record.offset == 0)
    assert letter.why.reason == reason
    assert dict(error_headers(GOOD, letter.why, agent="odd", now=SystemClock().now()))


async def test_a_record_on_which_our_own_code_fails_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours is a dead letter that says where, without the message, which may quote the record."""

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("alice@example.com")

    monkeypatch.setattr("slotwire.handlers.dispatch.handle.read_event", fail)
    trial = Trial(agent_of())
    (result,) = await trial.deliver_records(GOOD)
    assert (result.status, result.reason) == (RecordStatus.DEAD_LETTERED, "defect: raised KeyError")
    (letter,) = trial.dead_letters
    assert "test_odd_records.py" in letter.why.trace
    assert "alice" not in repr(letter.why)


def forms(record: Record) -> list[Any]:
    """Return the forms of a record's dead letter."""
    return list(letters(record, error_headers(record, GiveUpReason("why", 1), agent="odd", now=SystemClock().now())))


def test_a_letter_that_is_too_large_goes_without_its_value_and_refers_to_the_log() -> None:
    """The second form has the headers and a reference to the event's data; the third says only where the record is."""
    whole, lighter, smallest = forms(GOOD)
    assert (whole.key, whole.value, LEFT_OUT in dict(whole.headers)) == (GOOD.key, GOOD.value, False)
    assert dict(lighter.headers)[LEFT_OUT] == b"value"
    identity = dict(GOOD.headers)["ce_id"]
    assert identity is not None
    assert dict(lighter.headers)["ce_dataref"] == b"/v1/events/" + identity
    assert decode(lighter.headers, lighter.value, elsewhere=GOOD.value).data == decode(GOOD.headers, GOOD.value).data
    assert dict(smallest.headers)[LEFT_OUT] == b"value, headers"
    assert "ce_id" not in dict(smallest.headers)
    assert dict(smallest.headers)["slotwire-error-offset"] == b"0"


def test_the_limits_of_a_letter_s_headers_and_key() -> None:
    """At the limit they stay in the lighter form; one byte more, and they are left out."""
    for size, kept in ((MAX_LETTER_HEADER_BYTES, 3), (MAX_LETTER_HEADER_BYTES + 1, 2)):
        assert len(forms(replace(GOOD, headers=(("h", b"x" * (size - 1)),)))) == kept
    for size, key in ((MAX_LETTER_KEY_BYTES, b"k" * MAX_LETTER_KEY_BYTES), (MAX_LETTER_KEY_BYTES + 1, None)):
        _, lighter, _ = forms(replace(GOOD, key=b"k" * size))
        assert (lighter.key, dict(lighter.headers)[LEFT_OUT]) == (key, b"value" if key else b"value, key")


def test_a_record_that_is_null_twice_has_a_letter() -> None:
    """The client sends no record without key and value, so its letter has an empty value."""
    whole, *_ = forms(replace(GOOD, key=None, value=None))
    assert (whole.key, whole.value) == (None, b"")


def test_headers_that_look_like_ours_are_replaced() -> None:
    """A record's own `slotwire-error-…` headers do not pass for our reasons."""
    forged = replace(GOOD, headers=(*GOOD.headers, ("slotwire-error-reason", b"forged"), (LEFT_OUT, b"forged")))
    for form in forms(forged):
        assert [value for name, value in form.headers if name == "slotwire-error-reason"] == [b"why"]
        assert b"forged" not in [value for _, value in form.headers]
