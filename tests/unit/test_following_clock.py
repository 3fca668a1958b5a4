"""A process that goes by the simulator's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.clock import FollowingClock, SystemClock, clock_of, show_ahead
from slotwire.ingest.foundation.settings import CalendlySettings, LocalSettings, Settings
from slotwire.ingest.simulator.clock import DrivenClock

HERE = "http://127.0.0.1:9"


def settings(file: Path | None) -> Settings:
    """Settings of a process on this machine."""
    return Settings(
        public_url=HERE,
        calendly=CalendlySettings(api_url=HERE, auth_url=HERE),
        local=LocalSettings(clock_file=file),
    )


def ahead(clock: FollowingClock) -> float:
    """How many hours a clock is ahead of this machine's."""
    return round((clock.now() - datetime.now(UTC)).total_seconds() / 3600, 3)


def test_whoever_follows_is_where_the_simulator_is(tmp_path: Path) -> None:
    """From its first moment, at each step, and when another simulator goes on in the same file."""
    file, driven = tmp_path / "clock", DrivenClock(timedelta(hours=1))
    assert not driven.followed
    driven.show_in(file)
    follower = clock_of(settings(file))
    assert isinstance(follower, FollowingClock)
    assert (driven.followed, ahead(follower)) == (True, 1)
    driven.advance(timedelta(days=30))
    assert ahead(follower) == 721
    assert file.stat().st_mode & 0o077 == 0
    DrivenClock(timedelta(hours=2)).show_in(file)
    assert ahead(follower) == 2


def test_others_go_by_the_machines(tmp_path: Path) -> None:
    """Without the setting nothing is read; with it, a file that is missing is an error that says who writes it."""
    assert isinstance(clock_of(settings(None)), SystemClock)
    with pytest.raises(ConfigurationError, match="SLOTWIRE_LOCAL__CLOCK_FILE") as caught:
        clock_of(settings(tmp_path / "clock"))
    assert "slotwire simulate serve --clock-file" in caught.value.remedy
    show_ahead(tmp_path / "clock", timedelta())
    assert ahead(FollowingClock(tmp_path / "clock")) == 0
