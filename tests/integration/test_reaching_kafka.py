"""What stands between us and a Kafka with TLS, SCRAM and ACLs is told apart, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slotwire.ingest.errors import BrokerUnavailable
from slotwire.ingest.foundation import kafka, kafka_diagnosis
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.kafka import opened_client
from slotwire.ingest.foundation.kafka_diagnosis import why_unreachable
from slotwire.ingest.foundation.settings import KafkaSettings, Settings
from slotwire.ingest.operate.doctor import examine
from tests.support.secured_servers import PASSWORD, USER, SecuredKafka, secured_kafka
from tests.support.wrong_hosts import forget_names, hanging, refusing


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    """A broker with a port for each protocol."""
    with secured_kafka() as running:
        yield running


def settings_of(secured: SecuredKafka, **wrong: Any) -> KafkaSettings:
    """Make settings that are right, but for what is wrong; `port` names the protocol of the port."""
    port = secured.ports[wrong.pop("port", "SASL_SSL")]
    right = {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_cafile": str(secured.authority),
    }
    return KafkaSettings.model_validate({**right, **wrong})


async def test_a_client_with_the_right_settings_is_let_in(secured: SecuredKafka) -> None:
    """With authority, mechanism, user and password the broker answers."""
    async with opened_client(settings_of(secured), client="test") as client:
        assert client.cluster.brokers()


@pytest.mark.parametrize(
    ("wrong", "reason", "message", "remedy"),
    [
        ({"sasl_password": "wrong"}, "authentication", "refuses the user or the password", "SASL_PASSWORD"),
        ({"sasl_username": "nobody"}, "authentication", "refuses the user or the password", "SASL_USERNAME"),
        ({"sasl_mechanism": "PLAIN"}, "authentication", "does not offer the mechanism PLAIN", "SASL_MECHANISM"),
        ({"ssl_cafile": None}, "tls", "an authority that is not trusted here", "SLOTWIRE_KAFKA__SSL_CAFILE"),
        ({"ssl_cafile": "stranger"}, "tls", "an authority that is not trusted here", "SLOTWIRE_KAFKA__SSL_CAFILE"),
        ({"host": "localhost"}, "tls", "certificate is for another host name", "BOOTSTRAP_SERVERS"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "tls", "speaks TLS at this port, and we do not", "=SASL_SSL"),
        ({"security_protocol": "PLAINTEXT"}, "tls", "speaks TLS at this port, and we do not", "=SSL"),
        ({"port": "PLAINTEXT"}, "tls", "does not speak TLS at this port", "=SASL_PLAINTEXT"),
        ({"security_protocol": "SSL"}, "protocol", "asks who we are, and we do not say it", "=SASL_SSL"),
        ({"port": "SSL"}, "protocol", "does not ask who we are at this port", "=SSL"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
async def test_what_is_wrong_is_told_apart(
    wrong: dict[str, str | None], reason: str, message: str, remedy: str, secured: SecuredKafka
) -> None:
    """Each has a sentence of its own, a remedy that names the setting, and a reason; `doctor` says the same."""
    if wrong.get("ssl_cafile") == "stranger":
        wrong = {**wrong, "ssl_cafile": str(secured.stranger)}
    settings = settings_of(secured, **{name: value for name, value in wrong.items() if name != "host"})
    if "host" in wrong:
        servers = settings.bootstrap_servers.replace("127.0.0.1", "localhost")
        settings = settings.model_copy(update={"bootstrap_servers": servers})
    with pytest.raises(BrokerUnavailable, match=message) as caught:
        async with opened_client(settings, client="test"):
            pass
    assert caught.value.reason == reason
    assert remedy in caught.value.remedy
    assert PASSWORD not in caught.value.message + caught.value.remedy
    found = {each.check: each async for each in examine(Settings(kafka=settings), SystemClock(), process="agents")}
    assert (found["kafka"].state, found["kafka"].message) == ("failed", caught.value.message)


@pytest.mark.parametrize("wrong", [{}, {"sasl_password": "wrong"}, {"sasl_mechanism": "SCRAM-SHA-256"}], ids=str)
async def test_what_was_tried_is_closed_when_it_is_told(secured: SecuredKafka, wrong: dict[str, str]) -> None:
    """Whether the broker lets us in or not: no connection is left to close when the answer is there."""
    before = _open_files()
    assert (await why_unreachable(settings_of(secured, **wrong)) is None) == (not wrong)
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_a_broker_that_is_down_or_hangs_is_told(secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens, nothing answers, or nobody knows the name: three sentences, and each names the broker."""
    forget_names(monkeypatch)
    monkeypatch.setattr(kafka, "REQUEST_TIMEOUT_SECONDS", 1.0)  # its sentence is in question, and not its patience
    monkeypatch.setattr(kafka_diagnosis, "PROBE_SECONDS", 0.5)
    async with refusing() as down, hanging() as hangs:
        for place, words in (
            (down.place, "is out of reach: nothing listens there"),
            (hangs.place, "did not answer in time, or hung up"),
            ("kafka.invalid:9093", "cannot be found by its name"),
        ):
            settings = settings_of(secured, bootstrap_servers=place)
            with pytest.raises(BrokerUnavailable, match=f"Kafka at {place} {words}"):
                async with opened_client(settings, client="test"):
                    pass


async def test_missing_rights_are_told(secured: SecuredKafka) -> None:
    """A user whom the broker knows and who may do nothing: the broker is reached, and each topic is forbidden."""
    settings = Settings(kafka=settings_of(secured, replication_factor=1, min_insync_replicas=1))
    found = [each async for each in examine(settings, SystemClock(), process="agents")]
    assert [each.state for each in found if each.check == "kafka"] == ["ok"]
    forbidden = [each for each in found if each.check.startswith("topic ")]
    assert forbidden
    assert {each.message for each in forbidden} == {"this client may not use the topic"}
