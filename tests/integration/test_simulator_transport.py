"""The simulator's transport: slots, connections, timeouts, and this machine only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.sender import DeliveryPolicy
from slotwire.ingest.simulator.transport import LoopbackTransport, NotLoopback, require_loopback
from tests.support.simulated_calendly import Receiver, SimulatedCalendly, receiving, simulated_calendly


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that acknowledges everything by default."""
    async with receiving() as found:
        yield found


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with a stopped clock."""
    async with simulated_calendly() as found:
        yield found


async def test_concurrency_is_bounded_and_connections_are_reused(receiver: Receiver) -> None:
    """Never more deliveries on the wire than the policy allows, and no more connections than that."""
    async with simulated_calendly(Options(policy=DeliveryPolicy(concurrency=3))) as calendly:
        receiver.hold = asyncio.Event()
        await calendly.subscribe(receiver.url)
        for _ in range(9):
            await calendly.http.post("/simulator/book", json={})
        await receiver.received(3)
        assert calendly.running.engine.sender.in_flight == 3
        receiver.hold.set()
        await calendly.settled()
        assert len(receiver.deliveries) == 9
        assert receiver.most_at_once == 3
        assert len({id(each.connection) for each in receiver.deliveries}) <= 3


async def test_a_free_slot_sends_the_next_due_message(receiver: Receiver) -> None:
    """A delivery planned for later while every slot was taken goes out on time once a slot is free."""
    async with simulated_calendly(Options(policy=DeliveryPolicy(concurrency=1)), still=False) as calendly:
        receiver.hold = asyncio.Event()
        await calendly.subscribe(receiver.url)
        await calendly.http.post("/simulator/book", json={})
        await receiver.received(1)
        await calendly.http.post("/simulator/faults", json={"delay_seconds": 0.3})
        await calendly.http.post("/simulator/book", json={})
        receiver.hold.set()
        await receiver.received(2)
        assert next(message.attempts for message, _ in calendly.ledger()) == 1


async def test_a_message_is_taken_over_once(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Handing the same messages to the sender again sends nothing twice."""
    await calendly.subscribe(receiver.url)
    receiver.hold = asyncio.Event()
    await calendly.http.post("/simulator/book", json={})
    calendly.running.engine.sender.submit(calendly.running.engine.ledger.pending())
    receiver.hold.set()
    await calendly.settled()
    assert len(receiver.deliveries) == 1


async def test_a_silent_receiver_times_out(receiver: Receiver) -> None:
    """No answer within the read timeout is a failure with a name, and is tried again."""
    async with simulated_calendly(Options(policy=DeliveryPolicy(read_timeout_seconds=0.05))) as calendly:
        receiver.hold = asyncio.Event()
        await calendly.subscribe(receiver.url)
        await calendly.act("book")
        (message, attempts), *_ = calendly.ledger()
        assert (message.state, [each.error for each in attempts]) == ("pending", ["read timeout"])


async def test_a_closed_port_is_a_failure_with_a_name(calendly: SimulatedCalendly) -> None:
    """Nobody listening is recorded as such and retried."""
    async with receiving() as gone:
        url = gone.url
    await calendly.subscribe(url)
    await calendly.act("book")
    (message, attempts), *_ = calendly.ledger()
    assert (message.state, attempts[0].error) == ("pending", "connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://192.0.2.1/hook",
        "http://localhost.example.com/",
        "http://127.0.0.1@example.com/",
        "http://[2001:db8::1]/",
        "http:///hook",
        "http://10.0.0.1:80/",
    ],
)
async def test_nothing_is_sent_beyond_this_machine(calendly: SimulatedCalendly, url: str) -> None:
    """An address that is not loopback is refused when subscribed, when sent to, and by the transport itself."""
    body = {"url": url, "events": ["invitee.created"], "organization": calendly.running.organization}
    refused = await calendly.http.post("/webhook_subscriptions", json={**body, "scope": "organization"})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["parameter"] == "url"
    assert (await calendly.http.post("/simulator/send", json={"url": url, "signing": "none"})).status_code == 400
    transport = LoopbackTransport(1)
    with pytest.raises(NotLoopback):
        await transport.post(url, b"", {})
    await transport.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://127.8.8.8/x", "http://[::1]:80/", "https://localhost/a"]
)
def test_loopback_addresses_pass(url: str) -> None:
    """Every form of this machine's own address is allowed."""
    require_loopback(url)
    assert url
