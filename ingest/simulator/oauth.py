"""`/oauth/…`: a consent page, the token endpoint, revocation and introspection; and `/simulator/oauth`.

    GET  /oauth/authorize      the consent page; a script passes it with the form's fields and `user`, `decision`
    POST /oauth/authorize      sends the browser back with a code, or with error=access_denied
    POST /oauth/token          authorization_code with PKCE S256, refresh_token; HTTP Basic or fields in the body
    POST /oauth/revoke · /oauth/introspect
    GET  /simulator/oauth      client id, secret and signing key of the app, and counts
    POST /simulator/oauth {rotate_signing_key, revoke_user}

Source: docs/reference/calendly.md, "Credentials". Errors have OAuth's shape: {error, error_description}.
"""

from __future__ import annotations

import base64
import binascii
import html
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from slotwire.ingest.simulator import requests
from slotwire.ingest.simulator.control import read
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import RestGate, failed, json_answer
from slotwire.ingest.simulator.model import Json, uri
from slotwire.ingest.simulator.oauth_grants import ACCESS_LIFE, Grants, RefreshToken, challenge_of, same
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found
from slotwire.ingest.simulator.transport import is_loopback
from slotwire.ingest.simulator.world import OAuthApp

INVALID_GRANT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the"
    " authorization request, or was issued to another client."
)
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Allow access? (simulated Calendly)</title>
</head><body><h1>Simulated Calendly</h1><p>The app <b>{client}</b> asks for: {scopes}.</p>
<form method="post" action="/oauth/authorize">{fields}
<label>Log in as <select name="user" id="user">{users}</select></label>
<button name="decision" value="allow" id="allow">Allow</button>
<button name="decision" value="deny" id="deny">Deny</button></form></body></html>"""
_KEPT = ("client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method")


class TokenRefusal(Exception):
    """A refusal of the OAuth endpoints."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.body: Json = {"error": error, "error_description": description or error.replace("_", " ")}
        self.status = status


