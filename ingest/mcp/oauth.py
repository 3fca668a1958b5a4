"""The token endpoint and what is said of it: an agent's secret is exchanged for a token (client credentials).

There is no other grant: no browser, no code, no refresh token. A host with a person in front is given a token that was
made for it (`slotwire mcp token`), or none.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.mcp.agents import Agents, KnownAgent
from slotwire.ingest.mcp.tokens import TokenKeys

TOKEN = "/oauth/token"  # noqa: S105 -- because it is a path
AUTHORIZE = "/oauth/authorize"
"""Named in the metadata, because the official client reads none without it; it says that nobody signs in."""
SERVER_METADATA = "/.well-known/oauth-authorization-server"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
SCOPE = "mcp"
"""The scope that every token has. `user:ID` chooses the user, `chain:ID` the only chain of bookings it reaches."""
USERS = "https://api.calendly.com/users/"
_USER = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)


class TokenRefused(Exception):
    """No token is issued. Attributes as RFC 6749, section 5.2, has them.

    Attributes:
        error: the code.
        description: what is wrong and what to do.
        status: of HTTP.
    """

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was issued.

    Attributes:
        agent: for whom.
        user: whom it acts for.
        answer: what the token endpoint answers.
    """

    agent: KnownAgent
    user: str
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Issues tokens for the endpoints of one listener.

    Attributes:
        base: the listener's public address.
    """

    base: str
    agents: Agents
    keys: TokenKeys
    clock: Clock

    def audience(self, name: str) -> str:
        """Return the address of an agent's endpoint, which its tokens are bound to."""
        return f"{self.base}/mcp/{name}"

    async def issue(self, form: Mapping[str, Sequence[str]], authorization: str) -> Issued:
        """Exchange an agent's secret for a token.

        Args:
            form: the fields of the request.
            authorization: its header; empty where there is none.

        Raises:
            TokenRefused: nothing is issued.
            DatabaseUnavailable: Postgres is away.
        """
        if _one(form, "grant_type") != "client_credentials":
            raise TokenRefused("unsupported_grant_type", "the only grant is client_credentials")
        name, secret = _client(form, authorization)
        agent = await self.agents.with_secret(secret)
        if agent is None or name not in (agent.name, str(agent.id)):
            raise TokenRefused("invalid_client", "there is no such agent, or it was revoked", 401)
        audience = self.audience(agent.name)
        if any(each != audience for each in form.get("resource", ())):
            raise TokenRefused("invalid_target", f"the endpoint of this agent is {audience}")
        asked, chain = _scope(_one(form, "scope"))
        user = await self._user(agent, asked)
        token, ends = self.keys.issue(audience, agent.id, user, chain, self.clock.now())
        scope = [SCOPE, f"user:{user.removeprefix(USERS)}", *([] if chain is None else [f"chain:{chain}"])]
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int((ends - self.clock.now()).total_seconds()),
            "scope": " ".join(scope),
        }
        return Issued(agent, user, answer)

    async def _user(self, agent: KnownAgent, asked: str | None) -> str:
        users = await self.agents.users_of(agent.id, asked)
        if asked is not None and not users:
            raise TokenRefused("invalid_scope", "this agent may not act for that user, or the user is not connected")
        if not users:
            raise TokenRefused("invalid_scope", "no user that this agent may act for is connected")
        if len(users) > 1:
            named = ", ".join(f"user:{each.removeprefix(USERS)}" for each in users)
            raise TokenRefused("invalid_scope", f"choose a user with `scope`: {named}")
        return users[0]

    def server_metadata(self) -> dict[str, Any]:
        """Describe the authorization server (RFC 8414)."""
        return {
            "issuer": self.base,
            "authorization_endpoint": self.base + AUTHORIZE,
            "token_endpoint": self.base + TOKEN,
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": [SCOPE],
        }

    def resource_metadata(self, name: str) -> dict[str, Any]:
        """Describe the endpoint of an agent (RFC 9728). It says the same of a name that nobody has."""
        return {
            "resource": self.audience(name),
            "authorization_servers": [self.base],
            "scopes_supported": [SCOPE],
            "bearer_methods_supported": ["header"],
            "resource_name": "Slotwire",
        }

    def challenge(self, name: str) -> str:
        """Say how to get a token, in `WWW-Authenticate`."""
        metadata = f"{self.base}{RESOURCE_METADATA}/mcp/{name}"
        return f'Bearer error="invalid_token", scope="{SCOPE}", resource_metadata="{metadata}"'


def _one(form: Mapping[str, Sequence[str]], name: str) -> str:
    found = form.get(name, ())
    if len(found) > 1:
        raise TokenRefused("invalid_request", f"{name} is there more than once")
    return found[0] if found else ""


def _client(form: Mapping[str, Sequence[str]], authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        if form.get("client_secret"):
            raise TokenRefused("invalid_request", "the secret is there twice: in the header and in the form")
        try:
            name, _, secret = base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        except ValueError:  # also of characters that base64 does not have
            raise TokenRefused("invalid_client", "the header `Authorization` cannot be read", 401) from None
        return unquote_plus(name), unquote_plus(secret)
    return _one(form, "client_id"), _one(form, "client_secret")


def _scope(text: str) -> tuple[str | None, UUID | None]:
    """Read which user and chain a token is to be for."""
    user: str | None = None
    chain: UUID | None = None
    for each in text.split():
        kind, _, value = each.partition(":")
        if each == SCOPE:
            continue
        if kind == "user" and user is None and _USER.fullmatch(value):
            user = USERS + value
        elif kind == "chain" and chain is None:
            try:
                chain = UUID(value)
            except ValueError:
                raise TokenRefused("invalid_scope", "chain:ID takes the `chain` of a booking") from None
        else:
            raise TokenRefused("invalid_scope", f"`scope` takes {SCOPE}, one user:ID and one chain:ID")
    return user, chain
