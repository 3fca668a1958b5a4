"""The relay's pure parts: halving, refusals, pauses, the cursor's record, Kafka's options and errors."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import ssl
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import errors
from aiokafka.producer import sender
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from slotwire.ingest.errors import (
    BrokerUnavailable,
    ConfigurationError,
    CursorMismatch,
    RecordRefused,
    TopicUnavailable,
)
from slotwire.ingest.foundation.kafka import TRANSACTION_PAUSE_SECONDS, full_name, translated
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.kafka_diagnosis import require_supported
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.relay.cursor import MAX_POSITION, Cursor, decode_cursor
from slotwire.ingest.relay.process import BACK_OFF_SECONDS, BackOff
from slotwire.ingest.relay.shard import Refusals, Suspicion
from slotwire.schemas.topics import INVITEE

LOG = UUID("90505c61-44b4-4925-a41d-37e48d701122")
EVENT = UUID("1e03c697-7212-49a0-8bb9-74a78d443f0b")


def _publish(events: int, bad: set[int], usual: int) -> tuple[list[int], list[int], int]:
    """Play the relay's halving against a broker that refuses some events; return both lists and the attempts."""
    suspicion, at, sent, parked, attempts = Suspicion(), 0, list[int](), list[int](), 0
    while at < events:
        attempts += 1
        batch = list(range(at, min(events, at + suspicion.next_batch(usual))))
        if bad.isdisjoint(batch):
            sent += batch
        elif len(batch) > 1:
            suspicion = suspicion.refused(len(batch))
            continue
        else:
            parked += batch
            suspicion = suspicion.refused(1)
        suspicion = suspicion.passed(len(batch))
        at += len(batch)
    return sent, parked, attempts


