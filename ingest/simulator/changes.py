"""What happened to a founded world since: who moved, who is what, and what an organization pays for.

The world follows from the seed; the few changes are kept in the state file and played again after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from slotwire.ingest.simulator.database import Database
from slotwire.ingest.simulator.model import Role
from slotwire.ingest.simulator.problems import not_found
from slotwire.ingest.simulator.world import World


@dataclass(frozen=True, slots=True)
class UserNow:
    """Where a user belongs now, and as what."""

    organization: str
    role: Role


@dataclass(frozen=True, slots=True)
class PlanNow:
    """What an organization pays for now."""

    plan: str
    webhooks: bool


@dataclass(slots=True)
class _Kept:
    users: dict[str, UserNow] = field(default_factory=dict)
    organizations: dict[str, PlanNow] = field(default_factory=dict)


_KEPT = TypeAdapter(_Kept)


class Changes:
    """Changes the world, and remembers it. The caller commits."""

    def __init__(self, database: Database, world: World) -> None:
        self._database = database
        self._world = world
        self._kept = _KEPT.validate_json(database.meta("changes") or b"{}")
        for ident, user in self._kept.users.items():
            world.users[ident] = replace(world.users[ident], organization=user.organization, role=user.role)
        for ident, plan in self._kept.organizations.items():
            world.organizations[ident] = replace(world.organizations[ident], plan=plan.plan, webhooks=plan.webhooks)

    def user(self, ident: str, organization: str | None, role: Role | None) -> None:
        """Move a user to another organization, or give them another role; None leaves it as it is.

        Raises:
            Refused: 404, unknown user or organization.
        """
        found = self._world.users.get(ident)
        if found is None or (organization and organization not in self._world.organizations):
            raise not_found()
        now = UserNow(organization or found.organization, role or found.role)
        self._world.users[ident] = replace(found, organization=now.organization, role=now.role)
        self._kept.users[ident] = now
        self._keep()

    def organization(self, ident: str, plan: str | None, webhooks: bool | None) -> None:
        """Change what an organization pays for; None leaves it as it is.

        Raises:
            Refused: 404, unknown.
        """
        found = self._world.organizations.get(ident)
        if found is None:
            raise not_found()
        now = PlanNow(plan or found.plan, found.webhooks if webhooks is None else webhooks)
        self._world.organizations[ident] = replace(found, plan=now.plan, webhooks=now.webhooks)
        self._kept.organizations[ident] = now
        self._keep()

    def _keep(self) -> None:
        self._database.set_meta("changes", _KEPT.dump_json(self._kept).decode())
