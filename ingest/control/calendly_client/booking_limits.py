"""The limits of `POST /invitees`: Calendly counts it for each user besides all other calls, by the organization's plan.

They are known before the first refusal. A booking that has no turn is refused with the seconds to wait, and not made.
What others book as the same user is not known here: a 429 holds back bookings, and no other calls.
Source: docs/reference/calendly.md, "REST", rate limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from slotwire.ingest.control.calendly_client.answers import wait_of
from slotwire.ingest.control.calendly_client.leases import ACQUIRE_SECONDS
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.calendly_metrics import CALENDLY_CALLS_WITHHELD
from slotwire.ingest.foundation.postgres import Connection, Pool, borrowed, read_queries

BOOKING = "post-invitee"
"""The operation."""
LATE_SECONDS = 2.0
"""How much longer than Calendly's our windows are: calls may take a second more or less on their way."""
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
LIMITS: Mapping[str, tuple[tuple[int, float], ...]] = MappingProxyType(
    {
        "trial": ((5, DAY),),
        "free": ((5, DAY),),  # has limits of its own, whose numbers are not published: as on trial
        "paid": ((10, MINUTE), (50, HOUR), (100, DAY)),
        "enterprise": ((500, MINUTE),),
    }
)
"""Bookings within so many seconds, by plan."""
UNKNOWN = "paid"
"""Taken for the plan until `slotwire connections probe` has asked: a refusal costs nothing but time."""

_SQL = read_queries("slotwire.ingest.sql", "budget.sql")


def plan_of(plan: str | None, stage: str | None) -> str:
    """Return the plan whose limits hold, of what Calendly says of an organization."""
    said = (plan or "").lower()
    if "enterprise" in said:
        return "enterprise"
    if stage in {"trial", "free"}:
        return stage
    return "free" if said == "free" else UNKNOWN


async def wait_of_user(pool: Pool, user: str, now: float) -> float:
    """Return in how many seconds a user has a turn to book; 0 where there is one now. None is taken.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    async with borrowed(pool, seconds=ACQUIRE_SECONDS) as connection:
        _, calls, seconds = await _limits(connection, user)
        return float(await connection.fetchval(_SQL["booking_wait"], user, now, calls, seconds))


async def take(pool: Pool, user: str, now: float, doing: str, priority: str) -> None:
    """Take a turn to book.

    Args:
        pool: the database.
        user: the user's URI.
        now: the budget's time.
        doing: what is attempted; begins the message of a refusal.
        priority: of the caller, for the metric.

    Raises:
        CalendlyError: there is none now (`limited`, without a status: nothing was booked).
        DatabaseUnavailable: Postgres does not answer; nothing was booked.
    """
    async with borrowed(pool, seconds=ACQUIRE_SECONDS) as connection:
        plan, calls, seconds = await _limits(connection, user)
        wait = float(await connection.fetchval(_SQL["take_booking_turn"], user, now, calls, seconds))
    if wait <= 0:
        return
    CALENDLY_CALLS_WITHHELD.labels(priority, "booking").inc()
    said = ", ".join(f"{count} in {_NAMES[window]}" for count, window in LIMITS[plan])
    raise CalendlyError(
        f"{doing}: Calendly lets this user book {said} by its API ({plan}), and that is used up",
        problem=CalendlyProblem.LIMITED,
        wait=max(wait, 1.0),
        remedy=f"Try again in {max(wait, 1.0):.0f} s, or send the invitee a scheduling link.",
    )


async def _limits(connection: Connection, user: str) -> tuple[str, list[int], list[float]]:
    """Return the plan of a user's organization, and its limits: bookings, and within how many of our seconds."""
    row = await connection.fetchrow(_SQL["booking_plan"], user)
    plan = plan_of(None, None) if row is None else plan_of(row["plan"], row["stage"])
    return plan, [each for each, _ in LIMITS[plan]], [each + LATE_SECONDS for _, each in LIMITS[plan]]


async def refused(pool: Pool, user: str, now: float, headers: Mapping[str, str]) -> None:
    """Hold back bookings after a 429 to one.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    async with borrowed(pool, seconds=ACQUIRE_SECONDS) as connection:
        await connection.execute(_SQL["block_bookings"], user, now, max(wait_of(headers, most=DAY), 1.0))


_NAMES = MappingProxyType({MINUTE: "a minute", HOUR: "an hour", DAY: "a day"})
