"""The transitions between the states of a connection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest

from slotwire.ingest.control.connection_checks import STATES
from slotwire.ingest.control.connection_states import ConnectionState, ConnectionStatus, Observation, next_state

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WARN = timedelta(days=14)
STATUSES = (
    ConnectionStatus("active"),
    ConnectionStatus("expiring", "expires_soon"),
    ConnectionStatus("needs_reauth", "another_user"),
    ConnectionStatus("revoked", "refused"),
    ConnectionStatus("error", "secret_unreadable"),
)


def reached(status: ConnectionStatus, observation: Observation, expires_at: datetime | None = None) -> ConnectionStatus:
    """Return the status after an observation."""
    return next_state(status, observation, expires_at=expires_at, now=NOW, warn=WARN)


def test_every_state_is_tried() -> None:
    """The statuses of these tests, and the states that are counted, are all there are."""
    assert {item.state for item in STATUSES} == set(get_args(ConnectionState)) == set(STATES)


@pytest.mark.parametrize("observation", [item for item in Observation if item is not Observation.CONNECTED])
def test_revoked_is_final(observation: Observation) -> None:
    """No observation of the same credential leads away from revoked, not even another 401."""
    assert reached(ConnectionStatus("revoked", "expired"), observation) == ConnectionStatus("revoked", "expired")


@pytest.mark.parametrize("status", STATUSES)
def test_a_new_credential_begins_able_to_act(status: ConnectionStatus) -> None:
    """From everywhere a new credential leads to active, or to expiring where its end is near."""
    assert reached(status, Observation.CONNECTED) == ConnectionStatus("active")
    assert reached(status, Observation.CONNECTED, NOW) == ConnectionStatus("expiring", "expires_soon")


@pytest.mark.parametrize("status", [item for item in STATUSES if item.state != "revoked"])
def test_the_observation_decides(status: ConnectionStatus) -> None:
    """From every state but revoked, the same observation leads to the same state."""
    assert reached(status, Observation.ACCEPTED) == ConnectionStatus("active")
    assert reached(status, Observation.REFUSED) == ConnectionStatus("revoked", "refused")
    assert reached(status, Observation.ANOTHER_USER) == ConnectionStatus("needs_reauth", "another_user")
    assert reached(status, Observation.ANOTHER_ORGANIZATION) == ConnectionStatus("needs_reauth", "another_organization")
    assert reached(status, Observation.SCOPE_MISSING) == ConnectionStatus("needs_reauth", "scope_missing")
    assert reached(status, Observation.UNREADABLE) == ConnectionStatus("error", "secret_unreadable")


def test_what_is_not_refreshed_is_expiring_until_it_is() -> None:
    """A connection that can act is expiring; an answer to its last token mends nothing, a 401 or a pair ends it."""
    unrefreshed = ConnectionStatus("expiring", "refresh_fails")
    for status in STATUSES:
        expected = unrefreshed if status.able else status
        assert reached(status, Observation.REFRESH_FAILS) == expected
    assert reached(unrefreshed, Observation.ACCEPTED) == unrefreshed
    assert reached(unrefreshed, Observation.REFUSED) == ConnectionStatus("revoked", "refused")
    assert reached(unrefreshed, Observation.GRANT_LOST) == ConnectionStatus("needs_reauth", "grant_lost")
    assert reached(unrefreshed, Observation.CONNECTED) == ConnectionStatus("active")


@pytest.mark.parametrize(
    ("left", "state"),
    [(WARN + timedelta(microseconds=1), "active"), (WARN, "expiring"), (timedelta(0), "expiring")],
)
def test_the_end_comes_near(left: timedelta, state: str) -> None:
    """A credential is expiring from exactly so long before its end, and goes back when its end is moved."""
    assert reached(ConnectionStatus("active"), Observation.ACCEPTED, NOW + left).state == state
    assert reached(ConnectionStatus("expiring", "expires_soon"), Observation.ACCEPTED, NOW + left).state == state


@pytest.mark.parametrize(
    ("ends", "reason"),
    [(None, "refused"), (timedelta(microseconds=1), "refused"), (timedelta(0), "expired"), (-WARN, "expired")],
)
def test_why_a_credential_was_refused(ends: timedelta | None, reason: str) -> None:
    """A 401 after the credential's own end says expired; before it, or without one, refused."""
    expires_at = None if ends is None else NOW + ends
    assert reached(ConnectionStatus("active"), Observation.REFUSED, expires_at) == ConnectionStatus("revoked", reason)


def test_a_reason_is_there_exactly_where_it_is_not_active() -> None:
    """No step leads to an active connection with a reason, or to another one without: the database asks the same."""
    for status, observation, ends in product(STATUSES, Observation, (None, NOW, NOW + 2 * WARN)):
        found = reached(status, observation, ends)
        assert (found.state == "active") == (found.reason is None)
        assert found.able == (found.state in {"active", "expiring"})
