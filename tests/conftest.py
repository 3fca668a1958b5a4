"""One embedded stack per process, started when the first test asks for it; a database and a topic prefix per test.

`make test` runs two processes ("workers"), each with a stack of its own, so a test that kills a server disturbs no
other. Both take whole files from one list, the longest first; the tests of a file run in their order in one worker.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import secrets
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from slotwire.ingest.local.databases import Database, migrate_template
from slotwire.ingest.local.jars import read_jars
from slotwire.ingest.local.stack import Stack, StackOptions, embedded_stack, ephemeral_folder
from tests.support.database_pool import DatabasePool

# A slow machine is no failure of the code, and whoever sees a failure can repeat it: the line to do so is printed.
settings.register_profile("slotwire", settings.default, deadline=None, print_blob=True)
settings.load_profile("slotwire")

gc.set_threshold(20_000, 20, 50)
# A tool brings it. With it jsonschema compiles 38 grammars of IRIs, which takes more than a second; we have no IRI.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # because this is how an import is refused

_FIRST = ("fault", "acceptance", "integration", "contract", "migration", "bench", "property", "unit")
_FILES = pytest.StashKey[dict[str, None]]()

collect_ignore = ["support/author_project"]  # a project of its own, tested by acceptance/test_author_project.py

# More room and fewer checkpoints than at home; what is acknowledged is as durable as ever.
_TUNING = StackOptions(
    ephemeral=True,
    postgres={
        "max_connections": "300",
        "checkpoint_timeout": "30min",
        "max_wal_size": "4GB",
        "scram_iterations": "1",  # passwords of the stack are random: nobody can guess them, and logins are quick
    },
    kafka={"group.min.session.timeout.ms": "1000"},  # a test may outwait a session
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run have a broker of another version."""
    parser.addoption("--kafka-jars", type=Path, help="a list of jars, in the form of ingest/local/kafka-jars.txt")


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """Real Postgres and real Kafka for the whole run, in a folder that is removed at its end.

    Its handles belong to no event loop, so a test may kill and restart the servers; use `breakable_stack` then.
    """
    chosen = pytestconfig.getoption("--kafka-jars")
    options = replace(_TUNING, jars=None if chosen is None else read_jars(chosen.read_text()))
    with ephemeral_folder() as folder, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        context = embedded_stack(folder, report=_report, options=options)
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


@pytest.fixture(scope="session")
def database_pool(stack: Stack) -> DatabasePool:
    """The databases that tests have given back."""
    return DatabasePool(stack.postgres)


@pytest.fixture
def database(stack: Stack, database_pool: DatabasePool) -> Iterator[Database]:
    """A migrated database that is the test's own while it runs, with addresses for the owner and the runtime role."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        borrowed = runner.run(database_pool.borrow())
    yield borrowed
    if stack.postgres.running:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(database_pool.give_back(borrowed))


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for the test's topics, so that no two tests share one."""
    return f"t{secrets.token_hex(4)}."


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while modules and tests are made: they live as long as the process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with the folders whose tests take longest, so that no worker is left with a long file at the end.

    Files that kill the servers come before: a broker that was killed recovers each topic that was ever made.
    Workers must collect the same tests: an id that holds an object's address is refused here, with or without workers.
    """
    if unstable := [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid)]:
        raise pytest.UsageError(f"the id differs in each process; name it with `ids`: {unstable[0]}")
    if hasattr(config, "workerinput"):
        killing = {item.path for item in items if "breakable_stack" in getattr(item, "fixturenames", ())}
        place = {name: number for number, name in enumerate(_FIRST)}
        items.sort(key=lambda item: (item.path not in killing, place.get(item.path.parent.name, -1)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what its worker had run before, which is the line to repeat it with."""
    report = yield
    files = item.session.stash.setdefault(_FILES, {})
    files[str(item.path.relative_to(item.config.rootpath))] = None
    if report.failed:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "the only process")
        report.sections.append((f"files run so far by {worker}, in order", f"pytest {' '.join(files)}"))
    return report