class OAuthCalls:
    """Handlers for the OAuth endpoints of one app."""

    def __init__(self, engine: Engine, gate: RestGate, app: OAuthApp, grants: Grants) -> None:
        self._engine = engine
        self._gate = gate
        self._app = app
        self.grants = grants
        self._requests = 0

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/oauth/authorize", self.ask),
            web.post("/oauth/authorize", self.decide),
            web.post("/oauth/token", self.token),
            web.post("/oauth/revoke", self.revoke),
            web.post("/oauth/introspect", self.introspect),
            web.get("/simulator/oauth", self.show),
            web.post("/simulator/oauth", self.change),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """Show the consent page: a user can be chosen, because there is no login."""
        asked = self._checked(request.query)
        fields = "".join(f'<input type="hidden" name="{name}" value="{_safe(asked[name])}">' for name in _KEPT)
        users = "".join(
            f'<option value="{_safe(user.id)}">{_safe(user.name)} ({user.role})</option>'
            for user in self._engine.world.users.values()
        )
        page = _PAGE.format(client=_safe(asked["client_id"]), scopes=_safe(asked["scope"]), fields=fields, users=users)
        return web.Response(text=page, content_type="text/html")

    async def decide(self, request: web.Request) -> web.Response:
        """Send the browser back to the app."""
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        asked = self._checked(form)
        issuer = {"iss": f"{request.scheme}://{request.host}"}
        if form.get("decision") != "allow":
            answer = {"error": "access_denied", "error_description": "The user denied the request."}
        else:
            user = self._engine.world.users.get(form.get("user", ""))
            if user is None:
                raise not_found()
            scopes = tuple(asked["scope"].split())
            code = self.grants.issue_code(user.id, scopes, asked["redirect_uri"], asked["code_challenge"])
            self._engine.commit()
            answer = {"code": code}
        query = urlencode({**answer, "state": asked["state"], **issuer})
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return web.Response(status=302, headers={"Location": f"{asked['redirect_uri']}{joint}{query}"})

    async def token(self, request: web.Request) -> web.Response:
        """Give a pair for a code or a refresh token. An answer may be lost before or after its effect."""
        self._requests += 1
        draws, faults = Draws(self._engine.seed, "token request", self._requests), self._engine.sender.faults
        if draws.chance(faults.token_error_rate):
            return failed()
        try:
            answer = json_answer(await self._token(request))
        except TokenRefusal as refusal:
            return json_answer(refusal.body, refusal.status)
        self._engine.commit()
        return failed() if draws.chance(faults.token_lost_answer_rate) else answer

    async def _token(self, request: web.Request) -> Json:
        form = await self._authenticated(request)
        match form.get("grant_type"):
            case "authorization_code":
                code = self.grants.code(form.get("code", ""))
                if (
                    code is None
                    or code.redirect_uri != form.get("redirect_uri")
                    or not same(code.challenge, challenge_of(form.get("code_verifier", "")))
                ):
                    raise TokenRefusal("invalid_grant", INVALID_GRANT)
                self._count(code.user)
                return self._pair(self.grants.spend_code(form["code"]))
            case "refresh_token":
                old = self.grants.refresh_token(form.get("refresh_token", ""))
                if old is None or old.state != "active":
                    raise TokenRefusal("invalid_grant", INVALID_GRANT)
                self._count(old.user)
                return self._pair(self.grants.rotate(old))
        raise TokenRefusal("unsupported_grant_type")

    async def revoke(self, request: web.Request) -> web.Response:
        """Revoke a token with its pair; one that is not known is no error (RFC 7009, 2.2)."""
        try:
            form = await self._authenticated(request)
        except TokenRefusal as refusal:
            return json_answer(refusal.body, refusal.status)
        self.grants.revoke(form.get("token", ""))
        self._engine.commit()
        return json_answer({})

    async def introspect(self, request: web.Request) -> web.Response:
        """Say whether a token works."""
        try:
            form = await self._authenticated(request)
        except TokenRefusal as refusal:
            return json_answer(refusal.body, refusal.status)
        value, now = form.get("token", ""), self._engine.clock.now()
        found = self.grants.refresh_token(value)
        access = next((each for each in self._gate.tokens() if each.value == value and each.app), None)
        if found is not None and found.state == "active":
            scopes, kind = found.scopes, "refresh_token"
        elif access is not None and access.state_at(now) == "valid":
            scopes, kind = access.scopes, "access_token"
        else:
            return json_answer({"active": False})
        return json_answer(
            {"active": True, "scope": " ".join(scopes), "client_id": self._app.client_id, "token_type": kind}
        )

    async def show(self, _: web.Request) -> web.Response:
        """Return the app, its secrets too: they are worth nothing anywhere else."""
        return json_answer(
            {
                "client_id": self._app.client_id,
                "client_secret": self._app.client_secret,
                "signing_key": self._engine.sender.app_key,
                "grants": self.grants.active(),
                "refreshed": {uri("users", user): count for user, count in self.grants.refreshed.items()},
            }
        )

    async def change(self, request: web.Request) -> web.Response:
        """Rotate the app's signing key, or revoke what a user granted."""
        wanted = await read(request, requests.OAuthChange)
        if wanted.revoke_user is not None:
            self.grants.revoke_user(wanted.revoke_user)
        if wanted.rotate_signing_key:
            number = self._engine.bookings.next_number("app key")
            octets = Draws(self._engine.seed, "app key", number).octets(32)
            self._engine.set_app_key(base64.urlsafe_b64encode(octets).rstrip(b"=").decode())
        self._engine.commit()
        return await self.show(request)

    def _checked(self, given: Mapping[str, str]) -> dict[str, str]:
        asked = {name: given.get(name, "") for name in _KEPT}
        target = urlsplit(asked["redirect_uri"])
        if asked["client_id"] != self._app.client_id or not is_loopback(target.hostname or ""):
            raise SimulatedRefusal(400, "Invalid Argument", "Unknown client, or a redirect address elsewhere.")
        if asked["response_type"] != "code" or asked["code_challenge_method"] != "S256" or not asked["code_challenge"]:
            raise SimulatedRefusal(400, "Invalid Argument", "response_type code with PKCE S256 is needed.")
        return asked

    async def _authenticated(self, request: web.Request) -> dict[str, str]:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                client, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                client = ""
        if client != self._app.client_id or not same(secret, self._app.client_secret):
            raise TokenRefusal("invalid_client", "Client authentication failed.", 401)
        return form

    def _count(self, user: str) -> None:
        if not self.grants.within_rate(user):
            raise TokenRefusal("too_many_requests", "Too many tokens for this user.", 429)

    def _pair(self, made: RefreshToken) -> Json:
        user = self._engine.world.users[made.user]
        return {
            "access_token": made.access,
            "refresh_token": made.value,
            "token_type": "Bearer",
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "created_at": int(self._engine.clock.now().timestamp()),
            "scope": " ".join(made.scopes),
            "owner": uri("users", user.id),
            "organization": uri("organizations", user.organization),
        }


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
