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
from slotwire.ingest.log.normalize import Fact, InviteeFact, normalize
from slotwire.ingest.receive.verify import ReceivedDelivery, Tenant, verify
from slotwire.schemas.codec import encode_data
from slotwire.schemas.events import BookingState, InviteeCreated
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
        event: from the verified bytes to an encoded event, without the join: the aim is at most 40.
        join: the join of a whole batch, its events encoded, its arguments ready for Postgres.
    """

    parse: float
    verify: float
    normalize: float
    event: float
    join: float


def measure_stages(*, seconds: float) -> Stages:
    """Measure each stage for so long in all."""
    now = datetime.now(UTC)
    tenant = Tenant("https://api.calendly.com/organizations/BENCH", "BENCH", 0, None, UUID(int=0))
    mint = Mint(Target(0, "/hooks/calendly/bench", _KEY))
    bodies = [mint.body()[1] for _ in range(DELIVERIES)]
    received = [ReceivedDelivery(uuid4(), body, (sign(body, _KEY),), "", now, None) for body in bodies]
    keys = (_KEY.encode(),)
    verified = [verify(each, tenant, keys, now=now) for each in received]
    facts = [normalize(each) for each in verified]
    each_for = seconds / 5 / REPEATS
    state = BookingState.made({}, state="active", revision=1, no_show=False, chain_root="")
    return Stages(
        parse=_median(lambda: [orjson.loads(body) for body in bodies], each_for),
        verify=_median(lambda: [verify(each, tenant, keys, now=now) for each in received], each_for),
        normalize=_median(lambda: [normalize(each) for each in verified], each_for),
        event=_median(lambda: [_encoded(normalize(each), state) for each in verified], each_for),
        join=_median(lambda: Batch(facts, {}).arguments(shard=0, now=now), each_for),
    )


def _encoded(fact: Fact, state: BookingState) -> bytes:
    assert isinstance(fact, InviteeFact)
    return encode_data(InviteeCreated.made(fact.payload.__dict__, booking=state))


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
