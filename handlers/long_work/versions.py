"""How the code of one version of an agent takes over runs that began on another. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JournalMigration:
    """What became of the names in the journals of an older version.

    Attributes:
        renamed: names of the new code by the old ones.
        dropped: old names that the new code does not come to any more.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Collection[str] = ()

    def of(self, name: str) -> str | None:
        """Return the new name of an entry, or None where it is dropped."""
        return None if name in self.dropped else self.renamed.get(name, name)
