"""Bring Postgres and Kafka to this version: schema, roles, topics."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Exits with 1 if something is missing.")
    ] = False,
) -> None:
    """Bring Postgres and Kafka to this version: schema, roles, topics.

    Connects with SLOTWIRE_MIGRATE__DATABASE_URL (the owner) if it is set, else with SLOTWIRE_DATABASE_URL. Without
    SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS it migrates Postgres only.
    """
    asyncio.run(_migrate(check=check))


async def _migrate(*, check: bool) -> None:
    from slotwire.ingest.errors import SchemaMismatch
    from slotwire.ingest.foundation import migrations
    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.postgres import ADDRESS, OWNER_ADDRESS, connect
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.topic_admin import ensure_topics

    settings = load_settings()
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
                    remedy="Run `slotwire migrate`.",
                )
            typer.echo("the schema is current")
            return
        applied = await migrations.migrate(
            connection,
            role_prefix=settings.migrate.role_prefix,
            shards=settings.migrate.shards,
            now=SystemClock().now(),
        )
    finally:
        await connection.close()
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo("the schema is current")
    if settings.kafka.bootstrap_servers:
        for line in await ensure_topics(settings.kafka):
            typer.echo(line)
        typer.echo("the topics are there")
