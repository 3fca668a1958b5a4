"""Calendly's OAuth server: codes and refresh tokens become pairs; tokens are looked at and revoked.

Source: docs/reference/calendly.md, "Credentials".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from slotwire.ingest.control.calendly_client.answers import DEFAULT_WAIT_SECONDS
from slotwire.ingest.control.calendly_client.leases import CallKind, Priority
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp
from slotwire.ingest.control.calendly_client.uses import Bearer, TokenUse, TurnLease
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, SlotwireError
from slotwire.schemas.ids import OrganizationUri

M = TypeVar("M", bound=BaseModel)

COUNT_SECONDS = 5.0
"""How long a consent waits at most until its request for a token is counted."""


class TokenPair(BaseModel):
    """What the token endpoint gives. Neither token is shown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    access_token: SecretStr
    refresh_token: SecretStr
    expires_in: float
    scope: str = ""
    owner: str
    organization: OrganizationUri


class _Introspection(BaseModel):
    model_config = ConfigDict(extra="ignore")

    active: bool


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error: str = ""


class _Nothing(BaseModel):
    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """Calls the OAuth server as our app. The audit says whose token each call was about, and on whose behalf."""

    http: CalendlyHttp
    client_id: str
    client_secret: SecretStr = field(repr=False)

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str, by: Bearer) -> TokenPair:
        """Turn an authorization code into a pair.

        Raises:
            CalendlyError: `credential`: the code is not good; others: see `_post`.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        token = TokenUse("oauth-exchange", None, by)
        return await self._token({**form, "code_verifier": verifier}, "exchanging an authorization code", token)

    async def count(self, pair: TokenPair) -> None:
        """Let the user's budget know of an exchange: only its answer told whose it is."""
        budgets = self.http.budgets
        caller = budgets.caller(pair.owner, Priority.PERSON, CallKind.TOKEN)
        with suppress(SlotwireError, TimeoutError):
            lease = await asyncio.wait_for(caller.turn("counting a request for a token"), COUNT_SECONDS)
            if lease is not None:
                budgets.uses.drop(lease, taken=True)  # the request has a row of its own

    async def refresh(self, token: SecretStr, *, user: str, by: Bearer, lease: TurnLease | None = None) -> TokenPair:
        """Turn a refresh token into the next pair. It works once.

        Raises:
            CalendlyError: `credential`: it is spent or revoked; `limited`: nothing happened; others: see `_post`.
        """
        form = {"grant_type": "refresh_token", "refresh_token": token.get_secret_value()}
        return await self._token(form, "refreshing a connection", TokenUse("oauth-refresh", user, by, lease))

    async def introspect(self, token: SecretStr, *, user: str, by: Bearer) -> bool:
        """Return whether a token works.

        Raises:
            CalendlyError: Calendly did not say.
        """
        use = TokenUse("oauth-introspect", user, by)
        return (await self._named("/oauth/introspect", token, _Introspection, "looking at a token", use)).active

    async def revoke(self, token: SecretStr, *, user: str, by: Bearer) -> None:
        """Revoke a token and its pair. One that is not known is no error.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        await self._named("/oauth/revoke", token, _Nothing, "revoking a token", TokenUse("oauth-revoke", user, by))

    async def _token(self, form: Mapping[str, str], doing: str, use: TokenUse) -> TokenPair:
        basic = (self.client_id, self.client_secret.get_secret_value())
        answer = await self.http.post_form("/oauth/token", form, basic=basic, doing=doing, token=use)
        return _read(answer, TokenPair, doing)

    async def _named(self, path: str, token: SecretStr, answer: type[M], doing: str, use: TokenUse) -> M:
        secret = self.client_secret.get_secret_value()
        form = {"client_id": self.client_id, "client_secret": secret, "token": token.get_secret_value()}
        return _read(await self.http.post_form(path, form, basic=None, doing=doing, token=use), answer, doing)


def outcome_known(error: CalendlyError) -> bool:
    """Return whether a token request that failed is known to have had no effect."""
    return error.problem in {CalendlyProblem.CREDENTIAL, CalendlyProblem.LIMITED, CalendlyProblem.PERMISSION}


def _read(answer: tuple[int, bytes], form: type[M], doing: str) -> M:
    """Read an answer of the OAuth server.

    Raises:
        CalendlyError: `credential` (invalid_grant), `limited`, `permission` (the app was not accepted): nothing
            happened. `upstream`, `unexpected`: it may have.
    """
    status, body = answer
    if 200 <= status < 300:
        try:
            return form.model_validate_json(body or b"{}")
        except ValidationError:
            raise CalendlyError(
                f"{doing}: the answer does not have the documented form",
                problem=CalendlyProblem.UNEXPECTED,
                status=status,
                remedy="Check that SLOTWIRE_CALENDLY__AUTH_URL is Calendly's address.",
            ) from None
    try:
        refusal = _Refusal.model_validate_json(body).error
    except ValidationError:
        refusal = ""
    if status == 429:
        raise CalendlyError(
            f"{doing}: too many requests at Calendly",
            problem=CalendlyProblem.LIMITED,
            status=status,
            wait=DEFAULT_WAIT_SECONDS,
            remedy="Wait a minute, then try again.",
        )
    if refusal == "invalid_grant":
        raise CalendlyError(
            f"{doing}: Calendly no longer accepts it",
            problem=CalendlyProblem.CREDENTIAL,
            status=status,
            remedy="Send the customer a new link: slotwire connections link --organization ORG",
        )
    if refusal in {"invalid_client", "unauthorized_client"}:
        raise CalendlyError(
            f"{doing}: Calendly does not accept the app",
            problem=CalendlyProblem.PERMISSION,
            status=status,
            remedy="Check SLOTWIRE_OAUTH__CLIENT_ID and SLOTWIRE_OAUTH__CLIENT_SECRET.",
        )
    raise CalendlyError(
        f"{doing}: Calendly failed with {status}",
        problem=CalendlyProblem.UPSTREAM,
        status=status,
        remedy="Try again later.",
    )
