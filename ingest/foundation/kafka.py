"""Kafka: how to reach it, topics' full names, which topics exist, and the one place that catches aiokafka's exceptions.

Everything above this module sees `BrokerUnavailable` (try again later), `TopicUnavailable` (wait for the topic) or
`RecordRefused` (this record can never be published), never an exception of aiokafka.

aiokafka asks for metadata in a way that makes a broker with `auto.create.topics.enable` create the topic, with
that broker's default partitions. So look a topic up with `require_topics` before you give its name to a producer or
consumer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.producer import sender
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest

from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    RecordRefused,
    SlotwireError,
    TopicUnavailable,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.kafka_diagnosis import require_supported, why_unreachable
from slotwire.ingest.foundation.kafka_records import read_any_header_name
from slotwire.ingest.foundation.kafka_token import VARIABLE, TokenUnavailable, token_source
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import Topic

REQUEST_TIMEOUT_SECONDS = 10.0
"""How long one request to the broker may take, including connecting; aiokafka's own limit is 40 s."""
LED_SECONDS = 60.0
"""How long new topics may be without a leader."""
_POLL_SECONDS = 0.05
_MURMUR_SEED, _MURMUR, _WORD = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
DISCARD_TIMEOUT_SECONDS = 2.0
"""How long `discard` may take."""
MIGRATE = "Run `slotwire migrate`, or ask the broker's administrator; work then continues by itself."
_REACH = (
    "Check that a broker runs at SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS,\n"
    "  and that SLOTWIRE_KAFKA__SECURITY_PROTOCOL and TLS are what it expects."
)

# Our errors already say what aiokafka logs; and below `info` it logs keys and values of records.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())
logging.getLogger("aiokafka").propagate = False

TRANSACTION_PAUSE_SECONDS = 0.002
"""After a commit the broker writes the transaction's markers for a few ms and refuses the next transaction meanwhile;
aiokafka then pauses 20 ms before it tries again. Measured in docs/decisions/0001-relay-publishes-in-transactions.md."""
sender.BACKOFF_OVERRIDE = TRANSACTION_PAUSE_SECONDS
read_any_header_name()

_REFUSALS = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.CorruptRecordException,
    errors.InvalidTimestampError,
    errors.UnsupportedForMessageFormatError,
    errors.PolicyViolationError,
    # aiokafka has no name for codes above 79, INVALID_RECORD (87) among them, and raises this one.
    errors.UnknownError,
)
_TOPIC_ERRORS = (errors.UnknownTopicOrPartitionError, errors.TopicAuthorizationFailedError, errors.InvalidTopicError)
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class TopicState(StrEnum):
    """Whether a topic can be used."""

    READY = "ready"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    """This client may not see it."""
    UNREADY = "unready"
    """A partition has no leader now."""


@dataclass(frozen=True)
class TopicDescription:
    """A topic as the broker describes it.

    Attributes:
        name: the full name.
        state: whether it can be used.
        partitions: how many; 0 unless the topic exists.
        replicas: copies of its least replicated partition; 0 unless the topic exists.
    """

    name: str
    state: TopicState
    partitions: int = 0
    replicas: int = 0


