"""`/simulator/…` for tokens, members and plans, and for the record of REST calls.

POST /simulator/tokens {user, organization, scopes, expires_in_seconds} · /simulator/tokens/state {token, state}
POST /simulator/users {user, organization, role}          moves a user or changes their role
POST /simulator/organizations {organization, plan, webhooks}
GET  /simulator/rates · POST {window, retry_after, reset_zero, reset_skew_seconds, others_per_minute}
POST /simulator/rates/spend {user, calls}                 calls that another program makes as a user
GET  /simulator/calls?after&count&organization&user&foreign   the REST calls since the start
GET  /simulator/calls/summary                             counts; `foreign_calls` reached another organization

An organization with plan `free` has no routing form and recap events and a tenth of the rate; with `webhooks` false
it gets no subscription, as below Standard until November 2026 (docs/reference/calendly.md, "Events", "REST").
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from aiohttp import web

from slotwire.ingest.simulator import payloads, requests
from slotwire.ingest.simulator.calls import RestCall
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.control import MAX_LISTING, read
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import RestGate, json_answer
from slotwire.ingest.simulator.model import Token, uri
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found
from slotwire.ingest.simulator.world import personal_access_token


class Access:
    """Handlers for tokens, members, plans and the record of calls."""

    def __init__(self, engine: Engine, gate: RestGate) -> None:
        self._engine = engine
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/simulator/tokens", self.issue_token),
            web.post("/simulator/tokens/state", self.set_token_state),
            web.post("/simulator/users", self.change_user),
            web.post("/simulator/organizations", self.change_organization),
            web.get("/simulator/rates", self.rates),
            web.post("/simulator/rates", self.set_rates),
            web.post("/simulator/rates/spend", self.spend),
            web.get("/simulator/calls", self.calls),
            web.get("/simulator/calls/summary", self.summary),
        ]

    async def issue_token(self, request: web.Request) -> web.Response:
        """Issue another token, for example one with few scopes, or one that expires."""
        wanted = await read(request, requests.IssueToken)
        user = self._user(wanted)
        number = self._engine.bookings.next_number("token")
        lasts = wanted.expires_in_seconds
        ends = None if lasts is None else self._engine.clock.now() + timedelta(seconds=lasts)
        scopes = tuple(wanted.scopes)
        value = personal_access_token(self._engine.seed, user, scopes, number, ends)
        return self._put_token(Token(value, user, scopes, expires_at=ends))

    async def set_token_state(self, request: web.Request) -> web.Response:
        """Revoke a token, expire it, or make it valid again."""
        wanted = await read(request, requests.TokenStateChange)
        for token in self._gate.tokens():
            if token.value == wanted.token:
                return self._put_token(dataclasses.replace(token, state=wanted.state))
        raise not_found()

    async def change_user(self, request: web.Request) -> web.Response:
        """Move a user, or change their role; their tokens act with the new organization and role."""
        wanted = await read(request, requests.UserChange)
        self._engine.changes.user(wanted.user, wanted.organization, wanted.role)
        self._engine.commit()
        return json_answer(payloads.membership(self._engine.world.users[wanted.user]))

    async def change_organization(self, request: web.Request) -> web.Response:
        """Change an organization's plan; its subscriptions stay."""
        wanted = await read(request, requests.OrganizationChange)
        self._engine.changes.organization(wanted.organization, wanted.plan, wanted.webhooks)
        self._engine.commit()
        found = self._engine.world.organizations[wanted.organization]
        return json_answer({**payloads.organization(found), "webhooks": found.webhooks})

    async def rates(self, _: web.Request) -> web.Response:
        """Return how users' calls are counted."""
        return json_answer(dataclasses.asdict(self._gate.rates.rules))

    async def set_rates(self, request: web.Request) -> web.Response:
        """Change how they are; rules that the body leaves out stay."""
        wanted = (await read(request, requests.RateChange)).model_dump(exclude_none=True)
        self._gate.rates.rules = dataclasses.replace(self._gate.rates.rules, **wanted)
        return await self.rates(request)

    async def spend(self, request: web.Request) -> web.Response:
        """Spend calls of a user, as another program does."""
        wanted = await read(request, requests.SpendCalls)
        user = self._engine.world.users.get(wanted.user)
        if user is None:
            raise not_found()
        state = self._gate.rates.spend(user.id, wanted.calls, self._gate.limit_of(user), self._engine.clock.now())
        return json_answer({"limit": state.limit, "remaining": max(state.limit - state.used, 0)})

    async def calls(self, request: web.Request) -> web.Response:
        """List REST calls; `next_cursor` is the next call's `after`."""
        query = request.query
        count, after = query.get("count", "100"), query.get("after", "0")
        if not count.isdecimal() or not 1 <= int(count) <= MAX_LISTING or not after.isdecimal():
            raise SimulatedRefusal(
                400, "Invalid Argument", f"count must be from 1 to {MAX_LISTING}, after a call's number"
            )
        organization, user = (query.get(name, "").rpartition("/")[2] for name in ("organization", "user"))

        def wanted(call: RestCall) -> bool:
            mine = organization in {"", call.organization} and user in {"", call.user}
            return mine and (query.get("foreign") != "true" or call.foreign)

        found = self._gate.calls.listing(int(after), int(count), wanted)
        items = [call.shown() for call in found]
        return json_answer({"items": items, "next_cursor": found[-1].number if len(found) == int(count) else None})

    async def summary(self, _: web.Request) -> web.Response:
        """Return counts of the REST calls."""
        return json_answer(self._gate.calls.summary())

    def _user(self, wanted: requests.IssueToken) -> str:
        world = self._engine.world
        tenant = self._engine.organization(wanted.organization)
        if wanted.user is None:
            owner = next((each for each in world.members(tenant) if each.role == "owner"), None)
            if owner is None:
                raise SimulatedRefusal(404, "Resource Not Found", "the organization has no owner any more: name a user")
            return owner.id
        found = world.users.get(wanted.user)
        if found is None or (wanted.organization and found.organization != tenant):
            raise not_found()
        return found.id

    def _put_token(self, token: Token) -> web.Response:
        self._gate.put(token)
        self._engine.bookings.put_token(token)
        self._engine.commit()
        return json_answer(
            {
                "token": token.value,
                "user": uri("users", token.user),
                "scopes": token.scopes,
                "state": token.state,
                "expires_at": stamp(token.expires_at) if token.expires_at else None,
            }
        )
