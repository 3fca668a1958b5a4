"""Requests to receivers over real sockets: what a receiver, its name server and its certificate may do to us."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.connections import MAX_ANSWER_BYTES
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from tests.support.agent_setup import run_ready_tasks, until
from tests.support.certificates import Authority
from tests.support.receiver import TAKEN, ReceivedPost, answer, receiving, tls_for
from tests.support.wrong_hosts import forget_names

HOST = "receiver.example.com"
HERE = "127.0.0.1"
DAY = "Fri, 27 Nov 2026"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Names:
    """A name server that answers as it is told, a new answer each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        """Answer; the last answer again and again."""
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def settings(folder: Path | None = None, **fields: object) -> OutgoingSettings:
    """Make settings of the local stack."""
    ca = None if folder is None else str(folder / "ca.pem")
    return OutgoingSettings.model_validate({"allow_local": True, "ca_file": ca, **fields})


def counted(outcome: str, purpose: str = "test") -> float:
    """Return how many requests had an outcome."""
    return (
        REGISTRY.get_sample_value("slotwire_outgoing_requests_total", {"purpose": purpose, "outcome": outcome}) or 0.0
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that the settings name."""
    made = Authority()
    (tmp_path / "ca.pem").write_text(made.pem, encoding="ascii")
    return made


async def test_a_connection_is_pinned_to_what_was_judged(tmp_path: Path, authority: Authority) -> None:
    """What is connected to is what was judged, also on a kept connection; a new one is judged by what a name means."""
    names = Names([HERE], ["169.254.169.254"])
    async with receiving(tls_for(tmp_path, HOST, authority)) as receiver:
        receiver.answers(answer(200, b"first"), answer(200, b"", "Connection: close"))
        async with Outgoing(settings(tmp_path), purpose="test", resolve=names) as outgoing:
            url = f"https://{HOST}:{receiver.port}/hook?x=%2F"
            first = await outgoing.post(url, b"{}", {"Content-Type": "application/json", "X-Own": "1"})
            assert (first.status, first.body, first.is_success, first.cut) == (200, b"first", True, False)
            await outgoing.post(url, b"{}", {})
            assert names.asked == [HOST]
            with pytest.raises(OutgoingRefused, match="not on the public network") as raised:
                await outgoing.post(url, b"{}", {})
    assert raised.value.reason == "address"
    assert "hook" not in raised.value.in_one_line
    assert names.asked == [HOST, HOST]
    assert receiver.names == [HOST]
    assert [(post.path, post.connection) for post in receiver.received] == [("/hook?x=%2F", 1)] * 2
    sent = receiver.received[0].headers
    assert (sent["host"], sent["x-own"], sent["accept-encoding"]) == (f"{HOST}:{receiver.port}", "1", "identity")
    assert "cookie" not in sent


@pytest.mark.parametrize(
    "means", [[HERE, "10.1.2.3"], ["169.254.169.254", HERE], [HERE, "::ffff:127.0.0.1"], [HERE, "64:ff9b::7f00:1"]]
)
async def test_one_bad_address_refuses_the_name(means: list[str], tmp_path: Path, authority: Authority) -> None:
    """A name that means an allowed address and another one is connected to nowhere."""
    outgoing = Outgoing(settings(tmp_path), purpose="test", resolve=Names(means))
    async with receiving(tls_for(tmp_path, HOST, authority)) as receiver, outgoing:
        with pytest.raises(OutgoingRefused):
            await outgoing.post(f"https://{HOST}:{receiver.port}/", b"", {})
    assert receiver.connections == 0


async def test_addresses_without_a_name_are_judged_too() -> None:
    """No address in the URL itself, in any form, reaches this machine or its network, nor a name that means it."""
    async with receiving() as receiver, Outgoing(OutgoingSettings(), purpose="test") as outgoing:
        for host in (
            HERE,
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "169.254.169.254",
            "10.0.0.1",
            "[64:ff9b::7f00:1]",
        ):
            with pytest.raises(OutgoingRefused) as raised:
                await outgoing.post(f"https://{host}:{receiver.port}/", b"", {})
            assert raised.value.reason == "address", host
    assert receiver.connections == 0


async def test_certificates_are_for_the_name(tmp_path: Path, authority: Authority) -> None:
    """A certificate for another name is refused before anything is sent, and so is one of another authority."""
    async with receiving(tls_for(tmp_path, "other.example.com", authority)) as receiver:
        url = f"https://{HOST}:{receiver.port}/"
        for folder, said in ((tmp_path, "another host name"), (None, "not trusted")):
            async with Outgoing(settings(folder), purpose="test", resolve=Names([HERE])) as outgoing:
                with pytest.raises(OutgoingFailed, match=said) as raised:
                    await outgoing.post(url, b"secret", {})
                assert raised.value.reason == "tls_error"
    assert receiver.received == []
    (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
    async with Outgoing(settings(tmp_path), purpose="test") as outgoing:
        with pytest.raises(ConfigurationError, match="CA"):
            await outgoing.post(url, b"", {})


async def test_answers_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is an answer, an endless body is cut, a slow one fails, and no proxy of the environment is used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    forget_names(monkeypatch)
    gone = asyncio.Event()

    async def endless(_: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
        finally:
            gone.set()

    async with receiving() as receiver, Outgoing(settings(), purpose="test") as outgoing:
        url = f"http://localhost:{receiver.port}/secret"
        dated = answer(429, b"", f"Date: {DAY} 10:00:00 GMT", f"Retry-After: {DAY} 10:00:30 GMT")
        moved = answer(302, b"", "Location: http://127.0.0.1:1/", "Retry-After: soon")
        receiver.answers(moved, answer(503, b"no", "Retry-After: 7"), dated)
        found = [await outgoing.post(url, b"", {}) for _ in range(3)]
        assert [(each.status, each.retry_after) for each in found] == [(302, None), (503, 7), (429, 30)]
        receiver.reply = endless
        cut = await outgoing.post(url, b"", {})
        assert (len(cut.body), cut.cut, cut.is_success) == (MAX_ANSWER_BYTES, True, True)
        await gone.wait()
        receiver.answers(answer(200, b"y" * MAX_ANSWER_BYTES))
        assert not (await outgoing.post(url, b"", {})).cut
        short = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        headers = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200
        for odd, reason in (
            (b"SMTP 220\r\n\r\n", "answer_unreadable"),
            (headers, "answer_unreadable"),
            (short.replace(b"200", b"500").replace(b"9\r\n", b"9\r\nContent-Length: 8\r\n"), "answer_unreadable"),
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" + TAKEN + b"x", "answer_unreadable"),
            (b"", "disconnected"),
        ):
            receiver.answers(odd)
            with pytest.raises(OutgoingFailed) as raised:
                await outgoing.post(url, b"", {})
            assert raised.value.reason == reason
            assert "secret" not in raised.value.in_one_line
        before = counted("timeout")
        # What never ends is waited for as long as is allowed, so that is short for these alone.
        async with Outgoing(settings(timeout_seconds=0.3), purpose="test") as hurried:
            for unending in (short.replace(b"200", b"500"), CONTINUE * 99):
                receiver.answers(unending)
                with pytest.raises(OutgoingFailed, match="in time") as raised:
                    await hurried.post(url, b"", {})
                assert raised.value.reason == "timeout"
                assert "secret" not in raised.value.in_one_line
        assert counted("timeout") - before == 2
    async with Outgoing(settings(), purpose="test") as outgoing:
        with pytest.raises(OutgoingFailed, match="nobody listens"):
            await outgoing.post(url, b"", {})
        with pytest.raises(OutgoingFailed, match="means no address") as raised:
            await outgoing.post("https://nowhere.invalid/", b"", {})
    assert raised.value.reason == "name_unknown"


async def test_a_success_is_one_whatever_follows() -> None:
    """A body after 204, one that breaks off, an odd header: it was taken. What comes before an answer has a limit."""
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"

    async def never_ending(_: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        while True:
            writer.write(CONTINUE * 100)
            await writer.drain()

    async with receiving() as receiver, Outgoing(settings(), purpose="test") as outgoing:
        url = f"http://localhost:{receiver.port}/secret"
        receiver.reply = never_ending
        with pytest.raises(OutgoingFailed, match="before an answer's body"):
            await outgoing.post(url, b"", {})
        twice = short.replace(b"9\r\n", b"9\r\nContent-Length: 8\r\n")
        for odd in (TAKEN + b"body", CONTINUE + TAKEN + b"body", twice):
            receiver.answers(odd)
            assert (await outgoing.post(url, b"", {})).is_success
        async with Outgoing(settings(timeout_seconds=0.3), purpose="test") as hurried:
            receiver.answers(short + b"x")
            unread = await hurried.post(url, b"", {})
            assert (unread.is_success, unread.body, unread.cut) == (True, b"", True)


async def test_headers_carry_nothing_of_their_own() -> None:
    """A value cannot begin another header, and none that the request itself needs can be given."""
    async with receiving() as receiver, Outgoing(settings(), purpose="test") as outgoing:
        for name, value in (("X-Own", "a\r\nX-Other: b"), ("Host", "inner"), ("content-length", "0")):
            with pytest.raises(ValueError, match="header"):
                await outgoing.post(f"http://{HERE}:{receiver.port}/", b"x", {name: value})
    assert receiver.received == []


async def test_a_destination_is_asked_by_few_at_once() -> None:
    """No more requests than the limit are under way to one receiver, whatever they are for; the others wait."""
    go, open_now, most = asyncio.Event(), 0, 0

    async def held(_: ReceivedPost, __: asyncio.StreamWriter) -> bytes:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await go.wait()
        open_now -= 1
        return answer(200)

    async with receiving() as receiver, Outgoing(settings(at_once_per_destination=2), purpose="test") as outgoing:
        receiver.reply = held
        url = f"http://{HERE}:{receiver.port}/"
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(outgoing.of(f"test-{number % 2}").post(url, b"", {}))
            await until(lambda: open_now == 2)
            await run_ready_tasks()
            go.set()
    assert (most, len(receiver.received)) == (2, 5)
