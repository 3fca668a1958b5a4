"""When and how often to ask a receiver again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from slotwire.ingest.foundation.errors import OutgoingFailed
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.outgoing.client import Outgoing
from slotwire.ingest.foundation.outgoing.connections import Answer

FINAL = frozenset({HTTPStatus.GONE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
"""Statuses after which another try of the same message cannot succeed."""


def is_worth_another(answer: Answer) -> bool:
    """Whether another try may succeed: after any answer but success, 410 and 413."""
    return not answer.is_success and answer.status not in FINAL


@dataclass(frozen=True, slots=True)
class OutgoingRetries:
    """How often and how long a request is tried.

    Attributes:
        attempts: tries, the first included.
        first_seconds: the wait before the second try; each further one is twice as long.
        longest_seconds: the longest wait; a receiver that asks for more gets this.
    """

    attempts: int = 4
    first_seconds: float = 1.0
    longest_seconds: float = 60.0

    def wait(self, failures: int, asked: float | None, draw: float) -> float:
        """Return the seconds to wait after so many failures.

        Args:
            failures: how many tries have failed, at least 1.
            asked: the seconds that the receiver asked for, by Retry-After.
            draw: a random number, 0 to 1: up to a quarter is added, so that many do not come back together.
        """
        plain = max(self.first_seconds * 2.0 ** min(failures - 1, 32), asked or 0.0)
        return min(plain * (1 + draw / 4), self.longest_seconds)


async def post_until_answered(
    outgoing: Outgoing,
    url: str,
    body: bytes,
    headers: Callable[[], Mapping[str, str]],
    *,
    retries: OutgoingRetries | None = None,
    wait: Callable[[float], Awaitable[object]] = pause,
) -> Answer:
    """Make a POST, and again while another try may succeed.

    Args:
        outgoing: makes the requests.
        url: the receiver's address.
        body: what is sent, the same in each try.
        headers: makes those of a try: a signature has the time of its try.
        retries: how often, and how long to wait in between.
        wait: waits.

    Returns:
        The last answer: a success, one that is final, or the one after which no try is left.

    Raises:
        OutgoingRefused: the address is refused; no try is made again.
        OutgoingFailed: no try was answered, the last one for this reason.
    """
    policy = retries or OutgoingRetries()
    for failures in range(1, policy.attempts + 1):
        asked = None
        try:
            answer = await outgoing.post(url, body, headers())
        except OutgoingFailed:
            if failures == policy.attempts:
                raise
        else:
            if failures == policy.attempts or not is_worth_another(answer):
                return answer
            asked = answer.retry_after
        await wait(policy.wait(failures, asked, random.random()))  # noqa: S311 - spreads requests, hides nothing
    raise AssertionError  # pragma: no cover - the loop returns or raises
