"""The runtime for agents. An agent is a named group of handlers with a consumer group of its own.

Authors import from here, from `testing`, from `policy`, and the event classes from `slotwire.schemas.events`.

consume       the consumer group
dispatch      from a record to its result
long_work     runs with a journal
settle        what is done, and what was given up
results       what became of a record
schedules     `@agent.at`, `@agent.every`, `@agent.cron`: scheduled work
due_times     when it is due
schedule      what fires by the clock
firings       what its function is given, and the records that travel for it
registry      Agent: which handler takes which event
loading       imports the modules of agents
shipped       what the agents that come with Slotwire stand on
shipped_names  their names
signatures    whether a handler takes the events it is registered for
context       the second argument of a handler
batching      many small calls as few large ones
database      the type of the connection that `ctx.transaction()` yields
outcome       what a handler returns: Done, Retry, Reject
policy        when to try again, when to give up, when to stop
patience      waits for a server that is away, and for the next attempt
problems      why an agent does not work, for readiness and the log
records       a record, independent of the Kafka client
process       the composition root of `slotwire agents run`
reach         what a handler reaches
hooks         what an agent opens at its start and closes at its stop
places        the author's own line of an error
unawaited     what a handler has not awaited
threads       the threads that a run has begun
ending        ends the process in time, whatever its handlers do
author        the author's loop
cli           `slotwire agents`, with the author's loop in author_cli
testing       the same dispatch in memory, for an agent's own tests
agents        these agents, a module each
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slotwire.handlers.context import Context
    from slotwire.handlers.database import DatabaseConnection, DatabaseRow
    from slotwire.handlers.firings import Firing, Moment
    from slotwire.handlers.long_work.approvals import Decision
    from slotwire.handlers.long_work.endings import StepOutcomeUnknown
    from slotwire.handlers.long_work.versions import JournalMigration
    from slotwire.handlers.outcome import Done, Reject, Retry
    from slotwire.handlers.reach.chains import BookingChain, BookingSnapshot
    from slotwire.handlers.reach.mcp_tokens import RunToken
    from slotwire.handlers.registry import Agent
    from slotwire.schemas.envelope import Event

if __name__ != "slotwire.handlers":
    # From the repository's root `import handlers` would find this folder and load everything a second time.
    raise ImportError(f"this package is slotwire.handlers, not {__name__}: import it under that name")

__all__ = [
    "Agent",
    "BookingChain",
    "BookingSnapshot",
    "Context",
    "DatabaseConnection",
    "DatabaseRow",
    "Decision",
    "Done",
    "Event",
    "Firing",
    "JournalMigration",
    "Moment",
    "Reject",
    "Retry",
    "RunToken",
    "StepOutcomeUnknown",
]

_HOMES = {
    "Agent": "slotwire.handlers.registry",
    "BookingChain": "slotwire.handlers.reach.chains",
    "BookingSnapshot": "slotwire.handlers.reach.chains",
    "Context": "slotwire.handlers.context",
    "DatabaseConnection": "slotwire.handlers.database",
    "DatabaseRow": "slotwire.handlers.database",
    "Decision": "slotwire.handlers.long_work.approvals",
    "Done": "slotwire.handlers.outcome",
    "Event": "slotwire.schemas.envelope",
    "Firing": "slotwire.handlers.firings",
    "RunToken": "slotwire.handlers.reach.mcp_tokens",
    "Moment": "slotwire.handlers.firings",
    "JournalMigration": "slotwire.handlers.long_work.versions",
    "Reject": "slotwire.handlers.outcome",
    "Retry": "slotwire.handlers.outcome",
    "StepOutcomeUnknown": "slotwire.handlers.long_work.endings",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `slotwire --help` imports this package and needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'slotwire.handlers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
