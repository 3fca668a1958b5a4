"""Fixtures for tests of whoever builds on Slotwire: a real Postgres, started once for a run.

# conftest.py
pytest_plugins = ["slotwire.ingest.local.pytest_plugin"]
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from slotwire.ingest.local.databases import Database, create_database, drop_database, migrate_template
from slotwire.ingest.local.postgres import EmbeddedPostgres
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.state import StateFolder


@pytest.fixture(scope="session")
def slotwire_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres server for the whole run, in a folder that is removed at its end."""
    with ephemeral_folder() as folder, StateFolder.claim(folder) as state, asyncio.Runner() as runner:
        server = EmbeddedPostgres(state, {}, sync_new=False)
        runner.run(server.start())
        try:
            runner.run(migrate_template(server))
            yield server
        finally:
            runner.run(server.discard())


@pytest.fixture
def slotwire_database(slotwire_postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A new database with this version's schema, for one test."""
    with asyncio.Runner() as runner:
        made = runner.run(create_database(slotwire_postgres))
        yield made
        runner.run(drop_database(slotwire_postgres, made))
