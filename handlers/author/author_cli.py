"""The author's loop: `slotwire agents new`, `migrate`, `dev` and `try`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

Reference = Annotated[str, typer.Argument(metavar="PACKAGE.MODULE:AGENT", help="For example crm.agent:agent.")]
StateDir = Annotated[
    Path | None, typer.Option(help="The folder of the local stack.", show_default=False, file_okay=False)
]


def new(name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name, for example crm.")]) -> None:
    """Make the project of a new agent: a handler, a migration of a table of its own, and a test that passes."""
    from slotwire.handlers.author.new_project import make_project

    for path in make_project(name, Path.cwd()):
        typer.echo(f"made {path}")
    package = name.replace("-", "_")
    typer.echo(f"\ncd {name} && slotwire agents dev {package}.agent:agent")


def migrate(
    references: Annotated[
        list[str], typer.Argument(metavar="PACKAGE.MODULE:AGENT...", help="For example crm.agent:agent.")
    ],
) -> None:
    """Make an agent's own tables: apply the files in `migrations/`, beside its module, that were not applied.

    Connects with SLOTWIRE_MIGRATE__DATABASE_URL (the owner) if it is set, else with SLOTWIRE_DATABASE_URL. They run as
    a role of the agent's own, in a schema of its own.
    """
    from slotwire.ingest.foundation.author_environment import begin_without_secrets
    from slotwire.ingest.foundation.postgres import OWNER_ADDRESS

    begin_without_secrets(but={OWNER_ADDRESS})
    import asyncio

    from slotwire.handlers.author.tables import migrate_tables, migrations_of
    from slotwire.handlers.registry import load_agents
    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.postgres import ADDRESS, connect
    from slotwire.ingest.foundation.schema_locks import MigrationLimits
    from slotwire.ingest.foundation.settings import load_settings

    settings, agents = load_settings(), load_agents(references)
    own = settings.migrate.database_url

    async def work() -> None:
        connection = await connect(
            (own or settings.database_url).get_secret_value(),
            settings.migrate.limits(settings.database),
            application="migrate",
            setting=ADDRESS if own is None else OWNER_ADDRESS,
        )
        try:
            for agent in agents:
                if not migrations_of(agent):
                    typer.echo(f"agent {agent.name} has no tables of its own")
                    continue
                await migrate_tables(
                    connection,
                    agent,
                    role_prefix=settings.migrate.role_prefix,
                    now=SystemClock().now(),
                    limits=MigrationLimits(settings.migrate.patience_seconds, settings.migrate.build_timeout_seconds),
                    say=typer.echo,
                )
                typer.echo(f"the tables of agent {agent.name} are current")
        finally:
            await connection.close()

    asyncio.run(work())


def dev(reference: Reference, *, state_dir: StateDir = None) -> None:
    """Run an agent on the local stack, and start it again whenever a file below this folder changes.

    Its migrations are applied before. It prints one line per event: what came, what was answered, how long it took. An
    error is shown with its message and your own lines.
    """
    import asyncio

    from slotwire.handlers.author.dev import DevelopmentLoop
    from slotwire.ingest.foundation import lifecycle
    from slotwire.ingest.foundation.local_stack import running_stack

    loop = DevelopmentLoop(reference, running_stack(state_dir), Path.cwd(), typer.echo)

    async def main(stop: asyncio.Event) -> None:
        await loop.run(stop)

    lifecycle.run(main)


def try_(
    reference: Reference,
    event_id: Annotated[UUID, typer.Argument(metavar="EVENT_ID", help="Of an event in the log.")],
    *,
    state_dir: StateDir = None,
) -> None:
    """Run one past event through its handler: its statements are shown and rolled back.

    Without SLOTWIRE_DATABASE_URL it works on the local stack. What the handler does elsewhere is done: it calls the
    same services, with the same idempotency key. Shows personal data.
    """
    from slotwire.ingest.foundation.author_environment import begin_without_secrets

    begin_without_secrets()
    import asyncio

    from slotwire.handlers.author.past_events import past_event, try_event
    from slotwire.handlers.ending import EndWatch
    from slotwire.handlers.hooks import held
    from slotwire.handlers.registry import load_agent
    from slotwire.handlers.shipped.agent import ShippedAgent
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.control_client import ControlClient
    from slotwire.ingest.foundation.errors import ConfigurationError
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.postgres import connect
    from slotwire.ingest.foundation.printable import one_line

    settings = _settings(state_dir)
    configure_logging(settings.log.model_copy(update={"format": "text"}), process="agents")
    agent = load_agent(reference)
    if isinstance(agent, ShippedAgent):
        raise ConfigurationError(
            f"agent {agent.name} comes with Slotwire, and what it sends could not be rolled back",
            remedy=f"Have it say in its log what it would do: slotwire agents settings set {agent.name} dry_run=true",
        )

    async def work() -> bool:
        async with EndWatch(0).watching():
            return await tried()

    async def tried() -> bool:
        connection = await connect(settings.database_url.get_secret_value(), settings.database, application="agents")
        try:
            event = await past_event(connection, event_id)
            typer.echo(f"{event.type}  {event.origin}  {event.time:%Y-%m-%d %H:%M:%SZ}  {one_line(event.subject)}")
            async with ControlClient(settings.agents.control_url) as control, held(agent):
                return await try_event(
                    agent, event, connection, control=control, clock=clock_of(settings), say=typer.echo
                )
        finally:
            await connection.close()

    if not asyncio.run(work()):
        raise typer.Exit(1)


def _settings(state_dir: Path | None) -> Settings:
    """Return the settings of the environment, or without a database there those of agents on the local stack."""
    from slotwire.ingest.foundation.local_stack import AGENTS_FILE, running_stack
    from slotwire.ingest.foundation.settings import load_settings, settings_of

    settings = load_settings()
    if settings.database_url.get_secret_value() and state_dir is None:
        return settings
    return settings_of(running_stack(state_dir).settings(AGENTS_FILE))
