"""Requests to receivers, the pure parts: addresses, URLs, signatures, waits, turns."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.addresses import AddressRules
from slotwire.ingest.foundation.outgoing.connections import LOOKUPS_AT_ONCE, Answer
from slotwire.ingest.foundation.outgoing.retries import is_worth_another
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers, webhook_secret
from slotwire.ingest.foundation.outgoing.target import (
    MAX_HOST_CHARACTERS,
    MAX_PART_CHARACTERS,
    MAX_URL_CHARACTERS,
    read_target,
)
from slotwire.ingest.foundation.outgoing.turns import MAX_IDLE_DESTINATIONS, WAIT_SECONDS, Turns
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings

PUBLIC = ("8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001:800::200e")
# fmt: off
SPECIAL = (
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "192.0.0.8",
    "192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1",
    "2001:1::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1", "fc00::1",
    "fd12::1", "fe80::1", "fe80::1%eth0", "2606:4700::1111%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1",
    "localhost", "8.8.8", "8.8.8.8/32",
)
# fmt: on
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
BODY = b'{"eventId":"evt_1","name":"booking.created","timestamp":"2026-09-21T13:33:20Z","data":{"n":1},"cursor":"41"}'


def test_only_public_addresses_are_connected_to() -> None:
    """Of all special ranges no address passes, in whichever form it carries another one; public ones do."""
    rules = AddressRules()
    assert [each for each in PUBLIC if rules.why_not(each)] == []
    assert [each for each in SPECIAL if not rules.why_not(each)] == []


def test_private_networks_pass_where_they_are_named() -> None:
    """A named network passes and no other; where clouds tell secrets, nothing does; this machine only locally."""
    rules = AddressRules.of(OutgoingSettings(allow_networks=("10.20.0.0/16", "fd00::/8", "100.64.0.0/10")))
    assert [rules.why_not(each) for each in ("10.20.3.4", "fd12::1", "100.64.0.1")] == [None, None, None]
    for never in ("10.21.0.1", "fd00:ec2::254", "100.100.100.200", "169.254.169.254", "::ffff:10.20.3.4", "127.0.0.1"):
        assert rules.why_not(never), never
    local = AddressRules.of(OutgoingSettings(allow_local=True))
    assert [local.why_not(each) for each in ("127.0.0.1", "::1")] == [None, None]
    assert local.why_not("10.20.3.4")


@pytest.mark.parametrize(
    "network", ["169.254.0.0/16", "127.0.0.0/8", "0.0.0.0/0", "10.0.0.0/7", "fe80::/10", "::/0", "8.8.8.0/24", "x"]
)
def test_other_networks_cannot_be_allowed(network: str) -> None:
    """Neither link-local ranges nor this machine can be let in by a setting, nor more than a private range."""
    with pytest.raises(ValueError, match="allow_networks"):
        OutgoingSettings(allow_networks=(network,))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "scheme"),
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://user@example.com/", "userinfo"),
        ("https://user:secret@example.com/", "userinfo"),
        ("https://@example.com/", "userinfo"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://", "url"),
        ("https:///path", "url"),
        ("//example.com/", "url"),
        ("example.com", "url"),
        ("https://example.com:0/", "url"),
        ("https://example.com:65536/", "url"),
        ("https://example.com:x/", "url"),
        ("https://exa mple.com/", "url"),
        ("https://example.com\\@inner/", "url"),
        ("https://example.com/\r\nHost: inner", "url"),
        ("https://ex\u00e4mple.com/", "url"),
        ("https://2130706433/", "url"),
        ("https://127.1/", "url"),
        ("https://0x7f.0.0.1/", "url"),
        ("https://0177.0.0.1/", "url"),
        ("https://127.0.0.1./", "url"),
        ("https://" + "a" * MAX_URL_CHARACTERS, "url"),
        ("https://a..example.com/", "url"),
        ("https://.example.com/", "url"),
        (f"https://{'a' * (MAX_PART_CHARACTERS + 1)}.example.com/", "url"),
        (f"https://{'a.' * (MAX_HOST_CHARACTERS // 2)}a/", "url"),
    ],
)
def test_odd_urls_are_refused(url: str, reason: str) -> None:
    """Only https with a host goes on; what is refused is named by its rule, and the URL is not shown."""
    with pytest.raises(OutgoingRefused) as raised:
        read_target(url, local=False)
    assert raised.value.reason == reason
    assert "secret" not in raised.value.in_one_line


def test_urls_go_as_they_were_written() -> None:
    """Nothing of a path or a query is written anew, and limits count by scheme, host and port."""
    url = "https://Hooks.Example.com/a%2Fb/~x?sig=%7E%2b&&y=[1]"
    target = read_target(url, local=False)
    assert (str(target.url), target.host, target.destination) == (
        url,
        "Hooks.Example.com",
        "https://hooks.example.com:443",
    )
    longest = "https://example.com/" + "a" * (MAX_URL_CHARACTERS - 20)
    assert str(read_target(longest, local=False).url) == longest
    longest = f"{'a' * MAX_PART_CHARACTERS}.{'a.' * ((MAX_HOST_CHARACTERS - MAX_PART_CHARACTERS - 1) // 2)}"
    assert read_target(f"https://{longest}/", local=False).host == longest


def test_http_is_for_this_machine_alone() -> None:
    """Without TLS only a loopback address is asked, and only on the local stack."""
    assert read_target("http://127.0.0.1:81/x", local=True).destination == "http://127.0.0.1:81"
    for url, local in (("http://127.0.0.1:81/", False), ("http://example.com/", True), ("http://10.0.0.1/", True)):
        with pytest.raises(OutgoingRefused, match="https"):
            read_target(url, local=local)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The published library signs the same, and takes each of two signatures while a secret is changed."""
    at = datetime.fromtimestamp(1_790_000_000, UTC)
    made = standard_webhook_headers(webhook_secret(SECRET), "evt_1", at, BODY)
    assert made == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1790000000",
        "webhook-signature": "v1,HYddev2Ma7diSrBG5a0h+GD7HUc56kXEOqmit4b4UdY=",
    }
    assert Webhook(SECRET).sign("evt_1", at, BODY.decode()) == made["webhook-signature"]
    new, now = bytes(range(64)), datetime.now(UTC)
    both = standard_webhook_headers(new, "evt_1", now, BODY, also=(webhook_secret(SECRET),))
    assert Webhook(SECRET).verify(BODY, both) == Webhook(new).verify(BODY, both)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "whsec_AAEC",
        "whsec_A-_" + "A" * 29,
        "whsec_" + "A" * 88,
    ],
)
def test_a_secret_has_one_form(secret: str) -> None:
    """A secret is `whsec_` and base64 of 24 to 64 bytes; any other is refused, and not shown."""
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        webhook_secret(secret)
    assert [len(webhook_secret("whsec_" + text)) for text in ("A" * 32, "A" * 86 + "==")] == [24, 64]


