"""One embedded stack a run, started when the first test asks for it; a database and a topic prefix a test."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from slotwire.ingest.local.databases import Database, create_database, drop_database, migrate_template
from slotwire.ingest.local.stack import Stack, StackOptions, embedded_stack, ephemeral_folder

# A slow machine is no failure of the code, and whoever sees a failure can repeat it: the line to do so is printed.
settings.register_profile("slotwire", settings.default, deadline=None, print_blob=True)
settings.load_profile("slotwire")

# More room and fewer checkpoints than at home; what is acknowledged is as durable as ever.
_TUNING = StackOptions(
    ephemeral=True, postgres={"max_connections": "300", "checkpoint_timeout": "30min", "max_wal_size": "4GB"}
)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Real Postgres and real Kafka for the whole run, in a folder that is removed at its end.

    Its handles belong to no event loop, so a test may kill and restart the servers; use `breakable_stack` then.
    """
    with ephemeral_folder() as folder, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        context = embedded_stack(folder, report=_report, options=_TUNING)
        running = runner.run(context.__aenter__())
        try:
            runner.run(migrate_template(running.postgres))
            yield running
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def breakable_stack(stack: Stack) -> Iterator[Stack]:
    """The stack for a test that kills or freezes its servers: what is down afterwards is started again."""
    yield stack
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        for server in (stack.postgres, stack.kafka):
            server.thaw()
            if not server.running:
                runner.run(server.restart())


@pytest.fixture(scope="session")
def postgres_url(stack: Stack) -> str:
    """The maintenance database of the run's server, as its superuser."""
    return stack.superuser_url


@pytest.fixture(scope="session")
def kafka_bootstrap(stack: Stack) -> str:
    """The run's broker, `host:port`."""
    return stack.kafka_bootstrap_servers


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """A migrated database of the test's own, with addresses for the owner and the runtime role."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        made = runner.run(create_database(stack.postgres))
    yield made
    if stack.postgres.running:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(drop_database(stack.postgres, made))


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for the test's topics, so that no two tests share one."""
    return f"t{secrets.token_hex(4)}."


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