def full_name(settings: KafkaSettings, topic: Topic | str) -> str:
    """Return a topic's name with the prefix of the settings."""
    return settings.topic_prefix + (topic if isinstance(topic, str) else topic.name)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's own clients choose it: murmur2, in half the time of aiokafka's."""
    words = len(key) // 4
    value = _MURMUR_SEED ^ len(key)
    for word in struct.unpack_from(f"<{words}I", key):
        mixed = word * _MURMUR & _WORD
        value = (value * _MURMUR & _WORD) ^ ((mixed ^ mixed >> 24) * _MURMUR & _WORD)
    if rest := key[4 * words :]:
        value = (value ^ int.from_bytes(rest, "little")) * _MURMUR & _WORD
    value = (value ^ value >> 13) * _MURMUR & _WORD
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions


@contextmanager
def translated() -> Iterator[None]:
    """Translate exceptions of aiokafka and the network into our own.

    Raises:
        TopicUnavailable: a topic is missing or forbidden.
        RecordRefused: the broker or the client refused the data of a record.
        BrokerUnavailable: everything else: unreachable, too slow, fenced, lost membership, not authorized.
    """
    try:
        yield
    except (errors.KafkaError, errors.IllegalOperation, errors.ConsumerStoppedError, OSError) as error:
        raise _ours(error) from error
    except AssertionError as error:
        # A fenced producer's commit fails with an assertion in aiokafka; assertions of ours pass through.
        if not _raised_by_aiokafka(error):
            raise
        raise BrokerUnavailable("Kafka's client cannot continue", reason="client_state") from error
    except asyncio.CancelledError as error:
        # aiokafka cancels its own futures when it closes; our task was not cancelled then.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailable("Kafka's client was closed", reason="client_state") from error


def _ours(error: Exception) -> SlotwireError:
    """Return our error for one of aiokafka's or the network's."""
    if isinstance(error, _TOPIC_ERRORS):
        names = _names_in(error)
        message = f"forbidden to this client: topic {', '.join(names)}" if names else "a topic is missing or forbidden"
        return TopicUnavailable(message, topics=names, remedy=MIGRATE)
    if isinstance(error, _REFUSALS):
        return RecordRefused("Kafka refused a record", reason=_reason(error))
    return _unavailable(error)


def _unavailable(error: Exception) -> BrokerUnavailable:
    """Return our error for one that is no record's and no topic's fault."""
    if isinstance(error, TokenUnavailable):
        remedy = f"Check that {error.provider}, which {VARIABLE} names, can reach what it asks, and returns in time."
        return BrokerUnavailable(f"no token for Kafka: {error}", reason="token", remedy=remedy)
    if isinstance(error, errors.AuthenticationFailedError):
        remedy = "Check SLOTWIRE_KAFKA__SASL_USERNAME, SLOTWIRE_KAFKA__SASL_PASSWORD and the mechanism."
        return BrokerUnavailable("Kafka refuses our credentials", reason="authentication", remedy=remedy)
    if isinstance(error, TimeoutError):
        return BrokerUnavailable("Kafka did not answer in time", reason="timeout", remedy=_REACH)
    if isinstance(error, OSError | errors.KafkaConnectionError):
        return BrokerUnavailable("Kafka is out of reach", reason="unreachable", remedy=_REACH)
    remedy = "Try again; if it stays so, the brokers' logs say why."
    return BrokerUnavailable(f"Kafka cannot serve now: {_reason(error)}", reason=_reason(error), remedy=remedy)


def _names_in(error: Exception) -> tuple[str, ...]:
    """Return the topics that an authorization error of aiokafka names: one, or a set."""
    given = error.args[0] if error.args else ()
    return (given,) if isinstance(given, str) else tuple(sorted(given))


def _reason(error: Exception) -> str:
    """Make a metric's label from an error's class: `RequestTimedOutError` becomes `request_timed_out`."""
    name = type(error).__name__.removesuffix("Error").removesuffix("Exception")
    return _CAPITALS.sub("_", name).lower()


def _raised_by_aiokafka(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("aiokafka.")


@asynccontextmanager
async def connecting(settings: KafkaSettings) -> AsyncIterator[None]:
    """Translate what goes wrong while a client connects; if no broker lets us in, say why.

    Raises:
        BrokerUnavailable: see `why_unreachable`, and `translated`.
    """
    try:
        with translated():
            yield
    except BrokerUnavailable as error:
        if error.reason not in {"unreachable", "timeout", "authentication"}:
            raise
        raise await why_unreachable(settings) or error from error


@asynccontextmanager
async def opened_client(settings: KafkaSettings, *, client: str) -> AsyncIterator[AIOKafkaClient]:
    """Open a bare client, for metadata requests, while the block runs.

    Raises:
        ConfigurationError: see `connection_options`.
        BrokerUnavailable: no broker answers within `REQUEST_TIMEOUT_SECONDS`.
    """
    bare = AIOKafkaClient(
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000), **connection_options(settings, client=client)
    )
    try:
        async with connecting(settings):
            if settings.token_provider:  # asked here, its failure is told; in `bootstrap` it would look like a silence
                await token_source(settings.token_provider).token()
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await bare.bootstrap()
        await _require_version(bare)
        yield bare
    finally:
        await bare.close()


async def _require_version(client: AIOKafkaClient) -> None:
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            offered = await client.send(client.get_random_node(), ApiVersionRequest())
    require_supported({key: span for key, *span in offered.api_versions})


async def describe_topics(client: AIOKafkaClient, names: Iterable[str]) -> tuple[TopicDescription, ...]:
    """Ask the broker about some topics; creates none.

    Args:
        client: an open client, from `opened_client` or a producer's `.client`.
        names: full names.

    Returns:
        One description for each name, in the order given.

    Raises:
        BrokerUnavailable: it does not answer within `REQUEST_TIMEOUT_SECONDS`.
    """
    wanted = tuple(names)
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            request = MetadataRequest(list(wanted), allow_auto_topic_creation=False)
            answer = await client.send(client.get_random_node(), request)
    found = {topic[1]: _describe(topic[1], topic[0], topic[-1]) for topic in answer.topics}
    return tuple(found.get(name, TopicDescription(name, TopicState.MISSING)) for name in wanted)


_STATES = {3: TopicState.MISSING, 17: TopicState.MISSING, 29: TopicState.FORBIDDEN}
"""By Kafka's error codes: unknown topic, invalid name, not authorized."""


