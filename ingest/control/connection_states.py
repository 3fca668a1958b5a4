"""The states of a connection, and what leads from one to the other. Pure.

    active ◀──────▶ expiring        its end is near, or was moved
      │  ▲             │  ▲
      ▼  │             ▼  │
    needs_reauth, error             and back, once what was wrong is right again
      │  │             │  │
      ▼  ▼             ▼  ▼
    revoked                         final for its credential; a new one leads to active or expiring

Drawn in docs/reference/states.md; `connections_step` in the database refuses what no statement may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

State: TypeAlias = Literal["active", "expiring", "needs_reauth", "revoked", "error"]


class Noticed(StrEnum):
    """What was learnt of a credential."""

    CONNECTED = "connected"
    """It is new, and Calendly accepted it."""
    ACCEPTED = "accepted"
    """Calendly accepted it, and it is who it was."""
    REFUSED = "refused"
    """Calendly does not know it any more (401)."""
    ANOTHER_USER = "another_user"
    """Calendly says that it belongs to another user than the pinned one."""
    ANOTHER_ORGANIZATION = "another_organization"
    """Its user is in another organization now."""
    SCOPE_MISSING = "scope_missing"
    """It may not even be asked whose it is."""
    UNREADABLE = "unreadable"
    """Its secret does not open with the vault's keys."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a connection stands.

    Attributes:
        state: see docs/reference/states.md.
        reason: a short word; None exactly while it is `active`.
    """

    state: State
    reason: str | None = None

    @property
    def able(self) -> bool:
        """Whether anything may be asked of Calendly with it."""
        return self.state in {"active", "expiring"}


def after(
    standing: Standing, noticed: Noticed, *, expires_at: datetime | None, now: datetime, warn: timedelta
) -> Standing:
    """Return how a connection stands once something was noticed.

    Args:
        standing: how it stood.
        noticed: what was learnt.
        expires_at: the credential's end; None where it has none.
        now: when it was noticed.
        warn: how long before its end a credential is `expiring`.
    """
    if standing.state == "revoked" and noticed is not Noticed.CONNECTED:
        return standing
    match noticed:
        case Noticed.CONNECTED | Noticed.ACCEPTED:
            near = expires_at is not None and expires_at - now <= warn
            return Standing("expiring", "expires_soon") if near else Standing("active")
        case Noticed.REFUSED:
            over = expires_at is not None and expires_at <= now
            return Standing("revoked", "expired" if over else "refused")
        case Noticed.ANOTHER_USER | Noticed.ANOTHER_ORGANIZATION | Noticed.SCOPE_MISSING:
            return Standing("needs_reauth", noticed.value)
        case Noticed.UNREADABLE:
            return Standing("error", "secret_unreadable")
