"""Uses of credentials kept in memory, for tests without a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from slotwire.ingest.control.calendly_client.uses import TurnLease, Use, UseEnd


@dataclass
class RememberedUses:
    """Keeps each use with its end."""

    begun: dict[UUID, Use] = field(default_factory=dict)
    ended: list[tuple[Use, UseEnd]] = field(default_factory=list)

    async def begin(self, use: Use) -> UUID:
        """Keep a beginning."""
        made = uuid4()
        self.begun[made] = use
        return made

    def note(self, use: Use, end: UseEnd, *, begun: UUID | None, lease: TurnLease | None) -> None:
        """Keep an end."""
        del begun, lease
        self.ended.append((use, end))

    def drop(self, lease: TurnLease, *, taken: bool) -> None:
        """Forget a turn."""

    def watch(self, drop_late: Callable[[], bool]) -> None:
        """Have nothing to drop."""

    async def aclose(self) -> None:
        """Have nothing to write."""
