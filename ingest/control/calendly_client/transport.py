"""HTTP to Calendly: the one place that imports httpx and translates its exceptions.

A token never leaves this object except in the request's header: not in a log, a message or a text form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
import stamina
from pydantic import BaseModel, SecretStr, ValidationError

from slotwire.ingest.control.calendly_client.answers import read_error
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, ConfigurationError, RequestRefused
from slotwire.ingest.foundation.settings import LOOPBACK, CalendlySettings

M = TypeVar("M", bound=BaseModel)
Refused: TypeAlias = Callable[[], Awaitable[None]]

CONNECT_SECONDS = 5.0
MAX_ANSWER_BYTES = 4_194_304
"""A longer answer is refused: a full page of 100 items is far below."""
MAX_TOKEN_LENGTH = 8_192
"""Characters; tokens are JWTs of less than 2,000."""

# Calendly's edge refuses the default agents of HTTP libraries.
_USER_AGENT = f"slotwire/{version('slotwire')}"
# What may pass. Of a write only a 429 is known to have done nothing.
_READ_AGAIN = frozenset({CalendlyProblem.UPSTREAM, CalendlyProblem.UNREACHABLE, CalendlyProblem.LIMITED})
_WRITE_AGAIN = frozenset({CalendlyProblem.LIMITED})


@dataclass(frozen=True)
class CallRetries:
    """How long a request may take, and when a safe one is tried again. Waits double and carry jitter.

    Attributes:
        attempts: tries in all.
        first_wait_seconds: before the second try; also the largest jitter.
        max_wait_seconds: the longest wait between two tries; a 429 that asks for more is given up at once.
        answer_seconds: one try, from connecting to the last octet of the answer; for unsafe requests too.
    """

    attempts: int = 4
    first_wait_seconds: float = 0.25
    max_wait_seconds: float = 5.0
    answer_seconds: float = 20.0


class CalendlyTransport:
    """Calls of one token. Made by `connect`."""

    def __init__(
        self, http: httpx.AsyncClient, token: SecretStr, retries: CallRetries, refused: Refused | None = None
    ) -> None:
        self._http = http
        self._token = token
        self._retries = retries
        self._refused = refused

    async def get(self, path: str, answer: type[M], *, doing: str, query: Mapping[str, str] | None = None) -> M:
        """Read a resource; tried again while Calendly fails.

        Raises:
            CalendlyError: see `CalendlyProblem`.
        """
        return _parse(await self._patiently("GET", path, _READ_AGAIN, doing=doing, query=query), answer, doing)

    async def post(self, path: str, body: Mapping[str, object], answer: type[M], *, doing: str) -> M:
        """Create a resource. Tried again after a 429 only: a lost answer does not say that nothing happened.

        Raises:
            CalendlyError: see `CalendlyProblem`; `unreachable` and `upstream` may have had their effect.
        """
        return _parse(await self._patiently("POST", path, _WRITE_AGAIN, doing=doing, body=body), answer, doing)

    async def delete(self, path: str, *, doing: str) -> None:
        """Delete a resource; tried again while Calendly fails, because deleting twice is deleting once.

        Raises:
            CalendlyError: see `CalendlyProblem`.
        """
        await self._patiently("DELETE", path, _READ_AGAIN, doing=doing)

    async def _patiently(
        self,
        method: str,
        path: str,
        passing: frozenset[CalendlyProblem],
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> bytes:
        policy = self._retries

        def again(error: Exception) -> bool | float:
            if not isinstance(error, CalendlyError) or error.problem not in passing:
                return False
            if error.wait is None:
                return True
            return error.wait if error.wait <= policy.max_wait_seconds else False

        async for attempt in stamina.retry_context(
            on=again,
            attempts=policy.attempts,
            timeout=None,
            wait_initial=policy.first_wait_seconds,
            wait_max=policy.max_wait_seconds,
            wait_jitter=policy.first_wait_seconds,
        ):
            with attempt:
                return await self._once(method, path, doing=doing, query=query, body=body)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _once(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> bytes:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else orjson.dumps(body)
        try:
            async with (
                asyncio.timeout(self._retries.answer_seconds),
                self._http.stream(method, path, params=query, content=content, headers=headers) as response,
            ):
                received = await _bounded(response, doing)
        except (httpx.HTTPError, TimeoutError) as error:
            # The exception's text may name the address asked; its class says enough.
            raise CalendlyError(
                f"{doing}: no answer from Calendly ({type(error).__name__})",
                problem=CalendlyProblem.UNREACHABLE,
                remedy="Is the network up, and SLOTWIRE_CALENDLY__API_URL right?",
            ) from None
        if response.is_success:
            return received
        refusal = read_error(response.status_code, response.headers, received, doing=doing)
        if refusal.problem is CalendlyProblem.CREDENTIAL and self._refused is not None:
            await self._refused()
        raise refusal


@asynccontextmanager
async def connect(
    settings: CalendlySettings,
    token: SecretStr,
    *,
    retries: CallRetries | None = None,
    refused: Refused | None = None,
) -> AsyncIterator[CalendlyTransport]:
    """Open connections for one token while the block runs. Nothing is asked yet.

    Args:
        settings: where Calendly is.
        token: whom to ask as.
        retries: when a request is tried again.
        refused: is told when Calendly does not accept the token, before the call that met it fails.

    Raises:
        ConfigurationError: the address is not https (loopback excepted).
        RequestRefused: the text cannot be a token.
    """
    url = urlsplit(settings.api_url)
    loopback = url.hostname in LOOPBACK
    if not url.hostname or (url.scheme != "https" and not (url.scheme == "http" and loopback)):
        raise ConfigurationError(
            "SLOTWIRE_CALENDLY__API_URL must be an https address: a token goes there",
            remedy="Unset it for the real Calendly; a simulator on this machine may use http.",
        )
    _check_token(token)
    async with httpx.AsyncClient(
        base_url=settings.api_url,
        headers={"User-Agent": _USER_AGENT, "Accept": "application/json"},
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # each try has a limit as a whole
        follow_redirects=False,
        # A proxy of the environment is for the world outside, never for a simulator on this machine.
        trust_env=not loopback,
    ) as http:
        yield CalendlyTransport(http, token, retries or CallRetries(), refused)


def _check_token(token: SecretStr) -> None:
    text = token.get_secret_value()
    if not text or len(text) > MAX_TOKEN_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise RequestRefused(
            "this is no Calendly token: it is empty, too long, or has blanks or line breaks in it",
            code="token_unfit",
            remedy="Give the token alone, on one line.",
        )


async def _bounded(response: httpx.Response, doing: str) -> bytes:
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            raise CalendlyError(
                f"{doing}: the answer is longer than {MAX_ANSWER_BYTES} bytes",
                problem=CalendlyProblem.UNEXPECTED,
                status=response.status_code,
                remedy="Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address.",
            )
    return bytes(received)


def _parse(body: bytes, answer: type[M], doing: str) -> M:
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        places = ", ".join(".".join(map(str, issue["loc"])) or "body" for issue in issues[:3])
        raise CalendlyError(
            f"{doing}: the answer does not have the documented form, at: {places}",
            problem=CalendlyProblem.UNEXPECTED,
            remedy="Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address.",
        ) from None
