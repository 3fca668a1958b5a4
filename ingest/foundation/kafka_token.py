"""Tokens for SASL/OAUTHBEARER: from a function of your own, which the settings name.

The function takes no arguments and returns a token with the time at which it expires. Slotwire calls it in a thread, so
it may wait for a network, and calls it again for the first connection after `FRESH_PART` of the token's life. For
example, for a broker of Amazon MSK with IAM, with the package `aws-msk-iam-sasl-signer-python` beside Slotwire:

    def token() -> tuple[str, datetime]:
        text, expires_in_ms = MSKAuthTokenProvider.generate_auth_token("eu-central-1")
        return text, datetime.fromtimestamp(expires_in_ms / 1000, UTC)

A connection stays open when its token expires. A broker that ends it then gets a new one, with a new token.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import cache
from threading import Lock, Thread
from typing import Any

from aiokafka import conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaError

from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.telemetry import get_logger

TOKEN_SECONDS = 8.0
"""How long the function may take; then the connection fails, and is tried again as any other."""
FRESH_PART = 0.8
"""For how much of its life a token is used for new connections."""
MAX_TOKEN_CHARACTERS = 65_536
"""A longer token is refused."""
VARIABLE = "SLOTWIRE_KAFKA__TOKEN_PROVIDER"
_log = get_logger("kafka")

Provider = Callable[[], tuple[str, datetime]]


class TokenUnavailable(KafkaError):  # type: ignore[misc]  # aiokafka ships no types
    """The function gave no token. Its own message is not repeated: it may hold secrets.

    Attributes:
        provider: its name in the settings.
        problem: the class of its error.
    """

    def __init__(self, provider: str, problem: str) -> None:
        super().__init__(f"{provider} gave no token ({problem})")
        self.provider, self.problem = provider, problem


class TokenSource(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
    """One token for all connections of a process, asked for again before it expires.

    Args:
        name: the function's, for messages.
        provider: the function.
        clock: tells whether a token is fresh.
    """

    def __init__(self, name: str, provider: Provider, clock: Clock) -> None:
        super().__init__()
        self.name = name
        self._provider = provider
        self._clock = clock
        self._asking = Lock()
        self._token = ""
        self._fresh_until = datetime.min.replace(tzinfo=UTC)

    async def token(self) -> str:
        """Return a token that has not expired.

        Raises:
            TokenUnavailable: the function raised, took longer than `TOKEN_SECONDS`, or returned something else.
        """
        if self._clock.now() < self._fresh_until:
            return self._token
        answer: Future[str] = Future()
        # A thread outside the pool: a function that never returns holds up neither look-ups of names nor a stop.
        Thread(target=self._answer, args=(answer,), name="kafka-token", daemon=True).start()
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                return await asyncio.wrap_future(answer)
        except Exception as error:  # noqa: BLE001 -- the function is not our code, and its message may hold secrets
            _log.warning("kafka_token_unavailable", provider=self.name, error=type(error).__name__)
            raise TokenUnavailable(self.name, type(error).__name__) from None

    def _answer(self, answer: Future[str]) -> None:
        """In a thread: ask for a token, unless another thread has just got one."""
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(self._current())
        except BaseException as error:  # noqa: BLE001 -- it goes to whoever waits
            answer.set_exception(error)

    def _current(self) -> str:
        if not self._asking.acquire(timeout=TOKEN_SECONDS):
            raise TimeoutError
        try:
            now = self._clock.now()
            if now >= self._fresh_until:
                self._token, self._fresh_until = _checked(self._provider(), now)
            return self._token
        finally:
            self._asking.release()


class _Handshake(conn.OAuthAuthenticator):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka's half of the handshake, which takes a refusal for a success.

    A broker refuses a token by an answer that says why (RFC 7628, section 3.2.2) where it would have sent none.
    aiokafka 0.14 does not look at it: it goes on as if it were authenticated, and finds neither brokers nor topics.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:
            _log.warning("kafka_token_refused")
            raise AuthenticationFailedError("the broker refused the token")
        following: tuple[bytes, bool] | None = await super().step(payload)
        return following


conn.OAuthAuthenticator = _Handshake


def _checked(given: Any, now: datetime) -> tuple[str, datetime]:
    """Return a token with the time until which it is used for new connections."""
    token, expires_at = given
    if not isinstance(token, str) or not token.isascii() or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        raise TypeError("not a token")
    if any(sign <= " " for sign in token):
        raise ValueError("a token has no blanks")
    if not isinstance(expires_at, datetime) or expires_at <= now:  # without a time zone this raises, as it should
        raise ValueError("not a time to come")
    return token, now + (expires_at - now) * FRESH_PART


@cache
def token_source(name: str) -> TokenSource:
    """Import the function that the settings name, once per process.

    Args:
        name: `package.module:function`.

    Raises:
        ConfigurationError: it cannot be imported, or is not callable.
    """
    module_name, _, function = name.partition(":")
    remedy = f"{VARIABLE} is package.module:function of a package that is installed beside Slotwire."
    try:
        provider = getattr(importlib.import_module(module_name), function, None)
    except Exception as error:
        raise ConfigurationError(
            f"the module of {VARIABLE}, {module_name}, cannot be imported ({type(error).__name__})", remedy=remedy
        ) from error
    if not callable(provider):
        raise ConfigurationError(f"{module_name} has no function {function}", remedy=remedy)
    return TokenSource(name, provider, SystemClock())
