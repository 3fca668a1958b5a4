"""Callers: their role, and the organization they may reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from slotwire.ingest.errors import RequestRefused


class Role(StrEnum):
    """What a key may do. Each role may also do what the one before may."""

    READER = "reader"
    """Reads events, bookings, deliveries and subscriptions, personal data included."""
    OPERATOR = "operator"
    """Also adds organizations and connections, makes and ends subscriptions, and settles quarantined deliveries."""
    ADMIN = "admin"
    """Also renames and removes organizations, makes and revokes keys, and reads the audit."""

    @property
    def rank(self) -> int:
        """Its place among the roles; a higher one may do more."""
        return list(Role).index(self)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of an operation.

    Attributes:
        role: what they may do.
        org: the only organization they may reach; None for all.
        key_id: the key of the request; None for a command, a chore or a customer's consent.
        name: the actor in the audit, for a caller without a key.
    """

    role: Role
    org: str | None = None
    key_id: UUID | None = None
    name: str = "command line"

    @property
    def actor(self) -> str:
        """The actor that the audit names."""
        return self.name if self.key_id is None else str(self.key_id)

    def require(self, role: Role) -> None:
        """Refuse a caller whose role is too low.

        Raises:
            RequestRefused: with code `role_too_low`.
        """
        if self.role.rank < role.rank:
            raise RequestRefused(
                f"this needs the role {role}, and the key has {self.role}",
                code="role_too_low",
                remedy="Use a key of that role: slotwire keys api create --role ...",
            )

    def require_everywhere(self) -> None:
        """Refuse a caller that is bound to one organization, for an operation on all of them.

        Raises:
            RequestRefused: with code `out_of_reach`.
        """
        if self.org is not None:
            raise RequestRefused(
                "this concerns all organizations, and the key reaches only one",
                code="out_of_reach",
                remedy="Use a key that reaches all organizations.",
            )

    def reach(self, org: str | None) -> str | None:
        """Return the organization of a request: the one named, or the only one the key may reach.

        For another organization the answer is the same whether it exists or not.

        Raises:
            RequestRefused: with code `out_of_reach`.
        """
        if self.org is None or org is None:
            return org or self.org
        if org != self.org:
            raise RequestRefused(
                "this key does not reach that organization",
                code="out_of_reach",
                remedy="Leave the organization out, or use a key that reaches it.",
            )
        return org


COMMAND_LINE = Principal(Role.ADMIN)
"""Commands: whoever has the database's address can do everything with it anyway."""
CONTROL = Principal(Role.ADMIN, name="control")
"""The chores of `slotwire control`, which run without a caller."""
