"""How usual a silence is: by the hours of the week of an organization's own past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwire.ingest.control.silence import HOUR, WEEK, WEEK_HOURS, WeekProfile, hour_of_week

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
OFFICE = [(day * 24 + hour, 4) for day in range(5) for hour in range(9, 17)]
"""Every office hour of four weeks had a webhook."""
profiles = st.dictionaries(st.integers(0, WEEK_HOURS - 1), st.integers(0, 4)).map(
    lambda counts: WeekProfile.of(counts.items(), 4)
)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zoned so


def test_a_weekend_is_usual_and_a_morning_is_not() -> None:
    """An office that is silent from Friday's last hour to Monday's first is usual; one silent by noon is not."""
    office = WeekProfile.of(OFFICE, 4)
    friday = MONDAY - timedelta(days=3) + timedelta(hours=17)
    assert office.probability(friday, MONDAY + timedelta(hours=9)) == 1
    by_ten, by_noon, by_three = (office.probability(friday, MONDAY + timedelta(hours=hour)) for hour in (10, 12, 15))
    assert by_ten == pytest.approx(0.2)
    assert by_noon == pytest.approx(0.2**3)
    assert by_three < 0.001


def test_who_never_had_any_is_never_unusual() -> None:
    """Without a webhook in four weeks nothing is expected, and no silence is unusual."""
    assert WeekProfile.of([], 4).probability(MONDAY, MONDAY + 10 * WEEK) == 1


def test_one_busy_hour_in_four_weeks_expects_little() -> None:
    """A week with one hour that once had webhooks says little: silence stays usual for weeks."""
    assert WeekProfile.of([(33, 1)], 4).probability(MONDAY, MONDAY + 4 * WEEK) == pytest.approx(0.8**4)


def test_an_hour_counts_by_its_part() -> None:
    """Half of an hour weighs half: the gauge falls steadily, and does not jump at full hours."""
    profile = WeekProfile.of([(9, 4)], 4)
    nine = MONDAY + 9 * HOUR
    assert profile.probability(nine, nine + HOUR / 2) == pytest.approx(0.2**0.5)
    assert profile.probability(nine + HOUR / 4, nine + HOUR / 2) == pytest.approx(0.2**0.25)


def test_the_hour_of_the_week_begins_on_monday() -> None:
    """It runs from 0, Monday's first, to 167, Sunday's last, as the statement that counts them does."""
    assert [hour_of_week(MONDAY), hour_of_week(MONDAY - HOUR)] == [0, WEEK_HOURS - 1]


@given(profile=profiles, since=times, first=st.floats(0, 2_000), second=st.floats(0, 2_000))
def test_two_silences_in_a_row_are_as_usual_as_both(
    profile: WeekProfile, since: datetime, first: float, second: float
) -> None:
    """A silence may be cut anywhere, across weeks, too: the parts multiply to the whole, and none is above 1."""
    middle = since + timedelta(hours=first)
    end = middle + timedelta(hours=second)
    parts = profile.probability(since, middle) * profile.probability(middle, end)
    whole = profile.probability(since, end)
    assert 0 <= whole <= 1
    assert parts == pytest.approx(whole, rel=1e-6, abs=1e-12)


@given(profile=profiles, since=times)
def test_a_webhook_that_came_just_now_is_no_silence(profile: WeekProfile, since: datetime) -> None:
    """No time, and a clock that was put back, are as usual as can be."""
    assert profile.probability(since, since) == profile.probability(since, since - HOUR) == 1
