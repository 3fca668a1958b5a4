"""The embedded stack: real servers, with the guarantees that the other tests rely on."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.kafka import answers
from slotwire.ingest.local.run import STOP_SECONDS
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.local.supervisor import STOP_SECONDS as PROCESS_STOP_SECONDS


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
    ],
)
async def test_postgres_keeps_the_promises_of_production(postgres_url: str, setting: str, value: str) -> None:
    """An acknowledged commit in a test is as durable as in production, and only loopback can connect."""
    assert await _value(postgres_url, f"SELECT current_setting('{setting}')") == value


async def test_a_wrong_password_is_refused(stack: Stack) -> None:
    """Loopback alone opens nothing: the generated password is needed."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(stack.runtime_url.replace(stack.state.secret("slotwire_app"), "guess"))


async def test_the_runtime_role_reads_the_schema_but_cannot_alter_it(database: Database) -> None:
    """The per-test database is migrated, and the two roles have the rights the design gives them."""
    assert await _value(database.runtime_url, "SELECT count(*) FROM slotwire.log") == 1
    connection = await asyncpg.connect(database.runtime_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DROP TABLE slotwire.log")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE slotwire.mine ()")
    finally:
        await connection.close()
    assert await _value(database.owner_url, "SELECT current_user") == "slotwire_owner"


async def test_each_test_has_a_database_of_its_own(database: Database, stack: Stack) -> None:
    """A test's database is not the template, and nobody else is connected to it."""
    assert await _value(database.owner_url, "SELECT current_database()") == database.name
    others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}'"
    async with asyncio.timeout(60):
        while await _value(stack.superuser_url, others) != 0:  # the one that asked its name ends a moment later
            pass


async def test_a_record_travels_through_a_transaction(kafka_bootstrap: str, topic_prefix: str) -> None:
    """The broker serves topics, transactions and consumer groups with one copy of everything."""
    topic = f"{topic_prefix}round-trip"
    await _create_topic(kafka_bootstrap, topic)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"value", key=b"key")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka_bootstrap,
        group_id=topic,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            record = await consumer.getone()
    finally:
        await consumer.stop()
    assert (record.key, record.value) == (b"key", b"value")


async def test_topics_do_not_appear_by_themselves(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Only `slotwire migrate` makes topics: asking for a missing one does not."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.describe_topics([f"{topic_prefix}missing"])
        assert f"{topic_prefix}missing" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_a_killed_postgres_comes_back_with_what_it_acknowledged(
    breakable_stack: Stack, database: Database
) -> None:
    """After `kill -9` a restart on the same port has every committed row."""
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("CREATE TABLE kept (id int)")
    await connection.execute("INSERT INTO kept SELECT generate_series(1, 100)")
    await breakable_stack.postgres.kill()
    assert not breakable_stack.postgres.running
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()
    await breakable_stack.postgres.restart()
    assert await _value(database.owner_url, "SELECT count(*) FROM kept") == 100


async def test_postgres_has_little_left_to_write_when_it_is_stopped(stack: Stack, database: Database) -> None:
    """While processes stop it writes down what it has, and the whole stop leaves both servers their time after that."""

    async def written() -> object:
        return await _value(stack.superuser_url, "SELECT redo_lsn FROM pg_control_checkpoint()")

    before = await written()
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE left_to_write AS SELECT generate_series(1, 1000)")
    await owner.close()
    await stack.postgres.checkpoint()
    assert await written() != before
    for server in (stack.postgres, stack.kafka):
        assert PROCESS_STOP_SECONDS + sum(seconds for _, seconds in server.stop_steps) <= STOP_SECONDS


async def test_a_killed_kafka_comes_back_with_its_topics(breakable_stack: Stack, topic_prefix: str) -> None:
    """After `kill -9` a restart on the same port has the topics."""
    topic = f"{topic_prefix}kept"
    await _create_topic(breakable_stack.kafka_bootstrap_servers, topic)
    await breakable_stack.kafka.kill()
    assert not await answers(breakable_stack.state.port("kafka"))
    await breakable_stack.kafka.restart()
    admin = AIOKafkaAdminClient(bootstrap_servers=breakable_stack.kafka_bootstrap_servers)
    await admin.start()
    try:
        assert topic in await admin.list_topics()
    finally:
        await admin.close()


async def test_frozen_servers_answer_nothing_until_thawed(breakable_stack: Stack, database: Database) -> None:
    """SIGSTOP reaches every backend: connections stay open and silent, and go on after SIGCONT."""
    connection = await asyncpg.connect(database.runtime_url)
    breakable_stack.postgres.freeze()
    breakable_stack.kafka.freeze()
    query = asyncio.create_task(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait({query}, timeout=0.5)
    assert not done
    assert not await answers(breakable_stack.state.port("kafka"), seconds=0.5)
    breakable_stack.postgres.thaw()
    breakable_stack.kafka.thaw()
    assert await asyncio.wait_for(query, 60) == 7
    await connection.close()
    deadline = time.monotonic() + 60
    while not await answers(breakable_stack.state.port("kafka")):
        assert time.monotonic() < deadline


async def _create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
