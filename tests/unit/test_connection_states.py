"""What leads from one state of a connection to another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest

from slotwire.ingest.control.connection_checks import STATES
from slotwire.ingest.control.connection_states import ConnectionState, ConnectionStatus, Observation, next_state

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WARN = timedelta(days=14)
STANDINGS = (
    ConnectionStatus("active"),
    ConnectionStatus("expiring", "expires_soon"),
    ConnectionStatus("needs_reauth", "another_user"),
    ConnectionStatus("revoked", "refused"),
    ConnectionStatus("error", "secret_unreadable"),
)


def reached(standing: ConnectionStatus, noticed: Observation, expires_at: datetime | None = None) -> ConnectionStatus:
    """Return how a connection stands after something."""
    return next_state(standing, noticed, expires_at=expires_at, now=NOW, warn=WARN)


def test_every_state_is_tried() -> None:
    """The standings of these tests, and the states that are counted, are all there are."""
    assert {item.state for item in STANDINGS} == set(get_args(ConnectionState)) == set(STATES)


@pytest.mark.parametrize("noticed", [item for item in Observation if item is not Observation.CONNECTED])
def test_revoked_is_final(noticed: Observation) -> None:
    """Nothing that is noticed of the same credential leads away from revoked, not even another 401."""
    assert reached(ConnectionStatus("revoked", "expired"), noticed) == ConnectionStatus("revoked", "expired")


@pytest.mark.parametrize("standing", STANDINGS)
def test_a_new_credential_begins_able_to_act(standing: ConnectionStatus) -> None:
    """From everywhere a new credential leads to active, or to expiring where its end is near."""
    assert reached(standing, Observation.CONNECTED) == ConnectionStatus("active")
    assert reached(standing, Observation.CONNECTED, NOW) == ConnectionStatus("expiring", "expires_soon")


@pytest.mark.parametrize("standing", [item for item in STANDINGS if item.state != "revoked"])
def test_what_is_noticed_decides(standing: ConnectionStatus) -> None:
    """Whatever the state was before, the same notice leads to the same state."""
    assert reached(standing, Observation.ACCEPTED) == ConnectionStatus("active")
    assert reached(standing, Observation.REFUSED) == ConnectionStatus("revoked", "refused")
    assert reached(standing, Observation.ANOTHER_USER) == ConnectionStatus("needs_reauth", "another_user")
    assert reached(standing, Observation.ANOTHER_ORGANIZATION) == ConnectionStatus(
        "needs_reauth", "another_organization"
    )
    assert reached(standing, Observation.SCOPE_MISSING) == ConnectionStatus("needs_reauth", "scope_missing")
    assert reached(standing, Observation.UNREADABLE) == ConnectionStatus("error", "secret_unreadable")


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
    for standing, noticed, ends in product(STANDINGS, Observation, (None, NOW, NOW + 2 * WARN)):
        found = reached(standing, noticed, ends)
        assert (found.state == "active") == (found.reason is None)
        assert found.able == (found.state in {"active", "expiring"})
