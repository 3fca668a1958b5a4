"""Chores go on after a round that failed, and end with what nobody foresaw."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.chores import repeat


async def test_a_round_that_fails_is_logged_and_the_next_one_made() -> None:
    """Only what is no `SlotwireError` ends a chore: it is a defect."""
    rounds = iter([DatabaseUnavailable("Postgres is away", reason="away"), None, KeyError("defect")])

    async def once() -> None:
        problem = next(rounds)
        if problem is not None:
            raise problem

    with capture_logs() as logs, pytest.raises(KeyError, match="defect"):
        await repeat(once, stage="ranges", seconds=0)
    assert [(line["event"], line["log_level"], line["error"]) for line in logs] == [
        ("round_failed", "warning", "Postgres is away")
    ]
