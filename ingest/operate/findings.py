"""What the doctor finds: one check, its state, and what to do. And which checks a process needs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.operate.models import Model

MAX_NAMED = 5
"""The most organizations or faults that one finding names."""
Process = Literal["serve", "relay", "control", "agents", "mcp"]
CHECKS: Mapping[Process, frozenset[str]] = MappingProxyType(
    {
        "serve": frozenset({"vault keys", "hook keys", "open files", "sealed keys"}),
        "relay": frozenset({"unwritten", "kafka", "cursor"}),
        "control": frozenset(
            {
                "vault keys",
                "hook keys",
                "public url",
                "functions",
                "roles",
                "logins",
                "unwritten",
                "ranges",
                "retention",
                "oauth app",
            }
            | {
                "oauth app",
                "sealed keys",
                "vault use",
                "server connections",
                "connections",
                "deliveries",
                "rate limits",
                "organizations",
                "holes",
                "erasures",
                "actions",
                "changes",
                "dead letters",
                "runs",
                "agent tables",
                "agent settings",
                "availability",
                "schedules",
                "mcp subscriptions",
            }
        ),
        "agents": frozenset({"kafka", "calls"}),
        "mcp": frozenset({"mcp", "mcp calls"}),
    }
)
"""What is checked for a process beside Postgres itself: only what it has settings, secrets and rights for."""


class Finding(Model):
    """The result of one check."""

    check: str
    """The name of the check."""
    state: Literal["ok", "warning", "failed"]
    """`failed` if something does not work or a promise does not hold."""
    message: str
    """What the check found."""
    remedy: str = Field("", exclude_if=lambda value: not value)
    """What to do about it."""


def ok(check: str, message: str) -> Finding:
    """Make the finding of a check that passed."""
    return Finding(check=check, state="ok", message=message)


def failed(check: str, error: SlotwireError) -> Finding:
    """Make the finding of a check that failed."""
    return Finding(check=check, state="failed", message=error.message, remedy=error.remedy)


async def asked(check: str, question: Awaitable[Finding]) -> Finding:
    """Ask, and make a finding of an error of ours."""
    try:
        return await question
    except SlotwireError as error:
        return failed(check, error)
