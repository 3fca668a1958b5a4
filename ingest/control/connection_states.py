"""The states of a connection and the transitions between them. Pure.

    active ◀──────▶ expiring        its end comes near and it is not refreshed, or was moved
      │  ▲             │  ▲
      ▼  │             ▼  │
    needs_reauth, error             and back, once the cause is gone
      │  │             │  │
      ▼  ▼             ▼  ▼
    revoked                         final for this credential; a new one leads to active or expiring

docs/reference/states.md draws them too; the trigger `connections_step` refuses every other transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

ConnectionState: TypeAlias = Literal["active", "expiring", "needs_reauth", "revoked", "error"]


class Observation(StrEnum):
    """What we observed about a credential."""

    CONNECTED = "connected"
    """It is new, and Calendly accepted it."""
    ACCEPTED = "accepted"
    """Calendly accepted it, and its user and organization are the pinned ones."""
    REFUSED = "refused"
    """Calendly no longer accepts it (401)."""
    ANOTHER_USER = "another_user"
    """Calendly says that it belongs to a user other than the pinned one."""
    ANOTHER_ORGANIZATION = "another_organization"
    """Its user has moved to another organization."""
    SCOPE_MISSING = "scope_missing"
    """It lacks the scope needed to ask whose it is."""
    GRANT_LOST = "grant_lost"
    """Its refresh token was spent, and the answer with the next one is lost."""
    REFRESH_FAILS = "refresh_fails"
    """Its token ends soon, and Calendly gives no next one, though nothing says that the grant is lost."""
    UNREADABLE = "unreadable"
    """Its secret does not open with the vault's keys."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The state of a connection, with the reason for it.

    Attributes:
        state: see docs/reference/states.md.
        reason: a short word; None if and only if the state is `active`.
    """

    state: ConnectionState
    reason: str | None = None

    @property
    def able(self) -> bool:
        """Whether Calendly can be called with it."""
        return self.state in {"active", "expiring"}


def next_state(
    current: ConnectionStatus, observation: Observation, *, expires_at: datetime | None, now: datetime, warn: timedelta
) -> ConnectionStatus:
    """Return the status that follows from an observation.

    Args:
        current: the status before.
        observation: what was observed about the credential.
        expires_at: when the credential expires; None if it does not.
        now: when the observation was made.
        warn: how long before its expiry a credential counts as `expiring`.
    """
    if _stays(current, observation):
        return current
    match observation:
        case Observation.CONNECTED | Observation.ACCEPTED:
            expires_soon = expires_at is not None and expires_at - now <= warn
            return ConnectionStatus("expiring", "expires_soon") if expires_soon else ConnectionStatus("active")
        case Observation.REFUSED:
            expired = expires_at is not None and expires_at <= now
            return ConnectionStatus("revoked", "expired" if expired else "refused")
        case (
            Observation.ANOTHER_USER
            | Observation.ANOTHER_ORGANIZATION
            | Observation.SCOPE_MISSING
            | Observation.GRANT_LOST
        ):
            return ConnectionStatus("needs_reauth", observation.value)
        case Observation.REFRESH_FAILS:
            return ConnectionStatus("expiring", observation.value)
        case Observation.UNREADABLE:
            return ConnectionStatus("error", "secret_unreadable")


def _stays(current: ConnectionStatus, observation: Observation) -> bool:
    """Return whether an observation changes nothing about a connection in this state."""
    if current.state == "revoked":
        return observation is not Observation.CONNECTED
    if observation is Observation.ACCEPTED:
        # The last token still works for a while, which says nothing about a next one.
        return current.reason in {Observation.GRANT_LOST, Observation.REFRESH_FAILS}
    return observation is Observation.REFRESH_FAILS and not current.able
