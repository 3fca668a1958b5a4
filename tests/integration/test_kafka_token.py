"""A broker that takes OAuth tokens: whoever speaks to it does so with what a function in the settings returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from slotwire.ingest.errors import BrokerUnavailable, ConfigurationError
from slotwire.ingest.foundation.kafka import opened_client
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.kafka_token import token_source
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.topic_admin import check_topics, ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.kafka import EmbeddedKafka
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.state import StateFolder
from slotwire.schemas.topics import TOPICS
from tests.support import unsecured_tokens
from tests.support.relay_setup import (
    DEADLINE_SECONDS,
    LoggedEvent,
    RelaySetup,
    committed_records,
    ids,
    leading_relay,
    relay_setup,
    until,
)

SUPPORT = "tests.support.unsecured_tokens"
LOGIN = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"


@dataclass(frozen=True)
class TokenBroker:
    """The broker.

    Attributes:
        address: its listener that takes tokens.
        open_address: a listener without a guard, for the test's own reader.
    """

    address: str
    open_address: str

    def settings(self, prefix: str, provider: str = "token") -> KafkaSettings:
        """Settings that name a function of `unsecured_tokens`."""
        return KafkaSettings(
            bootstrap_servers=self.address,
            topic_prefix=prefix,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            token_provider=f"{SUPPORT}:{provider}",
            partitions=2,
            replication_factor=1,
            min_insync_replicas=1,
        )


def _listeners(state: StateFolder) -> dict[str, str]:
    """A listener for tokens beside the embedded broker's own, which ends sessions with the token's life."""
    plain, guarded = (f"127.0.0.1:{state.port(name)}" for name in ("kafka", "kafka-tokens"))
    return {
        "listeners": f"PLAINTEXT://{plain},CONTROLLER://127.0.0.1:{state.port('kafka-controller')},TOKENS://{guarded}",
        "advertised.listeners": f"PLAINTEXT://{plain},TOKENS://{guarded}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TOKENS:SASL_PLAINTEXT",
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": LOGIN,
        # A session lasts no longer than its token.
        "listener.name.tokens.oauthbearer.connections.max.reauth.ms": "3600000",
    }


@pytest.fixture(scope="module")
def broker() -> Iterator[TokenBroker]:
    """The broker, for this file's tests."""
    with (
        ephemeral_folder() as folder,
        StateFolder.claim(folder) as state,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        kafka = EmbeddedKafka(state, report=lambda _: None, settings=_listeners(state))
        runner.run(kafka.start())
        try:
            yield TokenBroker(f"127.0.0.1:{state.port('kafka-tokens')}", kafka.bootstrap_servers)
        finally:
            runner.run(kafka.stop())


@pytest.fixture
async def setup(database: Database, broker: TokenBroker, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, and topics on the broker."""
    async with relay_setup(database, broker.open_address, topic_prefix) as made:
        yield made


async def test_the_relay_publishes_with_a_token(setup: RelaySetup, broker: TokenBroker) -> None:
    """Topics are made and looked over, and events published, with one token for all connections."""
    token_source.cache_clear()
    unsecured_tokens.given.clear()
    kafka = broker.settings(f"{setup.settings.kafka.topic_prefix}t.")
    assert len(await ensure_topics(kafka)) == len(TOPICS)
    assert await check_topics(kafka) == ()
    event = LoggedEvent()
    await setup.append(event)
    settings = setup.settings.model_copy(update={"kafka": kafka})
    async with leading_relay(settings) as (relay, _):
        assert await relay.step() == 1
    assert len(unsecured_tokens.given) == 1
    seen = setup.settings.kafka.model_copy(update={"topic_prefix": kafka.topic_prefix})
    assert ids(await committed_records(setup.settings.model_copy(update={"kafka": seen}), 1)) == [str(event.id)]


async def test_it_goes_on_when_tokens_expire(setup: RelaySetup, broker: TokenBroker) -> None:
    """The broker ends a session with its token: the relay takes a new one, and each event is there once, in order."""
    token_source.cache_clear()
    unsecured_tokens.given.clear()
    prefix = setup.settings.kafka.topic_prefix
    settings = setup.settings.model_copy(update={"kafka": broker.settings(prefix, "brief")})
    events: list[LoggedEvent] = []

    async def publish_until(tokens: int) -> None:
        async with leading_relay(settings) as (relay, _):
            while len(unsecured_tokens.given) < tokens:
                events.append(LoggedEvent())
                await setup.append(events[-1])
                await relay.step()

    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(unsecured_tokens.given) < 4:
            with suppress(BrokerUnavailable):  # as the process holds then, and leads again
                await publish_until(4)

    async def publish_rest() -> bool:
        with suppress(BrokerUnavailable):  # two seconds may be over before the last one is out
            async with leading_relay(settings) as (relay, _):
                await relay.step()
                return True
        return False

    await until(publish_rest)
    records = await committed_records(setup.settings, len(events))
    assert ids(records) == [str(event.id) for event in events]


async def test_a_token_that_the_broker_refuses_is_reported(broker: TokenBroker, topic_prefix: str) -> None:
    """An expired token does not get in, and neither it nor another is in the message."""
    with pytest.raises(BrokerUnavailable) as refused:
        async with opened_client(broker.settings(topic_prefix, "expired"), client="test"):
            pytest.fail("it got in")
    assert (refused.value.reason, "refuses our token" in refused.value.message) == ("authentication", True)
    assert "SLOTWIRE_KAFKA__TOKEN_PROVIDER" in refused.value.remedy
    assert "eyJ" not in str(refused.value)


async def test_a_provider_that_fails_is_named(broker: TokenBroker, topic_prefix: str) -> None:
    """The function and the class of its error are told, its message is not, and nothing was sent to the broker."""
    with pytest.raises(BrokerUnavailable, match=rf"{SUPPORT}:broken gave no token \(RuntimeError\)") as refused:
        async with opened_client(broker.settings(topic_prefix, "broken"), client="test"):
            pytest.fail("it got in")
    assert refused.value.reason == "token"
    assert "SLOTWIRE_KAFKA__TOKEN_PROVIDER" in refused.value.remedy
    assert "the-secret-of-the-client" not in f"{refused.value} {refused.value.remedy}"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests.support.nowhere:token", r"tests.support.nowhere, cannot be imported \(ModuleNotFoundError\)"),
        (f"{SUPPORT}:nothing", "has no function nothing"),
        (f"{SUPPORT}:LIFETIME", "has no function LIFETIME"),
    ],
)
def test_a_provider_that_is_not_there_is_an_error_of_the_settings(name: str, problem: str) -> None:
    """A process does not start with a name that cannot be imported or is no function."""
    settings = KafkaSettings(
        bootstrap_servers="a:1", security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", token_provider=name
    )
    with pytest.raises(ConfigurationError, match=problem):
        connection_options(settings, client="relay")
