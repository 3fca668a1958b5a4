"""When the function that gives Kafka's tokens is asked, what it may return, and what its failures show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from slotwire.ingest.foundation import kafka_token
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.kafka_token import FRESH_PART, MAX_TOKEN_CHARACTERS, TokenSource, TokenUnavailable
from slotwire.ingest.foundation.settings import KafkaSettings

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LIFE = timedelta(minutes=15)
SASL: dict[str, Any] = {"bootstrap_servers": "a:1", "security_protocol": "SASL_SSL"}


class Provider:
    """Counts its calls, and gives `token-N` for a quarter of an hour."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.calls = clock, 0

    def __call__(self) -> tuple[str, datetime]:
        """Give the next token."""
        self.calls += 1
        return f"token-{self.calls}", self.clock.now() + LIFE


def returning(value: object) -> Callable[[], Any]:
    """Make a provider that returns this."""
    return lambda: value


async def test_a_token_is_used_for_most_of_its_life() -> None:
    """New connections share a token until `FRESH_PART` of its life is over; then the next one asks again."""
    clock = ManualClock(NOW)
    provider = Provider(clock)
    source = TokenSource("a:b", provider, clock)
    assert await asyncio.gather(*(source.token() for _ in range(8))) == ["token-1"] * 8
    clock.advance(LIFE * FRESH_PART - timedelta(microseconds=1))
    assert await source.token() == "token-1"
    clock.advance(timedelta(microseconds=1))
    assert await source.token() == "token-2"
    assert provider.calls == 2


async def test_a_failure_is_not_kept() -> None:
    """After a failure the next connection asks again; the error names the function and the class, not the message."""
    clock = ManualClock(NOW)
    provider, failures = Provider(clock), [RuntimeError("a-secret")]

    def sometimes() -> tuple[str, datetime]:
        if failures:
            raise failures.pop()
        return provider()

    source = TokenSource("a:b", sometimes, clock)
    with pytest.raises(TokenUnavailable, match="a:b gave no token") as seen:
        await source.token()
    assert (seen.value.provider, seen.value.problem) == ("a:b", "RuntimeError")
    assert "a-secret" not in str(seen.value)
    assert await source.token() == "token-1"


async def test_a_function_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the connection fails; whoever asks meanwhile fails too, and when it returns its token is used."""
    monkeypatch.setattr(kafka_token, "TOKEN_SECONDS", 0.05)
    clock, go, done = ManualClock(NOW), Event(), Event()
    provider = Provider(clock)

    def slow() -> tuple[str, datetime]:
        go.wait()
        try:
            return provider()
        finally:
            done.set()

    source = TokenSource("a:b", slow, clock)
    found = await asyncio.gather(source.token(), source.token(), return_exceptions=True)
    assert [type(problem) for problem in found] == [TokenUnavailable] * 2
    go.set()
    await asyncio.to_thread(done.wait)
    monkeypatch.setattr(kafka_token, "TOKEN_SECONDS", 5.0)
    assert await source.token() == "token-1"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "token",
        (b"token", NOW + LIFE),
        ("", NOW + LIFE),
        ("two words", NOW + LIFE),
        ("line\n", NOW + LIFE),
        ("tökén", NOW + LIFE),
        ("x" * (MAX_TOKEN_CHARACTERS + 1), NOW + LIFE),
        ("token", NOW),
        ("token", (NOW + LIFE).replace(tzinfo=None)),
        ("token", (NOW + LIFE).timestamp()),
    ],
    ids=["none", "alone", "bytes", "empty", "blank", "newline", "letters", "long", "expired", "zoneless", "number"],
)
async def test_only_a_token_with_its_expiry_is_taken(given: object) -> None:
    """Anything but a printable token and an aware time to come is a failure of the provider."""
    with pytest.raises(TokenUnavailable):
        await TokenSource("a:b", returning(given), ManualClock(NOW)).token()


async def test_the_longest_token_is_taken() -> None:
    """A token of exactly the limit is used."""
    longest = "x" * MAX_TOKEN_CHARACTERS
    assert await TokenSource("a:b", returning((longest, NOW + LIFE)), ManualClock(NOW)).token() == longest


def test_the_settings_want_what_the_mechanism_needs() -> None:
    """OAUTHBEARER needs a provider and no password, the others a password; a provider has the form module:function."""
    assert KafkaSettings(**SASL, sasl_mechanism="OAUTHBEARER", token_provider="a.b:c").sasl_password is None
    with pytest.raises(ValidationError, match="OAUTHBEARER needs SLOTWIRE_KAFKA__TOKEN_PROVIDER"):
        KafkaSettings(**SASL, sasl_mechanism="OAUTHBEARER", sasl_username="a", sasl_password=SecretStr("b"))
    with pytest.raises(ValidationError, match="SASL needs SLOTWIRE_KAFKA__SASL_USERNAME"):
        KafkaSettings(**SASL, sasl_mechanism="PLAIN", token_provider="a.b:c")
    for name in ("a.b", "a.b:", ":c", "a b:c", "a:b:c"):
        with pytest.raises(ValidationError, match="token_provider"):
            KafkaSettings(**SASL, sasl_mechanism="OAUTHBEARER", token_provider=name)
