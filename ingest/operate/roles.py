"""Who asks, and what they may reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from slotwire.ingest.errors import RequestRefused


class Role(StrEnum):
    """What a key may do; each role may do what the one before may."""

    READER = "reader"
    """Reads events, bookings, deliveries and subscriptions, personal data included."""
    OPERATOR = "operator"
    """Makes and ends subscriptions and settles what is in quarantine, too."""
    ADMIN = "admin"
    """Makes and revokes keys too."""

    @property
    def rank(self) -> int:
        """How much it may; more is more."""
        return list(Role).index(self)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks.

    Attributes:
        role: what they may do.
        org: the one organization they may reach; None for all.
        key_id: the key they came with; None where nobody came over HTTP.
        name: what the audit calls whoever has no key.
    """

    role: Role
    org: str | None = None
    key_id: UUID | None = None
    name: str = "command line"

    @property
    def actor(self) -> str:
        """What the audit calls them."""
        return self.name if self.key_id is None else str(self.key_id)

    def require(self, role: Role) -> None:
        """Refuse whoever may less.

        Raises:
            RequestRefused: with code `role_too_low`.
        """
        if self.role.rank < role.rank:
            raise RequestRefused(
                f"this needs the role {role}; the key has {self.role}",
                code="role_too_low",
                remedy="Ask with a key of that role: slotwire keys api create --role ...",
            )

    def require_everywhere(self) -> None:
        """Refuse whoever reaches one organization only, for what concerns all of them.

        Raises:
            RequestRefused: with code `out_of_reach`.
        """
        if self.org is not None:
            raise RequestRefused(
                "this concerns all organizations, and the key reaches one",
                code="out_of_reach",
                remedy="Ask with a key that reaches all.",
            )

    def reach(self, org: str | None) -> str | None:
        """Return the organization a request is about: the named one, or the only one a key may reach.

        Another organization gets the same answer whether it exists or not.

        Raises:
            RequestRefused: with code `out_of_reach`.
        """
        if self.org is None or org is None:
            return org or self.org
        if org != self.org:
            raise RequestRefused(
                "this key reaches another organization only",
                code="out_of_reach",
                remedy="Leave the organization out, or ask with a key that reaches it.",
            )
        return org


COMMAND_LINE = Principal(Role.ADMIN)
"""Whoever can run a command with the database's address may do everything with it anyway."""
CONTROL = Principal(Role.ADMIN, name="control")
"""The chores of `slotwire control`, which nobody asked for at that moment."""
