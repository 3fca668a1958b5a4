"""The names of all tools, for whoever registers an agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from slotwire.ingest.mcp.tools.deeds import DEEDS
from slotwire.ingest.mcp.tools.happenings import HAPPENINGS
from slotwire.ingest.mcp.tools.own import OWN
from slotwire.ingest.mcp.tools.table import OPERATE, READ, SCHEDULE, Tool, of_operations

PRESETS = (READ, SCHEDULE, OPERATE)


@cache
def every_tool() -> Mapping[str, Tool]:
    """Return every tool, by name."""
    return MappingProxyType({**of_operations(), **DEEDS, **OWN, **HAPPENINGS})


def expanded(chosen: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replace presets by the tools they have.

    Args:
        chosen: names of presets and tools.

    Returns:
        The names of tools, in order; and the names that are neither.
    """
    known = every_tool()
    names: set[str] = set()
    unknown: list[str] = []
    for each in chosen:
        if each in PRESETS:
            names |= {tool.name for tool in known.values() if each in tool.presets}
        elif each in known:
            names.add(each)
        else:
            unknown.append(each)
    return tuple(sorted(names)), tuple(unknown)
