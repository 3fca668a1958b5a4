"""What each pure stage costs a 1.9 KB delivery, beside a bare `orjson.loads` of the same body."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.normalize import normalize
from slotwire.ingest.receive.accept import row_of
from slotwire.ingest.receive.verify import HookTenant, ReceivedDelivery, VerifiedDelivery, verify
from tests.bench.deliveries import Mint, Target
from tests.support.public_endpoint import sign

DELIVERIES = 64
"""Of one batch: what 64 connections bring together."""
REPEATS = 5
_KEY = "a signing key of forty-three characters, abc"


@dataclass(frozen=True, slots=True)
class Stages:
    """Microseconds of CPU a delivery, the median of five.

    Attributes:
        parse: a bare `orjson.loads` of the body.
        verify: in `serve`: the signature, and the row for Postgres.
        normalize: in `relay`: from the stored bytes to facts.
        join: the facts of a whole batch folded over the bookings; here nobody knows the invitees.
        encode: the batch's events, results and bookings as rows for Postgres.
    """

    parse: float
    verify: float
    normalize: float
    join: float
    encode: float


def measure_stages(*, seconds: float) -> Stages:
    """Measure each stage for so long in all."""
    now = datetime.now(UTC)
    hook = HookTenant("BENCH", 0, UUID(int=0))
    mint = Mint(Target(0, "/hooks/calendly/bench", _KEY))
    bodies = [mint.body()[1] for _ in range(DELIVERIES)]
    received = [ReceivedDelivery(uuid4(), body, (sign(body, _KEY),), "", now, None) for body in bodies]
    keys = {UUID(int=0): _KEY.encode()}
    verified = [verify(each, hook, keys, now=now) for each in received]
    deliveries = [stored(each, position) for position, each in enumerate(verified, 1)]
    facts = [fact for each in deliveries for fact in normalize(each)]
    batch = Batch(facts)
    each_for = seconds / 5 / REPEATS
    return Stages(
        parse=_median(lambda: [orjson.loads(body) for body in bodies], each_for),
        verify=_median(lambda: [row_of(verify(each, hook, keys, now=now)) for each in received], each_for),
        normalize=_median(lambda: [normalize(each) for each in deliveries], each_for),
        join=_median(lambda: Batch(facts), each_for),
        encode=_median(lambda: (batch.event_rows(now), batch.result_rows(), batch.booking_rows()), each_for),
    )


def stored(delivery: VerifiedDelivery, position: int) -> Delivery:
    """Return a verified delivery as the writer reads it."""
    tenant = Tenant("https://api.calendly.com/organizations/BENCH", delivery.tenant.org, None)
    return Delivery(
        position=position,
        total=position * len(delivery.body),
        id=delivery.id,
        tenant=tenant,
        origin=Origin.WEBHOOK,
        form=Origin.WEBHOOK,
        stale=False,
        content_encoding=delivery.content_encoding,
        received_at=delivery.received_at,
        signed_at=delivery.signed_at,
        traceparent=delivery.traceparent,
        body=delivery.body,
    )


def _median(work: Callable[[], object], seconds: float) -> float:
    """Return microseconds of CPU a delivery; `work` does a whole batch."""
    work()
    return statistics.median(_once(work, seconds) for _ in range(REPEATS))


def _once(work: Callable[[], object], seconds: float) -> float:
    began = time.thread_time()
    batches = 0
    while (spent := time.thread_time() - began) < seconds:
        work()
        batches += 1
    return spent / batches / DELIVERIES * 1e6