@pytest.mark.parametrize("seed", range(30))
def test_halving_passes_every_good_event_in_order(seed: int) -> None:
    """Whatever is refused: exactly that is parked, the rest goes out in order, in few attempts."""
    draw = random.Random(seed)  # noqa: S311 - a test's draw
    events, usual = draw.randrange(1, 1_200), draw.choice([1, 7, 500])
    bad = {draw.randrange(events) for _ in range(draw.randrange(4))}
    sent, parked, attempts = _publish(events, bad, usual)
    assert sent == [number for number in range(events) if number not in bad]
    assert parked == sorted(bad)
    assert attempts <= -(-events // usual) + len(bad) * 2 * 11


def test_refusals_are_counted_for_one_event_and_one_run() -> None:
    """Another event starts its own count; parking lengthens the run."""
    twice = Refusals().again(4).again(4)
    assert (twice.times, twice.again(5).times) == (2, 1)
    parked = twice.parked()
    assert (parked.run, parked.times, parked.again(5).parked().run) == (1, 0, 2)


def test_pauses_grow_to_the_longest_and_start_again() -> None:
    """Each pause is drawn between half and whole of twice the last; a success starts over."""
    first, longest = BACK_OFF_SECONDS
    back_off, whole = BackOff(), first
    for _ in range(12):
        assert whole / 2 <= back_off.pause() <= whole
        whole = min(whole * 2, longest)
    assert whole == longest
    back_off.reset()
    assert back_off.pause() <= first


@pytest.mark.parametrize("cursor", [Cursor(LOG, 3), Cursor(LOG, 3, 17, EVENT)])
def test_a_cursor_survives_its_record(cursor: Cursor) -> None:
    """What is written is what is read, at the beginning and after it."""
    assert decode_cursor(3, cursor.encode()) == cursor
    assert cursor.key == b"3"


def _told(**changes: object) -> bytes:
    """Write a cursor of which fields are other values."""
    return json.dumps({"log_id": str(LOG), "position": 17, "event_id": str(EVENT), **changes}).encode()


FOREIGN = [
    *(b"", b"{}", b"[]", b"null", b"\xff", b"\xef\xbb\xbf{}", b"[" * 5000, b"1e999", b"NaN"),
    *(_told(log_id=1), _told(log_id=None), _told(log_id="x"), _told(log_id=[]), _told(event_id=5), _told(event_id={})),
    *(_told(position=None), _told(position="17"), _told(position=1.0), _told(position=True), _told(position=-1)),
    *(_told(position=2**63), _told(event_id=None), _told(position=1).replace(b" 1,", b"1e999,")),
]


@pytest.mark.parametrize("value", FOREIGN)
def test_a_foreign_record_is_no_cursor(value: bytes) -> None:
    """Anything else in the cursor's topic stops the relay instead of moving it, or ending it."""
    with pytest.raises(CursorMismatch, match="cannot be read") as caught:
        decode_cursor(0, value)
    assert "--cursor-from" in caught.value.remedy


@given(st.binary(max_size=80) | st.builds(_told, position=st.integers() | st.floats() | st.text(max_size=5)))
def test_any_record_is_a_cursor_or_none(value: bytes) -> None:
    """Whatever is in the record, it is a place that a log can have, or a mismatch."""
    try:
        found = decode_cursor(0, value)
    except CursorMismatch:
        return
    assert 0 <= found.position <= MAX_POSITION


def test_a_deleted_cursor_is_a_mismatch_and_the_last_position_is_one() -> None:
    """A tombstone says so, and the limit of a position is a position."""
    with pytest.raises(CursorMismatch, match="was deleted"):
        decode_cursor(0, None)
    assert decode_cursor(0, _told(position=MAX_POSITION)).position == MAX_POSITION


def test_topic_names_take_the_prefix() -> None:
    """A topic of ours and a plain name alike."""
    settings = KafkaSettings(topic_prefix="eu.")
    assert full_name(settings, INVITEE) == "eu.calendly.invitee"
    assert full_name(settings, "calendly.invitee.demo.dlq") == "eu.calendly.invitee.demo.dlq"


def test_plain_options() -> None:
    """Several brokers, a name for the broker's logs, and nothing of SASL or TLS."""
    options = connection_options(KafkaSettings(bootstrap_servers="127.0.0.1:1, localhost:2"), client="relay")
    assert options == {
        "bootstrap_servers": ["127.0.0.1:1", "localhost:2"],
        "client_id": "slotwire-relay",
        "security_protocol": "PLAINTEXT",
    }


def test_tls_is_demanded_towards_other_machines() -> None:
    """Without TLS a broker elsewhere is refused unless a setting allows it; one on this machine needs no permission."""
    for protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        login = {"sasl_username": "slotwire", "sasl_password": SecretStr("a password")}
        elsewhere = {"bootstrap_servers": "[::1]:9092,broker.example.com:9092", "security_protocol": protocol, **login}
        with pytest.raises(ConfigurationError, match=r"broker\.example\.com:9092 is not on this machine") as refused:
            connection_options(KafkaSettings.model_validate(elsewhere), client="relay")
        assert "SLOTWIRE_KAFKA__ALLOW_PLAINTEXT" in refused.value.remedy
        allowed = KafkaSettings.model_validate({**elsewhere, "allow_plaintext": True})
        assert connection_options(allowed, client="relay")["security_protocol"] == protocol
        here = KafkaSettings.model_validate({**elsewhere, "bootstrap_servers": "[::1]:9092,127.1.1.1:1"})
        assert connection_options(here, client="relay")["security_protocol"] == protocol


def test_a_broker_without_a_port_is_refused() -> None:
    """`host` alone is no address: aiokafka would take a port that nobody named."""
    with pytest.raises(ConfigurationError, match="broker names no port"):
        connection_options(KafkaSettings(bootstrap_servers="broker", allow_plaintext=True), client="relay")


def test_an_old_broker_is_refused_by_its_version() -> None:
    """A broker that lacks what every supported version has is too old; the versions that are not are named."""
    offered = {18: (0, 4)}
    with pytest.raises(BrokerUnavailable, match=r"older than Kafka 3\.0") as refused:
        require_supported(offered)
    assert (refused.value.reason, "Kafka 3 and 4" in refused.value.remedy) == ("version", True)
    require_supported({**offered, 65: (0, 0)})


def test_options_with_password_and_tls() -> None:
    """SASL_SSL brings the mechanism, the login, and a context that checks the broker's certificate and name."""
    settings = KafkaSettings(
        bootstrap_servers="broker.example.com:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="slotwire",
        sasl_password=SecretStr("a password"),
    )
    options = connection_options(settings, client="relay")
    context = options.pop("ssl_context")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("slotwire", "a password")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unreadable_certificate_is_reported(tmp_path: Path, content: str | None) -> None:
    """A file that is missing or is no PEM names the settings, not a stack trace."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    settings = KafkaSettings(bootstrap_servers="a:1", security_protocol="SSL", ssl_cafile=str(file))
    with pytest.raises(ConfigurationError, match="certificates for Kafka cannot be read") as refused:
        connection_options(settings, client="relay")
    assert "SLOTWIRE_KAFKA__SSL_CAFILE" in refused.value.remedy


@pytest.mark.parametrize(
    ("raised", "becomes", "reason"),
    [
        (errors.MessageSizeTooLargeError(), RecordRefused, "message_size_too_large"),
        (errors.UnknownError(), RecordRefused, "unknown"),
        (errors.TopicAuthorizationFailedError("t"), TopicUnavailable, "topic"),
        (errors.UnknownTopicOrPartitionError(), TopicUnavailable, "topic"),
        (errors.ProducerFenced(), BrokerUnavailable, "producer_fenced"),
        (errors.RequestTimedOutError(), BrokerUnavailable, "request_timed_out"),
        (errors.KafkaConnectionError(), BrokerUnavailable, "unreachable"),
        (errors.AuthenticationFailedError(), BrokerUnavailable, "authentication"),
        (errors.IllegalOperation(), BrokerUnavailable, "illegal_operation"),
        (TimeoutError(), BrokerUnavailable, "timeout"),
        (ConnectionResetError(), BrokerUnavailable, "unreachable"),
    ],
)
def test_foreign_errors_become_ours(raised: Exception, becomes: type[Any], reason: str) -> None:
    """What is waited out, held for and parked is told apart at one seam, with a short reason."""
    with pytest.raises(becomes) as ours, translated():
        raise raised
    assert ours.value.reason == reason


def test_the_library_uses_our_pause_between_transactions() -> None:
    """The library still reads the constant that is set, where it waits for the markers of the transaction before."""
    assert sender.BACKOFF_OVERRIDE == TRANSACTION_PAUSE_SECONDS
    assert "return BACKOFF_OVERRIDE" in inspect.getsource(sender.AddPartitionsToTxnHandler)


def test_our_own_assertions_are_not_swallowed() -> None:
    """Only an assertion of the client's own means that it cannot go on."""
    with pytest.raises(AssertionError, match="ours"), translated():
        raise AssertionError("ours")


async def test_a_client_that_cancels_its_future_does_not_cancel_us() -> None:
    """A future that aiokafka cancels while it closes means that it gave up; a real cancellation goes through."""
    with pytest.raises(BrokerUnavailable, match="was closed"), translated():
        raise asyncio.CancelledError

    async def cancelled() -> None:
        with translated():
            await asyncio.Event().wait()

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
