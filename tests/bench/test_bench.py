"""What the benchmark claims of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from slotwire.ingest.log.normalize import InviteeFact, normalize
from slotwire.ingest.receive.verify import ReceivedDelivery, Tenant, verify
from tests.bench.acks import Acks, Name, Round
from tests.bench.against import package_of
from tests.bench.deliveries import Mint, Target
from tests.bench.load import Connection, Measured, NotAcknowledged, percentile
from tests.bench.report import Results
from tools.sources import ROOT

KEY = "a key of the benchmark's own, long enough for HMAC"


def test_the_load_is_of_signed_bookings_of_another_invitee_each() -> None:
    """Every request is 1.9 KB, carries a signature our verifier accepts, and books an invitee of its own."""
    tenant = Tenant("https://api.calendly.com/organizations/BENCH", "BENCH", 0, None, UUID(int=0))
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
        fact = normalize(
            verify(ReceivedDelivery(uuid4(), body, signatures, "", now, None), tenant, [KEY.encode()], now=now)
        )
        assert isinstance(fact, InviteeFact)
        assert fact.payload.uri.endswith(f"/invitees/{delivery.invitee}")
        invitees.add(fact.payload.uri)
    assert len(invitees) == 20


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
        for connections in (1, 64):
            acks.rounds[name, connections] = [Round(Measured(1, rate, 1.0, 1.0, 0.1, ran_out=False), {})] * 3
    return acks


def test_a_missed_ratio_is_named() -> None:
    """The targets hold at their limit and are missed just below it."""
    assert Results(_acks(300, 1000, 120), None, None).missed == []
    [line] = Results(_acks(299, 1000, 100), None, None).missed
    assert "bare" in line
    [line] = Results(_acks(300, 1000, 121), None, None).missed
    assert "naive" in line


def test_another_checkout_is_known_by_either_layout(tmp_path: Path) -> None:
    """Checkouts before and after the namespace are compared by the module that is theirs; another folder is refused."""
    assert package_of(ROOT) == (ROOT / "src", "slotwire.ingest")
    assert package_of(tmp_path) is None
    (tmp_path / "ingest" / "cli").mkdir(parents=True)
    (tmp_path / "ingest" / "cli" / "__main__.py").touch()
    assert package_of(tmp_path) == (tmp_path, "ingest")
