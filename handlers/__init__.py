"""The runtime for agents: named groups of handlers, each with a consumer group of its own.

outcome       what a handler answers: Done, Retry, Reject
registry      Agent: which handler takes which event
signatures    what a handler's signature must be
context       what a handler gets beside the event
database      the type of the connection that `ctx.transaction()` yields
policy        how often and how long to try again; when to stop giving events up
lanes         pure: order per key, keys side by side
settle        pure: what may be committed, in the order delivered
handle        one record, from its bytes to its outcome
dispatch      runs lanes, bounded
inbox         Postgres: an effect happens once
dead_letters  Kafka: what was given up on
consume       the member of the consumer group
process       the composition root
testing       the same dispatch in memory, for an agent's own tests
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slotwire.handlers.context import Context
    from slotwire.handlers.database import DatabaseConnection, DatabaseRow
    from slotwire.handlers.outcome import Done, Reject, Retry
    from slotwire.handlers.registry import Agent
    from slotwire.schemas.envelope import Event

if __name__ != "slotwire.handlers":
    # From the repository's root `import handlers` would find this folder and load everything a second time.
    raise ImportError(f"this package is slotwire.handlers, not {__name__}: import it under that name")

__all__ = ["Agent", "Context", "DatabaseConnection", "DatabaseRow", "Done", "Event", "Reject", "Retry"]

_HOMES = {
    "Agent": "slotwire.handlers.registry",
    "Context": "slotwire.handlers.context",
    "DatabaseConnection": "slotwire.handlers.database",
    "DatabaseRow": "slotwire.handlers.database",
    "Done": "slotwire.handlers.outcome",
    "Event": "slotwire.schemas.envelope",
    "Reject": "slotwire.handlers.outcome",
    "Retry": "slotwire.handlers.outcome",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `slotwire --help` passes here and needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'slotwire.handlers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
