"""Calendly's operations as tools: `slotwire control` makes the call, as the user and with a grant for this one call."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.mcp.tools.results import ToolAnswer
from slotwire.ingest.mcp.tools.table import DEFAULT_ITEMS, Tool, filled_in, of_operations
from slotwire.ingest.mcp.tools.toolbox import Call

_ALSO_WHOSE = frozenset({"user", "organization", "group", "user_availability_schedule", "owner"})
"""Parameters that say whose things are meant: with any of them, the user is not filled in."""
_SQL = read_queries("slotwire.ingest.sql", "mcp.sql")


@dataclass(frozen=True, slots=True)
class ToolGrants:
    """Gets grants for calls: each for one tool, as one user, for two minutes."""

    pool: Pool
    clock: Clock

    async def grant(self, call: Call) -> str:
        """Get a grant for a call.

        Raises:
            RequestRefused: the agent does not have the tool or the user any more.
            DatabaseUnavailable: Postgres is away.
        """
        made = secrets.token_urlsafe(32)
        digest = hashlib.sha256(made.encode()).digest()
        chain = None if call.who.chain is None else str(call.who.chain)
        who = (call.who.agent, call.who.user, call.tool.name, chain, call.id)
        with translated():
            granted = await self.pool.fetchval(_SQL["grant_mcp_call"], digest, *who, self.clock.now())
        if not granted:
            raise RequestRefused("this agent may not do that any more", code="not_granted")
        return made


@dataclass(frozen=True, slots=True)
class CalendlyBench:
    """The tools that are operations of Calendly's."""

    control: ControlClient
    grants: ToolGrants

    @property
    def tools(self) -> Mapping[str, Tool]:
        """One for each operation but those that would act twice."""
        return of_operations()

    async def run(self, call: Call) -> ToolAnswer:
        """Make the call."""
        operation = call.tool.operation
        if operation is None:  # pragma: no cover - every tool of this bench has one
            raise AssertionError
        values, body = split(call.tool, call.arguments)
        filled = filled_in(operation)
        if "user" not in filled.values() or not _ALSO_WHOSE & values.keys():
            mine = {"user": call.who.user, "organization": call.who.organization}
            values = {**{name: [mine[what]] for name, what in filled.items()}, **values}
        grant = await self.grants.grant(call)
        answer = await self.control.call_as_agent(
            grant,
            operation.name,
            values,
            body=body,
            limit=int(call.arguments.get("limit", DEFAULT_ITEMS)) if operation.paged else None,
            page=call.arguments.get("page"),
        )
        found = answer if isinstance(answer, dict) else {}
        target = found.get("target")
        if operation.listed:
            return ToolAnswer(items=found.get("items") or [], next_page=found.get("next_page"), target=target)
        return ToolAnswer(item=found.get("item"), target=target)


def split(tool: Tool, arguments: Mapping[str, Any]) -> tuple[dict[str, Sequence[str]], dict[str, Any] | None]:
    """Tell the values of a call from its JSON body; each goes by Calendly's name."""
    values: dict[str, Sequence[str]] = {
        tool.arguments[name]: _texts(value)
        for name, value in arguments.items()
        if name in tool.arguments and value is not None
    }
    operation = tool.operation
    if operation is None or operation.body_schema is None:
        return values, None
    return values, {
        name: value for name, value in arguments.items() if name not in tool.arguments and name not in ("limit", "page")
    }


def _texts(value: object) -> list[str]:
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)]
