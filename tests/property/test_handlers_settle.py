"""What may be committed, for every order of settling and every gap between offsets."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from slotwire.handlers.policy import GiveUpCounter, GiveUpLimit, RetryPolicy
from slotwire.handlers.settle.ledger import OffsetLedger


@given(
    gaps=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    chance=st.randoms(use_true_random=False),
    trailing=st.integers(1, 4),
)
def test_a_commit_never_passes_an_unsettled_record(gaps: list[int], chance: random.Random, trailing: int) -> None:
    """After any settling in any order the commit is the first unsettled offset, or the position when there is none."""
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    position = offsets[-1] + trailing
    ledger = OffsetLedger()
    waiting = list(offsets)
    settled: set[int] = set()
    committed = 0
    while waiting or len(settled) < len(offsets):
        deliver = waiting and (chance.random() < 0.5 or len(settled) == len(offsets) - len(waiting))
        if deliver:
            offset = waiting.pop(0)
            ledger.deliver(offset)
            ledger.advance(waiting[0] if waiting else position)
        else:
            candidates = [o for o in offsets[: len(offsets) - len(waiting)] if o not in settled]
            offset = chance.choice(candidates)
            ledger.settle(offset)
            settled.add(offset)
        delivered = offsets[: len(offsets) - len(waiting)]
        unsettled = [o for o in delivered if o not in settled]
        expected = unsettled[0] if unsettled else (waiting[0] if waiting else position)
        assert ledger.committable() == expected
        assert ledger.unsettled == len(unsettled)
        assert expected >= committed, "a commit went back"
        committed = expected
    assert len(ledger) == 0


@given(
    policy=st.builds(
        RetryPolicy,
        attempts=st.integers(1, 100),
        first_seconds=st.floats(0.001, 10),
        factor=st.floats(1, 10),
        longest_seconds=st.floats(10, 900),
        jitter=st.floats(0, 1),
    ),
    failures=st.integers(1, 100),
    draw=st.floats(0, 1),
)
def test_a_pause_stays_within_its_policy(policy: RetryPolicy, failures: int, draw: float) -> None:
    """No pause is negative or longer than the longest, and without jitter none is shorter than the one before."""
    pause = policy.pause(failures, draw)
    assert 0 <= pause <= policy.longest_seconds
    assert policy.pause(failures + 1, 0.5) >= policy.pause(failures, 0.5)


@given(
    limit=st.builds(
        GiveUpLimit, run=st.integers(1, 6), window=st.integers(4, 12), share=st.sampled_from([0.25, 0.5, 1.0])
    ),
    bad=st.lists(st.booleans(), max_size=80),
)
def test_no_more_is_given_up_than_the_limit_allows(limit: GiveUpLimit, bad: list[bool]) -> None:
    """Neither a run nor a window of settled events ever holds more dead letters than the limit says."""
    counting = GiveUpCounter(limit)
    settled: list[bool] = []
    for fails in bad:
        if not fails:
            counting.succeeded()
            settled.append(False)
        elif counting.may_give_up():
            settled.append(True)
        else:
            break
    run = 0
    for given_up in settled:
        run = run + 1 if given_up else 0
        assert run <= limit.run
    for start in range(len(settled)):
        assert sum(settled[start : start + limit.window]) <= limit.share * limit.window
