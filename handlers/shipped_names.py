"""The names of the agents that come with Slotwire: one per module of `slotwire.handlers.agents`, each its `agent`."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

PACKAGE = "slotwire.handlers.agents"


def shipped_agents() -> tuple[str, ...]:
    """Return the references of the agents that come with Slotwire."""
    return tuple(f"{PACKAGE}.{name}:agent" for name in _modules())


def reference_of(name: str) -> str:
    """Return the reference of a shipped agent by its bare name, for example `notify`; any other text as it is."""
    module = name.replace("-", "_")
    return f"{PACKAGE}.{module}:agent" if module in _modules() else name


def are_shipped(references: Sequence[str]) -> bool:
    """Whether all of these come with Slotwire, so that no code of anybody else's runs in their process."""
    return all(reference_of(each).startswith(f"{PACKAGE}.") for each in references)


def _modules() -> list[str]:
    from slotwire.handlers import agents

    return sorted(module.name for module in pkgutil.iter_modules(agents.__path__))
