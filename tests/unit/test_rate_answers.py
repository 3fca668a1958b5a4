"""What an answer's headers say about a rate limit, whatever they hold."""

from __future__ import annotations

import pytest

from slotwire.ingest.control.calendly_client.answers import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS
from slotwire.ingest.control.calendly_client.leases import MAX_LIMIT, RateAnswer

LIMIT, LEFT, RESET, RETRY = "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"


@pytest.mark.parametrize(
    ("status", "headers", "read"),
    [
        (200, {LIMIT: "500", LEFT: "499", RESET: "60"}, (500, 499, 60.0, None)),
        (404, {LIMIT: "50", LEFT: "0", RESET: "0"}, (50, 0, 0.0, None)),
        (429, {LIMIT: "500", LEFT: "0", RESET: "0"}, (500, 0, 0.0, 0.0)),
        (429, {LIMIT: "500", LEFT: "0", RESET: "40", RETRY: "7"}, (500, 0, 40.0, 7.0)),
        (429, {}, (None, None, 0.0, DEFAULT_WAIT_SECONDS)),
        (429, {RETRY: "1e9"}, (None, None, 0.0, MAX_WAIT_SECONDS)),
        (200, {LEFT: "3", RESET: "nan"}, (None, 3, 0.0, None)),
        (200, {LEFT: "3", RESET: "-5"}, (None, 3, 0.0, None)),
        (200, {LEFT: "3", RESET: "inf"}, (None, 3, MAX_WAIT_SECONDS, None)),
        (200, {LIMIT: "999999999", LEFT: "1"}, (MAX_LIMIT, 1, 0.0, None)),
        (200, {LIMIT: "9" * 50, LEFT: "1"}, (None, 1, 0.0, None)),
        (200, {LIMIT: "-1", LEFT: "many", RESET: "soon"}, None),
        (502, {}, None),
    ],
)
def test_headers_are_read(
    status: int, headers: dict[str, str], read: tuple[int | None, int | None, float, float | None] | None
) -> None:
    """Numbers are bounded, nonsense is nothing, and an answer that says nothing is none."""
    found = RateAnswer.read(status, headers, 1.0)
    assert (found and (found.limit, found.remaining, found.reset, found.refused)) == read
