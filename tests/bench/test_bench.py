"""What the benchmark claims of itself."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.delivery import Origin
from slotwire.ingest.log.normalize import Fact, InviteeFact, normalize
from slotwire.ingest.receive.accept import fetched_row
from slotwire.ingest.receive.verify import HookTenant, ReceivedDelivery, verify
from tests.bench.__main__ import attempt
from tests.bench.acks import Acks, Name, Round
from tests.bench.backfill import BackfillWay
from tests.bench.chain import Spans
from tests.bench.deliveries import Mint, Target
from tests.bench.drain import Drain
from tests.bench.idle import connections, cost, rss_mib
from tests.bench.load import Connection, Measured, NotAcknowledged, percentile
from tests.bench.neighbours import Neighbours, Way
from tests.bench.report import Results
from tests.bench.stage import ROOT, package_of
from tests.bench.stages import stored
from tests.bench.sustained import Flow, Sustained
from tests.support.writing import accepted

KEY = "a key of the benchmark's own, long enough for HMAC"


def test_the_load_is_of_signed_bookings_of_another_invitee_each() -> None:
    """Every request is 1.9 KB, carries a signature our verifier accepts, and books an invitee of its own."""
    hook = HookTenant("BENCH", 0, UUID(int=0))
    mint = Mint(Target(8080, "/hooks/calendly/a-hook", KEY))
    invitees = set()
    for _ in range(20):
        delivery = mint.delivery()
        head, _, body = delivery.request.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert int(lines["Content-Length"]) == len(body)
        assert 1_900 <= len(body) <= 2_000
        now = datetime.now(UTC)
        signatures = (lines["Calendly-Webhook-Signature"],)
        received = ReceivedDelivery(uuid4(), body, signatures, "", now, None)
        [fact] = normalize(stored(verify(received, hook, {UUID(int=0): KEY.encode()}, now=now), 1))
        assert isinstance(fact, InviteeFact)
        assert fact.payload.uri.endswith(f"/invitees/{delivery.invitee}")
        invitees.add(fact.payload.uri)
    assert len(invitees) == 20


def test_the_backfill_is_of_documents_as_rest_gives_them() -> None:
    """Each row becomes one booking event of an invitee of its own, as the row of a real backfill does."""
    mint, now = Mint(Target(0, "", "")), datetime.now(UTC)
    facts: list[Fact] = []
    for number in range(20):
        invitee, event = mint.documents()
        row = fetched_row("BENCH", origin="backfill", invitee=invitee, scheduled_event=event, now=now)
        assert row.body is not None
        delivery = accepted(row.body, position=number + 1, origin=Origin.BACKFILL)
        facts += normalize(delivery)
    assert len({fact.payload.uri for fact in facts if isinstance(fact, InviteeFact)}) == 20
    assert len(Batch(facts).events) == 20


def test_the_client_puts_answers_together_and_refuses_anything_but_2xx() -> None:
    """An answer in pieces counts once, when it is whole; a 503 is a failure, not an acknowledgement."""
    answered: list[Connection] = []
    failed: list[NotAcknowledged] = []
    connection = Connection(answered.append, failed.append)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.data_received(b"ngth: 4\r\n\r\nab")
    assert answered == []
    connection.data_received(b"cd")
    assert answered == [connection]
    connection.data_received(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    assert len(answered) == 1
    assert "503" in str(failed[0])


def test_percentiles_are_measured_values() -> None:
    """The nearest rank of what was seen, never an interpolation; of nothing there is none."""
    values = [float(number) for number in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (50.0, 99.0)
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(NotAcknowledged):
        percentile([], 0.5)


def _acks(ours: float, bare: float, naive: float) -> Acks:
    rates: dict[Name, float] = {"slotwire": ours, "bare": bare, "grouped": bare, "naive": naive}
    acks = Acks()
    for name, rate in rates.items():
        for clients in (1, 64):
            acks.rounds[name, clients] = [Round(Measured(1, 0.0, rate, 1.0, 1.0, 0.1, ran_out=False), {})] * 3
    return acks


def test_a_missed_ratio_is_named() -> None:
    """The targets hold at their limit and are missed just below it."""
    assert Results(_acks(900, 1000, 300)).missed == []
    [line] = Results(_acks(899, 1000, 299)).missed
    assert "64 connections" in line
    assert "stored in groups" in line
    [line] = Results(_acks(900, 1000, 301)).missed
    assert "naive" in line
    [few, _] = Results(_acks(699, 1000, 100)).missed
    assert "at 1 connections" in few


def test_a_missed_way_is_named() -> None:
    """Kafka at one and a half times the naive service, and a live delivery at one and a half times its quiet way."""
    flow = Flow(acks=900, published=150, through=140, lag=(0, 0), cpu={})
    assert Results(sustained=Sustained(flow, (90, 110))).missed == []
    assert "naive" in Results(sustained=Sustained(flow, (91, 110))).missed[0]
    quiet, late, later = (Spans(10, 1, 1, p50, 99) for p50 in (10.0, 15.0, 15.1))
    assert Results(backfill=BackfillWay(1, 1, quiet, late)).missed == []
    assert "backfill" in Results(backfill=BackfillWay(1, 1, quiet, later)).missed[0]
    way, stall = Way(1, 5.0, 10.0, 5.0, 10.0), (1.0, 9.0)
    holds, misses = ((0.9, 1.0), (1.2, 1.2), stall), ((0.9, 1.0), (1.0, 1.21), stall)
    assert Results(neighbours=Neighbours(way, way, way, 1, 1, holds, ())).missed == []
    assert "worst" in Results(neighbours=Neighbours(way, way, way, 1, 1, misses, ())).missed[0]


def test_another_checkout_is_known_by_either_layout(tmp_path: Path) -> None:
    """Checkouts before and after the namespace are compared by the module that is theirs; another folder is refused."""
    assert package_of(ROOT) == (ROOT / "src", "slotwire.ingest")
    assert package_of(tmp_path) is None
    (tmp_path / "ingest" / "cli").mkdir(parents=True)
    (tmp_path / "ingest" / "cli" / "__main__.py").touch()
    assert package_of(tmp_path) == (tmp_path, "ingest")


async def test_a_part_that_cannot_be_measured_costs_no_other() -> None:
    """It is named with its reason, in words and in JSON; what was measured before and after it is shown."""

    async def fails() -> None:
        percentile([], 0.5)

    async def measures() -> Drain:
        return drained

    results, drained = Results(), Drain(1, 1.0, {})
    await attempt(results, "acks", fails)
    await attempt(results, "drain", measures)
    assert results.unmeasured == ["acks: nothing was acknowledged while it was measured"]
    assert (results.acks, results.drain) == (None, drained)
    assert results.as_json()["unmeasured"] == results.unmeasured


def test_idle_connections_are_told_from_new_ones() -> None:
    """A connection that stays is counted and not new, one opened meanwhile is both, one that closed is neither."""
    with contextlib.ExitStack() as opened, socket.create_server(("127.0.0.1", 0)) as server:

        def connect() -> socket.socket:
            ours = opened.enter_context(socket.create_connection(server.getsockname()))
            opened.enter_context(server.accept()[0])
            return ours

        connect()
        goes = connect()
        before = connections(os.getpid())
        goes.close()
        connect()
        found = cost(100.0, before, 101.5, connections(os.getpid()))
    assert (found.rss_mib, found.grown_mib, found.opened) == (101.5, 1.5, 2)  # both ends are in this process
    assert found.connections < len(before) + found.opened
    assert rss_mib(os.getpid()) > 10