@pytest.mark.parametrize("message_id", ["", "a.b", "a\r\nX: y", "a b", "a" * 201])
def test_an_id_that_could_be_read_twice_is_not_signed(message_id: str) -> None:
    """An id cannot end itself in what is signed, nor begin a header; a time without a zone is not signed either."""
    with pytest.raises(ValueError, match="full stop"):
        standard_webhook_headers(b"x" * 32, message_id, datetime.now(UTC), b"")
    with pytest.raises(ValueError, match="zone"):
        standard_webhook_headers(b"x" * 32, "evt_1", datetime.now(UTC).replace(tzinfo=None), b"")


def test_some_answers_are_final() -> None:
    """After any answer but success another try may succeed, except after 410 and 413."""
    statuses = (200, 204, 301, 400, 404, 408, 410, 413, 425, 429, 500, 503)
    worth = [status for status in statuses if is_worth_another(Answer(status, b""))]
    assert worth == [301, 400, 404, 408, 425, 429, 500, 503]


class Waits:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    async def pause(self, seconds: float) -> None:
        """Wait, at once."""
        self.waited.append(round(seconds, 6))
        self.now += seconds


async def test_a_destination_has_a_rate() -> None:
    """A second's worth may come together, then one after the other; past the longest wait they fail, others go on."""
    clock = Waits()
    turns = Turns(at_once=50, per_second=2, timer=lambda: clock.now, pause=clock.pause)

    async def turn(where: str) -> None:
        async with turns.taken(where):
            pass

    for _ in range(4):
        await turn("a")
    assert clock.waited == [0.5, 0.5]
    await turn("b")
    assert clock.waited == [0.5, 0.5]

    async def forever(_: float) -> None:
        return None

    turns = Turns(at_once=50, per_second=2, timer=lambda: 100.0, pause=forever)
    for _ in range(2 + int(WAIT_SECONDS * 2)):
        await turn("a")
    with pytest.raises(OutgoingFailed) as raised:
        await turn("a")
    assert raised.value.reason == "limited"


async def test_a_name_server_that_does_not_answer_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often such a name is asked for, one look-up of it runs; other names are found meanwhile."""
    go, begun, asked, system = threading.Event(), threading.Event(), list[str](), socket.getaddrinfo

    def looked_up(host: str, *more: Any, **named: Any) -> Any:
        if not host.endswith(".example"):
            return system(host, *more, **named)
        asked.append(host)
        if host == "slow.example":
            begun.set()
            go.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    settings = OutgoingSettings(at_once_per_destination=50, per_second_per_destination=1_000)

    async def asking(host: str) -> str:
        with pytest.raises((OutgoingRefused, OutgoingFailed)) as raised:
            await outgoing.post(f"https://{host}/", b"", {})
        assert isinstance(raised.value, OutgoingRefused | OutgoingFailed)
        return raised.value.reason

    async with Outgoing(settings, purpose="test") as outgoing:
        try:
            waiting = [asyncio.create_task(asking("slow.example")) for _ in range(LOOKUPS_AT_ONCE + 2)]
            await asyncio.to_thread(begun.wait)
            assert await asking("quick.example") == "address"
            assert asked == ["slow.example", "quick.example"]
        finally:
            go.set()
        assert set(await asyncio.gather(*waiting)) == {"address"}
        assert await asking("slow.example") == "address"
        assert asked.count("slow.example") == 2, "what it means is asked again by the next connection"


async def test_idle_destinations_are_forgotten_and_busy_ones_are_not() -> None:
    """However many destinations are asked, a bounded number is remembered, and one in use keeps its limit."""
    turns = Turns(at_once=1, per_second=1_000)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with turns.taken("busy"):
            entered.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await entered.wait()
        for number in range(MAX_IDLE_DESTINATIONS + 10):
            async with turns.taken(f"https://{number}.example"):
                pass
        assert len(turns._known) == MAX_IDLE_DESTINATIONS
        assert turns._known["busy"].slots.locked()
        leave.set()
