"""The runtime for agents. An agent is a named group of handlers with a consumer group of its own.

Authors import from here, from `testing`, from `policy`, and the event classes from `slotwire.schemas.events`.

consume       the member of the consumer group
careful_consumer  the client that reads records, with guards against its faults
dispatch      runs the lanes, within a limit
lanes         order per key, keys concurrently
handle        one record: decode, skip, run, try again, give up
attempt       one run of a handler
steps         one run with a journal: its steps and waits
approvals     a run that waits for somebody's decision
endings       how such a run ends before its handler does
journal       what is kept of a run; postgres_journal, trial_journal: where
runs          the runs of one agent in one process; due: which go on without an event
resume        lets runs that were set aside go on when an event of their key comes
versions      how a version takes over the runs of another
settle        which offset may be committed
results       what became of a record
watch         whether the consumer makes progress
schedules     `@agent.at`, `@agent.every`, `@agent.cron`: scheduled work
due_times     when it is due
due_firings   what is due now, and how far its schedule moves on by that
fire          puts it into the agent's queue, in one process at a time
firings       what its function is given, and the records that travel for it
schedule_store  what Postgres keeps of schedules
registry      Agent: which handler takes which event
shipped       agents that come with Slotwire: what they do is set, not written
shipped_names  their names
agent_settings  where they find what was set
signatures    whether a handler takes the events it is registered for
context       the second argument of a handler
database      the type of the connection that `ctx.transaction()` yields
outcome       what a handler returns: Done, Retry, Reject
policy        when to try again, when to give up, when to stop
patience      waits for a server that is away, and for the next attempt
inbox         which events are done, in Postgres
batching      many small calls to the inbox as few large ones
dead_letters  records that were given up, in Kafka
letters       the same in Postgres, for operators
agent_queue   records that are handled later, in Postgres
queueing      handles them in turn with the others
groups        speaks for a consumer group without joining it
placement     where a new agent begins
offsets       moves where a stopped agent continues
problems      why an agent does not work, for readiness and the log
records       a record, independent of the Kafka client
process       the composition root of `slotwire agents run`
chains        the bookings of an event's chain, and what the agent remembers of it
bookings      the bookings of an event's organization, beyond its chain
attendance    who came to a meeting, for no_show_sweeper
digest        what nightly_digest says, and how
calendly      calls to Calendly for an event, through `slotwire control`
slots         how many runs go on at once
hooks         what an agent opens at its start and closes at its stop
places        the author's own line of an error
shown_runs    a line an event, for the author's eyes
tables        an agent's own tables: schema, role, migrations
new_project   makes the project of a new agent, from project_template
dev           runs an agent on the local stack, again after each change
past_events   runs one past event, and rolls its effects back
trial_inbox   the inbox of a trial; trial_firings: its firings
cli           `slotwire agents`, with the author's loop in author_cli
testing       the same dispatch in memory, for an agent's own tests
agents        these agents, a module each
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slotwire.handlers.approvals import Decision
    from slotwire.handlers.chains import BookingChain, BookingSnapshot
    from slotwire.handlers.context import Context
    from slotwire.handlers.database import DatabaseConnection, DatabaseRow
    from slotwire.handlers.endings import StepOutcomeUnknown
    from slotwire.handlers.firings import Firing, Moment
    from slotwire.handlers.outcome import Done, Reject, Retry
    from slotwire.handlers.registry import Agent
    from slotwire.handlers.versions import JournalMigration
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
    "StepOutcomeUnknown",
]

_HOMES = {
    "Agent": "slotwire.handlers.registry",
    "BookingChain": "slotwire.handlers.chains",
    "BookingSnapshot": "slotwire.handlers.chains",
    "Context": "slotwire.handlers.context",
    "DatabaseConnection": "slotwire.handlers.database",
    "DatabaseRow": "slotwire.handlers.database",
    "Decision": "slotwire.handlers.approvals",
    "Done": "slotwire.handlers.outcome",
    "Event": "slotwire.schemas.envelope",
    "Firing": "slotwire.handlers.firings",
    "Moment": "slotwire.handlers.firings",
    "JournalMigration": "slotwire.handlers.versions",
    "Reject": "slotwire.handlers.outcome",
    "Retry": "slotwire.handlers.outcome",
    "StepOutcomeUnknown": "slotwire.handlers.endings",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `slotwire --help` imports this package and needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'slotwire.handlers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
