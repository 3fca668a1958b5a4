"""Bring Postgres and Kafka to this version: schema, roles, topics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slotwire.ingest.foundation.postgres import Connection
    from slotwire.ingest.foundation.settings import Settings

app = typer.Typer(add_completion=False)


@app.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Exits with 1 if something is missing.")
    ] = False,
    pre: Annotated[
        bool,
        typer.Option(
            "--pre",
            help="Only what must be there before processes of the new version start; a new database gets everything.",
        ),
    ] = False,
    post: Annotated[
        bool, typer.Option("--post", help="Only what waits until no process of the version before is left.")
    ] = False,
    after_restore: Annotated[
        bool,
        typer.Option(
            "--after-restore",
            help="Postgres was restored from a backup: let the relay and control go on, and say what is missing.",
        ),
    ] = False,
) -> None:
    """Bring Postgres and Kafka to this version: schema, roles, topics.

    Connects with SLOTWIRE_MIGRATE__DATABASE_URL (the owner) if it is set, else with SLOTWIRE_DATABASE_URL. Without
    SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS it migrates Postgres only.
    """
    if sum((check, pre, post, after_restore)) > 1:
        raise typer.BadParameter("give one of --check, --pre, --post and --after-restore")
    asyncio.run(_migrate(check=check, restored=after_restore, phase="pre" if pre else "post" if post else None))


async def _migrate(*, check: bool, restored: bool, phase: str | None) -> None:
    from slotwire.ingest.errors import ConfigurationError, SchemaMismatch
    from slotwire.ingest.foundation import migrations
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.postgres import ADDRESS, OWNER_ADDRESS, connect
    from slotwire.ingest.foundation.schema_locks import MigrationLimits
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.topic_admin import ensure_topics

    settings = load_settings()
    if restored and not settings.kafka.bootstrap_servers:
        raise ConfigurationError(
            "what was published is only known in Kafka", remedy="Set SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS."
        )
    owner = settings.migrate.database_url
    connection = await connect(
        (owner or settings.database_url).get_secret_value(),
        settings.migrate.limits(settings.database),
        application="migrate",
        setting=ADDRESS if owner is None else OWNER_ADDRESS,
    )
    try:
        if check:
            waiting = (await migrations.compare(connection)).missing
            if waiting:
                raise SchemaMismatch(
                    f"{len(waiting)} migration(s) are missing: {', '.join(item.name for item in waiting)}",
                    remedy=f"Run `slotwire migrate --{waiting[0].phase}`.",
                )
            typer.echo("the schema is current")
            return
        await migrations.migrate(
            connection,
            role_prefix=settings.migrate.role_prefix,
            shards=settings.migrate.shards,
            now=clock_of(settings).now(),
            phase=None if phase is None else migrations.Phase(phase),
            limits=MigrationLimits(settings.migrate.patience_seconds, settings.migrate.build_timeout_seconds),
            say=typer.echo,
        )
        waiting = (await migrations.compare(connection)).missing
        typer.echo(
            f"{waiting[0].name} waits: run `slotwire migrate --post` when no process of the version before is left"
            if waiting
            else "the schema is current"
        )
        if restored:
            await _after_restore(settings, connection)
    finally:
        await connection.close()
    if settings.kafka.bootstrap_servers:
        for line in await ensure_topics(settings.kafka):
            typer.echo(line)
        typer.echo("the topics are there")


async def _after_restore(settings: Settings, connection: Connection) -> None:
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.relay.restore import after_restore

    found = await after_restore(settings, connection, now=clock_of(settings).now())
    for shard in found.shards:
        if shard.resumes:
            typer.echo(
                f"shard {shard.shard}: Kafka has events up to position {shard.published}, the log up to {shard.end}:"
                f" the relay goes on from there, and new events have positions beyond {shard.published}"
            )
        elif shard.published is not None:
            typer.echo(f"shard {shard.shard}: the cursor stands at {shard.published}, in this log; the relay goes on")
        else:
            typer.echo(
                f"shard {shard.shard}: Kafka has no cursor of this log; if the relay holds, start it once with"
                " --cursor-from mirror (Kafka kept its events) or --cursor-from beginning (Kafka is new)"
            )
    if found.since is None:
        typer.echo("the log has no delivery")
        return
    typer.echo(
        f"the last delivery left came at {found.since:%Y-%m-%d %H:%M:%SZ}; control fetches what came later from"
        f" Calendly, for {len(found.organizations)} organizations"
    )
