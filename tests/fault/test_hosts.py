"""Several hosts in the address of Postgres: the first that takes writes wins, whatever the others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import permutations

import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import Session, connect, create_pool
from slotwire.ingest.foundation.postgres_readiness import postgres_problem
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support import wrong_hosts
from tests.support.children import environment, process
from tests.support.public_endpoint import PATIENT_SECONDS, invitee_body, make_hook, running_endpoint, settings_for
from tests.support.wrong_hosts import WrongHost

Make = Callable[[], AbstractAsyncContextManager[WrongHost]]

WRONG: tuple[Make, ...] = (
    wrong_hosts.hanging,
    wrong_hosts.unreachable,
    wrong_hosts.refusing,
    wrong_hosts.read_only,
    wrong_hosts.without_database,
    wrong_hosts.starting,
)
PATIENT = DatabaseSettings(connect_timeout_seconds=300)
"""A host that hangs would hang for as long: who connects at all, did not wait for it."""
SECONDS = 60


def with_hosts(database: Database, *places: str) -> str:
    """Write an address that names the hosts in this order; `*` stands for the right one."""
    head, _, rest = database.runtime_url.partition("@")
    right, _, name = rest.partition("/")
    return f"{head}@{','.join(right if place == '*' else place for place in places)}/{name}"


async def opened(url: str, settings: DatabaseSettings = PATIENT) -> Session:
    """Connect, within a tenth of the time that one hanging host would take."""
    async with asyncio.timeout(SECONDS):
        return await connect(url, settings, application="test")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda make: make.__name__)
async def test_the_right_host_is_found_beside_any_wrong_one(wrong: Make, database: Database) -> None:
    """Before or after the right host, a wrong one costs neither the connection nor its time to connect."""
    async with wrong() as host:
        for places in ((host.place, "*"), ("*", host.place), (host.place, host.place, "*")):
            session = await opened(with_hosts(database, *places))
            assert str(session.host) in database.runtime_url
            assert await session.fetchval("SELECT 1") == 1
            await session.close()


async def test_the_right_host_is_found_among_all_others_in_every_order(database: Database) -> None:
    """Of four hosts, of which one hangs, one refuses and one is read-only, the right one is found in all 24 orders."""
    async with (
        wrong_hosts.hanging() as hangs,
        wrong_hosts.refusing() as refuses,
        wrong_hosts.read_only() as standby,
    ):
        orders = list(permutations((hangs.place, refuses.place, standby.place, "*")))
        sessions = await asyncio.gather(*(opened(with_hosts(database, *order)) for order in orders))
    assert {str(session.host) in database.runtime_url for session in sessions} == {True}
    assert len(sessions) == 24
    for session in sessions:
        session.terminate()


async def test_the_losers_are_closed(database: Database) -> None:
    """A host that hangs, and a standby that had let us in, are left as soon as another has won."""
    async with wrong_hosts.hanging() as hangs, wrong_hosts.read_only() as standby:
        session = await opened(with_hosts(database, standby.place, hangs.place, "*"))
        async with asyncio.timeout(SECONDS):
            await hangs.left.wait()
            await standby.left.wait()
        assert await session.fetchval("SELECT 1") == 1
        session.terminate()


async def test_whoever_gives_up_leaves_no_attempt_behind(database: Database) -> None:
    """A caller that is cancelled while every host hangs closes what was begun."""
    async with wrong_hosts.hanging() as first, wrong_hosts.hanging() as second:
        connecting = asyncio.ensure_future(opened(with_hosts(database, first.place, second.place)))
        async with asyncio.timeout(SECONDS):
            await first.came.wait()
            await second.came.wait()
        assert not connecting.done()
        connecting.cancel()
        async with asyncio.timeout(SECONDS):
            await first.left.wait()
            await second.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_without_a_right_host_each_is_told() -> None:
    """When none takes writes, the error says of each host why, and its reason is the one that a person can mend."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(wrong()) for wrong in WRONG]
        url = f"postgresql://user:secret@{','.join(host.place for host in hosts)}/slotwire"
        with pytest.raises(DatabaseUnavailable) as caught:
            await opened(url, DatabaseSettings(connect_timeout_seconds=3))
    error = caught.value
    for host, words in zip(hosts, ("in time", "in time", "nothing listens", "read-only"), strict=False):
        assert f"at {host.place}" in error.message
        assert words in error.message
    assert "no such database" in error.message
    assert "starting up" in error.message
    assert error.reason == "3D000"
    assert "secret" not in error.message + error.remedy


@pytest.mark.parametrize("wrong", [wrong_hosts.hanging, wrong_hosts.unreachable], ids=lambda make: make.__name__)
async def test_serve_answers_while_its_first_host_hangs(wrong: Make, database: Database) -> None:
    """With a dead node first in its address, `serve` is ready, and acknowledges each of 20 deliveries."""
    async with wrong() as host:
        settings = settings_for(database, answer_deadline_seconds=PATIENT_SECONDS)
        settings = settings.model_copy(
            update={"database_url": SecretStr(with_hosts(database, host.place, "*")), "database": PATIENT}
        )
        hook = await make_hook(settings, database)
        async with running_endpoint(settings) as endpoint, asyncio.timeout(SECONDS):
            answers = [(await endpoint.deliver(hook, invitee_body())).status_code for _ in range(20)]
            assert await endpoint.health.problems() == {}
    assert answers == [200] * 20


@pytest.fixture
async def hung(database: Database) -> AsyncIterator[str]:
    """An address whose first host hangs."""
    async with wrong_hosts.hanging() as host:
        yield with_hosts(database, host.place, "*")


async def test_every_process_is_ready_while_its_first_host_hangs(
    hung: str, database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """`relay` and `control`, too, are ready with a dead node first in their address."""
    settings = settings_for(database).model_copy(update={"database_url": SecretStr(hung)})
    kafka = {"SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap, "SLOTWIRE_KAFKA__TOPIC_PREFIX": topic_prefix}
    env = environment(settings, SLOTWIRE_CALENDLY__API_URL="http://127.0.0.1:9", **kafka)
    env["SLOTWIRE_ADMIN__PORT"] = "0"
    async with process("control", env=env) as control, process("relay", env=env) as relay:
        await control.until_ready()
        await relay.until_problem("topic")  # it has read the log, and misses its topics
        assert control.child.returncode is None


async def test_a_pool_is_ready_while_its_first_host_hangs(hung: str) -> None:
    """A pool's connections, too, find the right host, in the time that readiness allows."""
    async with create_pool(hung, PATIENT, application="test") as pool:
        assert await postgres_problem(pool) is None
