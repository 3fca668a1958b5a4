"""A broker that asks for TLS and a password, and forbids topics: a broker of this file's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from slotwire.ingest.errors import BrokerUnavailable, TopicUnavailable
from slotwire.ingest.foundation.kafka import describe_topics, full_name, opened_client
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.topic_admin import check_topics, ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.kafka import EmbeddedKafka
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.state import StateFolder
from slotwire.schemas.topics import INVITEE, ROUTING_FORM, TOPICS, Topic
from tests.support.certificates import Authority, Certificate
from tests.support.relay_setup import (
    LoggedEvent,
    RelaySetup,
    committed_records,
    ids,
    leading_relay,
    relay_setup,
    routing_form,
    running_relay,
    until,
)

USER = "slotwire"
PASSWORD = "not-a-real-password"


@dataclass(frozen=True)
class Guarded:
    """The broker.

    Attributes:
        address: its guarded listener.
        open_address: a listener without a guard, for the test's own reader.
        cafile: the authority that signed its certificate.
        admin: somebody who may change what is allowed.
    """

    address: str
    open_address: str
    cafile: Path
    admin: AdminClient

    def settings(self, prefix: str, **changes: object) -> KafkaSettings:
        """Settings that get through."""
        settings = KafkaSettings(
            bootstrap_servers=self.address,
            topic_prefix=prefix,
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username=USER,
            sasl_password=SecretStr(PASSWORD),
            ssl_cafile=str(self.cafile),
            partitions=2,
            replication_factor=1,
            min_insync_replicas=1,
        )
        return settings.model_copy(update=changes)

    async def forbid(self, topic: str, operation: AclOperation) -> None:
        """Deny our user an operation on a topic, and wait until the broker applies it.

        The controller's answer comes first; until the broker has read the rule, it still lets a record through.
        """
        for future in self.admin.create_acls([_rule(topic, operation)]).values():
            future.result(60)

        async def applied() -> bool:
            return bool(await asyncio.to_thread(self.admin.describe_acls(_rules_of(topic)).result, 60))

        await until(applied)

    def allow(self, topic: str) -> None:
        """Take back what was denied on a topic."""
        for future in self.admin.delete_acls([_rules_of(topic)]).values():
            future.result(60)


def _rule(topic: str, operation: AclOperation) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        operation,
        AclPermissionType.DENY,
    )


def _rules_of(topic: str) -> AclBindingFilter:
    anybody: Any = None  # what its types do not say
    return AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        anybody,
        anybody,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _listeners(state: StateFolder, issued: Certificate) -> dict[str, str]:
    """A guarded listener beside the embedded broker's own, and an authorizer that heeds what is denied."""
    plain, guarded = (f"127.0.0.1:{state.port(name)}" for name in ("kafka", "kafka-guarded"))
    return {
        "listeners": f"PLAINTEXT://{plain},CONTROLLER://127.0.0.1:{state.port('kafka-controller')},GUARDED://{guarded}",
        "advertised.listeners": f"PLAINTEXT://{plain},GUARDED://{guarded}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
        "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
        "listener.name.guarded.ssl.keystore.type": "PEM",
        "listener.name.guarded.ssl.keystore.certificate.chain": issued.certificate.replace("\n", "\\n"),
        "listener.name.guarded.ssl.keystore.key": issued.key.replace("\n", "\\n"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The broker, for this file's tests."""
    authority = Authority()
    broker_certificate = authority.issue("broker.example.com", address="127.0.0.1")
    cafile = tmp_path_factory.mktemp("guarded") / "ca.pem"
    cafile.write_text(authority.pem)
    with (
        ephemeral_folder() as folder,
        StateFolder.claim(folder) as state,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        broker = EmbeddedKafka(state, report=lambda _: None, settings=_listeners(state, broker_certificate))
        runner.run(broker.start())
        try:
            # It outlives the broker and would say so on the terminal, after the summary: level 2 is critical.
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
            yield Guarded(f"127.0.0.1:{state.port('kafka-guarded')}", broker.bootstrap_servers, cafile, admin)
        finally:
            runner.run(broker.stop())


@pytest.fixture
async def setup(database: Database, guarded: Guarded, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, and topics on the guarded broker."""
    async with relay_setup(database, guarded.open_address, topic_prefix) as made:
        yield made


async def test_the_relay_publishes_through_tls_with_a_password(setup: RelaySetup, guarded: Guarded) -> None:
    """Topics are made and looked over, and events published, with a checked certificate and a login."""
    kafka = guarded.settings(f"{setup.settings.kafka.topic_prefix}tls.")
    assert len(await ensure_topics(kafka)) == len(TOPICS)
    assert await check_topics(kafka) == ()
    event = LoggedEvent()
    await setup.append(event)
    async with leading_relay(setup.settings.model_copy(update={"kafka": kafka})) as (relay, _):
        assert await relay.step() == 1
    seen = setup.settings.kafka.model_copy(update={"topic_prefix": kafka.topic_prefix})
    assert ids(await committed_records(setup.settings.model_copy(update={"kafka": seen}), 1)) == [str(event.id)]


async def test_a_wrong_password_is_reported_without_showing_it(guarded: Guarded, topic_prefix: str) -> None:
    """The message names the settings, and neither the right nor the wrong password."""
    wrong = guarded.settings(topic_prefix, sasl_password=SecretStr("another-password"))
    with pytest.raises(BrokerUnavailable) as refused:
        await check_topics(wrong)
    told = f"{refused.value.message} {refused.value.remedy}"
    assert "SLOTWIRE_KAFKA__S" in told
    right = guarded.settings(topic_prefix).sasl_password
    assert right is not None
    for secret in ("another-password", right.get_secret_value()):
        assert secret not in told


async def test_an_untrusted_certificate_is_refused(guarded: Guarded, topic_prefix: str) -> None:
    """A broker whose certificate no known authority signed is told by that, and the setting is named."""
    with pytest.raises(BrokerUnavailable, match="authority that is not trusted here") as refused:
        await check_topics(guarded.settings(topic_prefix, ssl_cafile=None))
    assert "SLOTWIRE_KAFKA__SSL_CAFILE" in refused.value.remedy


@pytest.mark.parametrize("operation", [AclOperation.DESCRIBE, AclOperation.WRITE])
@pytest.mark.parametrize("topic", [INVITEE, ROUTING_FORM])
async def test_a_forbidden_topic_holds_and_flows_on(
    setup: RelaySetup, guarded: Guarded, topic: Topic, operation: AclOperation
) -> None:
    """Not to be seen, or not to be written: nothing is parked, the topic is named, and later all is in order."""
    kafka = guarded.settings(setup.settings.kafka.topic_prefix, partitions=3)
    forbidden = full_name(kafka, topic)
    await guarded.forbid(forbidden, operation)
    events = [LoggedEvent(), routing_form(), LoggedEvent()]
    await setup.append(*events)
    async with running_relay(setup.settings.model_copy(update={"kafka": kafka})) as health:

        async def held() -> bool:
            problem = (await health.problems()).get("relay", "")
            return "forbidden" in problem and forbidden in problem and "slotwire migrate" in problem

        await until(held)
        assert await setup.writer.fetchval("SELECT count(*) FROM slotwire.parked_events") == 0
        guarded.allow(forbidden)
        records = await committed_records(setup.settings, 3)
    assert ids(records) == [str(event.id) for event in events]


async def test_a_forbidden_topic_is_found(setup: RelaySetup, guarded: Guarded) -> None:
    """Doctor tells forbidden from missing, and migrate says who can help."""
    kafka = guarded.settings(setup.settings.kafka.topic_prefix, partitions=3)
    forbidden = full_name(kafka, INVITEE)
    await guarded.forbid(forbidden, AclOperation.DESCRIBE)

    async def heeded() -> bool:
        async with opened_client(kafka, client="test") as client:
            (found,) = await describe_topics(client, [forbidden])
        return found.state == "forbidden"

    await until(heeded)
    assert [(finding.topic, finding.problem) for finding in await check_topics(kafka)] == [(forbidden, "forbidden")]
    with pytest.raises(TopicUnavailable, match="forbidden to this client"):
        await ensure_topics(kafka)
