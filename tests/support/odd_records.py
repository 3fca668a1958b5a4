"""Records as anybody could write them to a topic of ours: good ones, damaged ones, and what never was an event.

`odd_records` draws one from a seeded `random.Random`, so that a hundred thousand are made in seconds and a failure can
be repeated. `odd_headers` and `odd_values` are what it chooses from.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from slotwire.handlers.records import Record
from slotwire.handlers.testing import record_of
from tests.support.agent_setup import invitee_created

BATCH_BYTES = 900_000
"""Of a batch, unless one record alone is larger: below what a broker takes by default."""

Headers = tuple[tuple[str, bytes | None], ...]

TEXTS: list[bytes | None] = [
    *(None, b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b" ", b"x" * 300, b"\r\nX: y", "\u202e\u0661".encode()),
    *(b"true", b"0", b"-1", b"1_000", "\uff11".encode(), b"9" * 19, b"9" * 5000, b"NaN", b"1e5"),
]
TIMES = [
    *(b"2026-11-23T09:00:00", b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00", b"2026-02-30T00:00:00Z"),
    *(b"20261123", b"2026-11-23T09:00:00.123456789+00:00", b"2026-11-23T09:00:00+23:59"),
]
NAMES = [
    *("ce_id", "ce_type", "ce_source", "ce_time", "ce_sequence", "ce_partitionkey", "ce_subject", "ce_recordedtime"),
    *("ce_tenant", "ce_dataref", "content-type", "traceparent", "slotwire-inferred", "slotwire-origin"),
    *("slotwire-error-reason", "slotwire-error-left-out", "slotwire-error-", "ce_", "", "n" * 2000, "ce_\\xff", "é"),
]
TYPES = [
    *(b"com.calendly.invitee.teleported.v1", b"com.calendly.invitee.created.v1\0", b"t" * 5000, b"\xff", b""),
    *(b"com.calendly.contact.created.v1", b"COM.CALENDLY.INVITEE.CREATED.V1", b"io.slotwire.invitee.rescheduled.v1"),
]
JSON_VALUES: list[bytes | None] = [
    *(None, b"", b"null", b"[]", b"{}", b'"text"', b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"uri":1}', b'{"uri":""}'),
    *(b"[" * 100_000, b'{"a":' * 150 + b"1" + b"}" * 150, b"NaN", b'{"uri":NaN}', b"1e999", b"1" * 10_000),
    *(rb'{"uri":"\ud800"}', '{"uri":"x"}'.encode("utf-16"), '{"uri":"x"}'.encode("utf-32-be"), gzip.compress(b"{}")),
]


def _with(data: dict[str, Any]) -> bytes:
    """Write the data of a good event with some fields changed."""
    good = orjson.loads(record_of(invitee_created("k", 1)).value or b"")
    return orjson.dumps(good | data)


ODD_DATA = [
    _with({"extra": {"n": 1e308}}),
    _with({"questions_and_answers": [{}] * 5_000}),
    _with({"questions_and_answers": [1] * 20_000}),
    _with({"booking": None}),
    _with({"created_at": "0001-01-01T00:00:00+14:00"}),
    _with({"email": "a\0b"}),
    _with({"n": 1}).replace(b'"n":1', b'"n":' + b"1" * 5_000),
    _with({"n": 1}).replace(b'"n":1', b'"n":NaN'),
    _with({"n": 1}).replace(b'"n":1', rb'"n":"\ud800"'),
    _with({"n": 1}).replace(b'"n":1', b'"n":' + b"[" * 190 + b"]" * 190),
    _with({"n": 1}).replace(b'"n":1', b'"uri":"' + b"y" * 3000 + b'"'),
]


NEAR_THE_LIMIT = _with({"unheard_of": "x" * 850_000})
"""Nearly what a broker takes by default."""
NOW = datetime.now(UTC)


def _changed(draw: random.Random, headers: Headers) -> Headers:
    """Change one header: gone, doubled, null, of other bytes, or another one added."""
    names = [name for name, _ in headers]
    at = draw.randrange(len(headers))
    name, value = headers[at]
    odd = draw.choice([*TEXTS, *TIMES, *TYPES])
    match draw.randrange(6):
        case 0:
            return headers[:at] + headers[at + 1 :]
        case 1:
            return (*headers, (name, value))
        case 2:
            return (*headers, (draw.choice(names), odd))
        case 3:
            return (*headers, (draw.choice(NAMES), odd))
        case 4:
            return (*headers[:at], (name, odd), *headers[at + 1 :])
        case _:
            return tuple((name, draw.choice(TYPES) if name == "ce_type" else value) for name, value in headers)


def odd_record(draw: random.Random, number: int) -> Record:
    """Draw a record; about one in five is a good event of its own.

    Args:
        draw: where chance comes from.
        number: of the record; it becomes the position of a good event.
    """
    record = record_of(invitee_created(f"key-{number % 50}", number + 1))
    if draw.random() < 0.2:
        return record
    headers = record.headers
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        headers = _changed(draw, headers) if headers else headers
    if draw.random() < 0.02:
        headers = draw.choice([(), tuple((f"h{n}", b"v") for n in range(500)), (("x", b"h" * 60_000),)])
    if draw.random() < 0.1:
        headers = (*headers, ("ce_dataref", b"/v1/events/nowhere"))
    # Large ones are rare, or a hundred thousand records would be gigabytes.
    value = draw.choice(JSON_VALUES if draw.random() < 0.9 else ODD_DATA) if draw.random() < 0.4 else record.value
    if draw.random() < 0.0005:
        value = NEAR_THE_LIMIT
    key = draw.choice([None, b"", b"\xff", b"k" * 20_000]) if draw.random() < 0.1 else record.key
    # Rarely: a broker drops a segment of which no record is younger than its retention.
    when = datetime.fromtimestamp(draw.choice([0, 1]), UTC) if draw.random() < 0.1 else NOW
    return replace(record, key=key, value=value, headers=headers, published_at=when)


def is_good(record: Record, number: int) -> bool:
    """Say whether it is the unchanged event of its number."""
    good = record_of(invitee_created(f"key-{number % 50}", number + 1))
    return (record.headers, record.value) == (good.headers, good.value)


class RawName(str):
    """The name of a header as bytes that are no text."""

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> RawName:
        """Make a name of any bytes."""
        made = cls("raw")
        made.raw = raw
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the bytes as they are."""
        del encoding, errors
        return self.raw


async def send_raw(
    producer: AIOKafkaProducer, topic: str, records: Iterable[Record], *, partition: int = 0, compression: int = 0
) -> None:
    """Send records in batches that aiokafka's own producer would not make: any names of headers, nothing but nulls.

    Args:
        producer: started, not transactional.
        topic: the full name.
        records: their headers' names may be `RawName`s.
        partition: of the topic.
        compression: Kafka's number for it: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    """
    batch, count = _batch(producer, compression), 0
    for record in records:
        if not _added(batch, record):
            await (await producer.send_batch(batch, topic, partition=partition))
            batch, count = _batch(producer, compression), 0
            assert _added(batch, record)
        count += 1
    if count:
        await (await producer.send_batch(batch, topic, partition=partition))


def _batch(producer: AIOKafkaProducer, compression: int) -> Any:
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, compression, False, -1, -1, -1, BATCH_BYTES)
    return batch


def _added(batch: Any, record: Record) -> bool:
    stamp = int(record.published_at.timestamp() * 1000)
    added = batch.append(key=record.key, value=record.value, timestamp=stamp, headers=list(record.headers))
    return added is not None
