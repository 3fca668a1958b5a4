"""Changes of members, plans and event types since the seed's world: moves, roles and what an organization pays for.

The world follows from the seed alone. The state file stores the few changes, and a restart applies them again.
A user can move to another organization at Calendly too: docs/reference/calendly.md, "Credentials".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.model import Role, SimulatedEventType
from slotwire.ingest.simulator.problems import not_found
from slotwire.ingest.simulator.world import World


@dataclass(frozen=True, slots=True)
class MembershipOverride:
    """The organization and role of a user after a change."""

    organization: str
    role: Role


@dataclass(frozen=True, slots=True)
class PlanOverride:
    """The plan of an organization after a change."""

    plan: str
    webhooks: bool


@dataclass(slots=True)
class _Overrides:
    users: dict[str, MembershipOverride] = field(default_factory=dict)
    organizations: dict[str, PlanOverride] = field(default_factory=dict)
    event_types: dict[str, SimulatedEventType] = field(default_factory=dict)


_OVERRIDES = TypeAdapter(_Overrides)


class Changes:
    """Changes the world and writes the changes to the state file. The caller commits."""

    def __init__(self, database: SimulatorDatabase, world: World) -> None:
        self._database = database
        self._world = world
        self._overrides = _OVERRIDES.validate_json(database.meta("changes") or b"{}")
        for ident, user in self._overrides.users.items():
            world.users[ident] = replace(world.users[ident], organization=user.organization, role=user.role)
        for ident, plan in self._overrides.organizations.items():
            world.organizations[ident] = replace(world.organizations[ident], plan=plan.plan, webhooks=plan.webhooks)
        world.event_types.update(self._overrides.event_types)

    def event_type(self, value: SimulatedEventType) -> None:
        """Make an event type, or change one."""
        self._world.event_types[value.id] = self._overrides.event_types[value.id] = value
        self._save()

    def user(self, ident: str, organization: str | None, role: Role | None) -> None:
        """Move a user to another organization, or give them another role; None leaves it as it is.

        Raises:
            SimulatedRefusal: 404, unknown user or organization.
        """
        found = self._world.users.get(ident)
        if found is None or (organization and organization not in self._world.organizations):
            raise not_found()
        override = MembershipOverride(organization or found.organization, role or found.role)
        self._world.users[ident] = replace(found, organization=override.organization, role=override.role)
        self._overrides.users[ident] = override
        self._save()

    def organization(self, ident: str, plan: str | None, webhooks: bool | None) -> None:
        """Change an organization's plan; None leaves it as it is.

        Raises:
            SimulatedRefusal: 404, unknown.
        """
        found = self._world.organizations.get(ident)
        if found is None:
            raise not_found()
        override = PlanOverride(plan or found.plan, found.webhooks if webhooks is None else webhooks)
        self._world.organizations[ident] = replace(found, plan=override.plan, webhooks=override.webhooks)
        self._overrides.organizations[ident] = override
        self._save()

    def _save(self) -> None:
        self._database.set_meta("changes", _OVERRIDES.dump_json(self._overrides).decode())