def _describe(name: str, code: int, partitions: list[tuple[Any, ...]]) -> TopicDescription:
    if code in _STATES:
        return TopicDescription(name, _STATES[code])
    led = code == 0 and all(partition[2] >= 0 for partition in partitions)
    replicas = min((len(partition[3]) for partition in partitions), default=0)
    return TopicDescription(name, TopicState.READY if led else TopicState.UNREADY, len(partitions), replicas)


async def require_topics(client: AIOKafkaClient, names: Iterable[str]) -> tuple[TopicDescription, ...]:
    """Check that topics exist and may be used.

    Returns:
        Their descriptions, in the order given.

    Raises:
        TopicUnavailable: some are missing, forbidden or without a leader; the message names them all.
        BrokerUnavailable: it does not answer.
    """
    await _require_version(client)
    found = await describe_topics(client, names)
    problems = [topic for topic in found if topic.state is not TopicState.READY]
    if problems:
        raise topics_unavailable(problems)
    return found


async def until_led(client: AIOKafkaClient, names: Iterable[str]) -> None:
    """Wait until new topics have leaders: a broker confirms a topic a moment before it can serve it.

    Raises:
        BrokerUnavailable: after `LED_SECONDS` some have no leader, or it does not answer.
    """
    wanted = tuple(names)
    if not wanted:  # an empty request would describe all topics
        return
    try:
        async with asyncio.timeout(LED_SECONDS):
            while any(topic.state is not TopicState.READY for topic in await describe_topics(client, wanted)):  # noqa: ASYNC110 - the broker sends no signal
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise BrokerUnavailable(
            "the new topics have no leaders yet",
            reason="topic",
            remedy="Check that every broker runs, then run `slotwire migrate` again. Agents retry by themselves.",
        ) from None


def topics_unavailable(problems: Iterable[TopicDescription]) -> TopicUnavailable:
    """Make the error for topics that cannot be used; the message names each with its problem."""
    words = {TopicState.FORBIDDEN: "forbidden to this client", TopicState.UNREADY: "without a leader"}
    listed = tuple(problems)
    return TopicUnavailable(
        "; ".join(f"topic {topic.name} is {words.get(topic.state, topic.state)}" for topic in listed),
        topics=tuple(topic.name for topic in listed),
        remedy=MIGRATE,
    )


async def discard(producer: AIOKafkaProducer) -> None:
    """Close a producer, in any state, without sending what it has buffered.

    aiokafka's own `stop()` waits for buffered records, and with idempotence they never expire: after the loss of a
    broker it would wait forever. Another producer sends them again, from the cursor.
    """
    # In a separate task: the caller must not see what aiokafka cancels or raises while it is torn down.
    teardown = asyncio.ensure_future(_tear_down(producer))
    try:
        await asyncio.wait({teardown}, timeout=DISCARD_TIMEOUT_SECONDS)
    finally:
        teardown.cancel()
        teardown.add_done_callback(_hear)


async def _tear_down(producer: AIOKafkaProducer) -> None:
    buffered = producer._message_accumulator  # noqa: SLF001 - no public way, see `discard`
    manager = producer._txn_manager  # noqa: SLF001 - its future would warn that nobody asked for its exception
    task = producer._sender.sender_task  # noqa: SLF001 - see `discard`
    if task is not None:
        task.cancel()
    _fail_buffered(buffered)
    # Ends the requests that the cancelled task still waits for.
    await asyncio.wait({asyncio.ensure_future(producer.client.close())}, timeout=DISCARD_TIMEOUT_SECONDS / 2)
    if task is not None:
        await asyncio.wait({task}, timeout=DISCARD_TIMEOUT_SECONDS / 4)
    try:
        await producer.stop()
    finally:
        if manager is not None:
            _hear(manager.wait_for_transaction_end())


def _fail_buffered(buffered: Any) -> None:
    """Fail the batches that were not sent, so that no task waits for them."""
    waiting = [batch for queue in buffered._batches.values() for batch in queue]  # noqa: SLF001 - see `discard`
    buffered.fail_all(errors.ProducerClosed())
    for batch in waiting:
        _hear(batch._drain_waiter)  # noqa: SLF001 - see `discard`


def _hear(future: asyncio.Future[Any] | None) -> None:
    """Retrieve a future's exception, so that asyncio does not warn that nobody did."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()
