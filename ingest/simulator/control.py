"""`/simulator/…` for actions, the clock, faults and deliveries.

These addresses are the simulator's own, not Calendly's. They need no token; the server listens on loopback only.

    GET  /simulator/world                        organizations, users, tokens, event types, forms, groups
    GET  /simulator/clock · POST {advance_seconds}
    GET  /simulator/faults · POST {duplicate_rate, drop_rate, lost_answer_rate, wrong_signature_rate,
                                   delay_seconds, retries_keep_signature, rate_limit, rest_error_rate,
                                   rest_error_status, rest_lost_answer_rate, rest_unanswered_rate,
                                   rest_limited_rate, rest_delay_seconds, rest_faults, booking_webhook,
                                   gives_up_after_meeting, departed_silent, token_error_rate,
                                   token_lost_answer_rate}; what is left out stays
    POST /simulator/book {organization, event_type, event, email, name, start, location, places, …}
    POST /simulator/cancel {invitee, by, reason} · /simulator/cancel-event {event, reason}
    POST /simulator/reschedule {invitee, start, order, delay_seconds}
    POST /simulator/move-event {event, start, order, delay_seconds}
    POST /simulator/edit-event {event, host, start, end, guests, place}   no webhook tells of it
    POST /simulator/no-show {invitee} · /simulator/clear-no-show {invitee, absent}
    POST /simulator/routing-form {organization, invitee}
    POST /simulator/send {subscription | url, body | body_base64, signing, signing_key, age_seconds, headers}
    GET  /simulator/deliveries?state&event&resource&subscription&after&count[&bodies=true] · /{message}
    GET  /simulator/ledger                       counts
    GET  /simulator/idle?timeout_seconds         waits until nothing is due or in flight
    POST /simulator/load · /simulator/story · GET, DELETE /simulator/jobs/{id} (`jobs.py`)
    tokens, users, organizations, calls: `access.py` · the OAuth app: `oauth.py`

`invitee` is an id or a URI; left out, it is the youngest active one. Every action takes `wait_seconds`: how
long to wait for the first attempt of its deliveries before answering with them.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from slotwire.ingest.simulator import requests
from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.edits import EventEdit, edit_event
from slotwire.ingest.simulator.engine import Engine, OperationResult
from slotwire.ingest.simulator.gate import RestGate, json_answer
from slotwire.ingest.simulator.ledger import MessageFilter
from slotwire.ingest.simulator.model import Attempt, Faults, Json, Message, Token, uri
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found
from slotwire.ingest.simulator.signature import signature
from slotwire.ingest.simulator.transport import LoopbackTransport, NotLoopback, headers

R = TypeVar("R", bound=BaseModel)
MAX_LISTING = 1_000
MAX_WAIT_SECONDS = 600.0


async def read(request: web.Request, shape: type[R]) -> R:
    """Return a control request's body, checked.

    Raises:
        SimulatedRefusal: 400 with what is wrong, field by field.
    """
    raw = await request.read()
    try:
        return shape.model_validate_json(raw or b"{}")
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in issues)
        raise SimulatedRefusal(400, "Invalid Argument", said) from None


class Control:
    """Handlers for the actions, the clock, the faults and the listings."""

    def __init__(self, engine: Engine, gate: RestGate) -> None:
        self._engine = engine
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        posts: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "clock": self.advance,
            "faults": self.set_faults,
            "book": self.book,
            "cancel": self.cancel,
            "cancel-event": self.cancel_event,
            "reschedule": self.reschedule,
            "move-event": self.move_event,
            "edit-event": self.edit_event,
            "no-show": self.no_show,
            "clear-no-show": self.clear_no_show,
            "routing-form": self.routing_form,
            "send": self.send,
        }
        gets: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "world": self.world,
            "clock": self.clock,
            "faults": self.faults,
            "deliveries": self.deliveries,
            "deliveries/{message}": self.delivery,
            "ledger": self.ledger,
            "idle": self.idle,
        }
        return [
            *(web.post(f"/simulator/{name}", handler) for name, handler in posts.items()),
            *(web.get(f"/simulator/{name}", handler) for name, handler in gets.items()),
        ]

    async def world(self, _: web.Request) -> web.Response:
        """Return organizations, users and tokens. The tokens are valid at this simulator only."""
        world = self._engine.world
        tokens: dict[str, list[Token]] = {}
        for token in self._gate.tokens():
            tokens.setdefault(token.user, []).append(token)
        found = [
            {
                "uri": uri("organizations", organization.id),
                "name": organization.name,
                "users": [
                    {
                        "uri": uri("users", user.id),
                        "name": user.name,
                        "role": user.role,
                        "tokens": [
                            {"token": each.value, "scopes": each.scopes, "state": each.state}
                            for each in tokens.get(user.id, ())
                        ],
                    }
                    for user in world.members(organization.id)
                ],
                "event_types": [
                    {
                        "uri": uri("event_types", each.id),
                        "name": each.name,
                        "limit": each.limit,
                        "owner": uri("users", each.owner),
                    }
                    for each in world.offers(organization.id)
                ],
                "routing_forms": [
                    uri("routing_forms", each.id)
                    for each in world.routing_forms.values()
                    if each.organization == organization.id
                ],
                "groups": [
                    uri("groups", each.id) for each in world.groups.values() if each.organization == organization.id
                ],
            }
            for organization in world.organizations.values()
        ]
        return json_answer({"seed": self._engine.seed, "organizations": found})

    async def clock(self, _: web.Request) -> web.Response:
        """Return the simulated time, how far ahead of real time it is, and whether others can follow it."""
        clock = self._engine.clock
        ahead = clock.offset.total_seconds()
        return json_answer({"now": stamp(clock.now()), "offset_seconds": ahead, "followed": clock.followed})

    async def advance(self, request: web.Request) -> web.Response:
        """Move the clock forward; retries that are due then are sent."""
        wanted = await read(request, requests.Advance)
        self._engine.advance(timedelta(seconds=wanted.advance_seconds))
        return await self.clock(request)

    async def faults(self, _: web.Request) -> web.Response:
        """Return the current faults."""
        found = dataclasses.asdict(self._engine.sender.faults)
        return json_answer({**found, "rate_limit": self._gate.rate_limit})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Change faults; those that the body leaves out stay."""
        wanted = (await read(request, requests.FaultChange)).model_dump(exclude_none=True)
        self._gate.rate_limit = wanted.pop("rate_limit", self._gate.rate_limit)
        self._engine.set_faults(Faults(**{**dataclasses.asdict(self._engine.sender.faults), **wanted}))
        return await self.faults(request)

    async def book(self, request: web.Request) -> web.Response:
        """Book a meeting; with `places` above 1, a group event with so many invitees."""
        wanted = await read(request, requests.Book)
        details = wanted.details()
        if wanted.places > 1 and not (details.event_type or details.event):
            tenant = self._engine.organization(details.organization)
            group = next(each for each in self._engine.world.offers(tenant) if each.limit > 1)
            details = dataclasses.replace(details, event_type=group.id)
        results = [self._engine.book(details)]
        event = results[0].event
        if event and wanted.places > 1:
            join = dataclasses.replace(details, event=event.id)
            results += [self._engine.book(join) for _ in range(wanted.places - 1)]
        return await self._answer(results, wanted.wait_seconds)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel one invitee."""
        wanted = await read(request, requests.Cancel)
        result = self._engine.cancel(self._invitee(wanted.invitee), wanted.by, wanted.reason)
        return await self._answer([result], wanted.wait_seconds)

    async def cancel_event(self, request: web.Request) -> web.Response:
        """Cancel a scheduled event with all its invitees."""
        wanted = await read(request, requests.CancelEvent)
        event = self._engine.bookings.event(wanted.event)
        if event is None:
            raise not_found()
        name = self._engine.world.users[event.host].name
        return await self._answer([self._engine.cancel_event(event.id, name, wanted.reason)], wanted.wait_seconds)

    async def reschedule(self, request: web.Request) -> web.Response:
        """Move a booking."""
        wanted = await read(request, requests.Reschedule)
        delay = timedelta(seconds=wanted.delay_seconds)
        result = self._engine.reschedule(self._invitee(wanted.invitee), wanted.start, wanted.order, delay)
        return await self._answer([result], wanted.wait_seconds)

    async def move_event(self, request: web.Request) -> web.Response:
        """Move a scheduled event with all its invitees."""
        wanted = await read(request, requests.MoveEvent)
        delay = timedelta(seconds=wanted.delay_seconds)
        result = self._engine.move_event(wanted.event, wanted.start, wanted.order, delay)
        return await self._answer([result], wanted.wait_seconds)

    async def edit_event(self, request: web.Request) -> web.Response:
        """Edit a scheduled event behind Calendly's webhooks."""
        wanted = await read(request, requests.EditEvent)
        edit = EventEdit(wanted.host, wanted.start, wanted.end, wanted.guests, wanted.place)
        return await self._answer([edit_event(self._engine, wanted.event, edit)], 0.0)

    async def no_show(self, request: web.Request) -> web.Response:
        """Mark an invitee as a no-show."""
        wanted = await read(request, requests.InviteeAction)
        return await self._answer([self._engine.mark_no_show(self._invitee(wanted.invitee))], wanted.wait_seconds)

    async def clear_no_show(self, request: web.Request) -> web.Response:
        """Delete a no-show mark."""
        wanted = await read(request, requests.ClearNoShow)
        result = self._engine.clear_no_show(self._invitee(wanted.invitee), absent=wanted.absent)
        return await self._answer([result], wanted.wait_seconds)

    async def routing_form(self, request: web.Request) -> web.Response:
        """Send in a routing form."""
        wanted = await read(request, requests.SubmitRoutingForm)
        return await self._answer([self._engine.submit_form(wanted.organization, wanted.invitee)], wanted.wait_seconds)

    async def send(self, request: web.Request) -> web.Response:
        """Send any bytes once. They are not recorded, not retried, and do not change a subscription's state."""
        wanted = await read(request, requests.Send)
        url, key = wanted.url, wanted.signing_key
        if wanted.subscription:
            found = self._engine.ledger.subscription(wanted.subscription)
            if found is None:
                raise not_found()
            url, key = url or found.url, key or found.signing_key
        if not url:
            raise SimulatedRefusal(400, "Invalid Argument", "name a subscription or a url")
        body = base64.b64decode(wanted.body_base64) if wanted.body_base64 else wanted.body.encode()
        now = self._engine.clock.now()
        head = headers(
            Draws(self._engine.seed, "send", stamp(now)), self._signed(wanted, key, body, int(now.timestamp()))
        )
        head.update({name.lower(): value for name, value in wanted.headers.items()})
        transport = LoopbackTransport(1)
        try:
            answer = await transport.post(url, body, head)
        except NotLoopback as error:
            raise SimulatedRefusal(400, "Invalid Argument", f"{error.message}: {error.remedy}") from None
        finally:
            await transport.close()
        return json_answer({"status": answer.status, "error": answer.error, "seconds": round(answer.seconds, 4)})

    async def deliveries(self, request: web.Request) -> web.Response:
        """List messages with their attempts; `next_cursor` is the next call's `after`."""
        query = request.query
        count, after = query.get("count", "100"), query.get("after", "0").removeprefix("m")
        if not count.isdecimal() or not 1 <= int(count) <= MAX_LISTING or not after.isdecimal():
            raise SimulatedRefusal(
                400, "Invalid Argument", f"count must be from 1 to {MAX_LISTING}, after a message id"
            )
        wanted = MessageFilter(*(query.get(name) for name in ("state", "event", "resource", "subscription")))
        found = self._engine.ledger.listing(wanted, int(after), int(count))
        bodies = query.get("bodies") == "true"
        return json_answer(
            {
                "items": [_shown(message, attempts, bodies=bodies) for message, attempts in found],
                "next_cursor": found[-1][0].id if len(found) == int(count) else None,
            }
        )

    async def delivery(self, request: web.Request) -> web.Response:
        """Return one message with its body."""
        ident = request.match_info["message"]
        message = self._engine.ledger.message(ident) if ident[:1] == "m" and ident[1:].isdecimal() else None
        if message is None:
            raise not_found()
        return json_answer(_shown(message, self._engine.ledger.attempts(message.id), bodies=True))

    async def ledger(self, _: web.Request) -> web.Response:
        """Return counts."""
        return json_answer({**self._engine.ledger.summary(), "in_flight": self._engine.sender.in_flight})

    async def idle(self, request: web.Request) -> web.Response:
        """Wait until no message is due or in flight; 409 if that takes too long."""
        try:
            limit = min(float(request.query.get("timeout_seconds", "30")), MAX_WAIT_SECONDS)
        except ValueError:
            raise SimulatedRefusal(400, "Invalid Argument", "timeout_seconds must be a number") from None
        try:
            async with asyncio.timeout(limit):
                await self._engine.sender.idle()
        except TimeoutError:
            raise SimulatedRefusal(409, "Conflict", f"still sending after {limit:g} s") from None
        return await self.ledger(request)

    def _invitee(self, wanted: str | None) -> str:
        if wanted:
            return wanted
        tenant = self._engine.organization(None)
        found = self._engine.bookings.latest_active(tenant)
        if found is None:
            raise SimulatedRefusal(404, "Resource Not Found", "nobody is booked: book first, or name an invitee")
        return found.id

    def _signed(self, wanted: requests.Send, key: str | None, body: bytes, now: int) -> str | None:
        if wanted.signing == "none":
            return None
        if key is None:
            raise SimulatedRefusal(400, "Invalid Argument", "there is no signing_key: give one, or use signing none")
        return signature(key if wanted.signing == "right" else f"{key} but wrong", body, now - wanted.age_seconds)

    async def _answer(self, results: list[OperationResult], wait_seconds: float) -> web.Response:
        messages = [message for each in results for message in each.messages]
        if wait_seconds:
            await self._tried([message.id for message in messages], wait_seconds)
        last = results[-1]
        body: Json = {
            "invitees": [invitee.uri for each in results for invitee in each.invitees],
            "event": last.event.uri if last.event else None,
            "no_show": last.no_show.uri if last.no_show else None,
            "submission": last.submission.uri if last.submission else None,
            "deliveries": [],
        }
        ledger = self._engine.ledger
        body["deliveries"] = [
            _shown(ledger.message(message.id) or message, ledger.attempts(message.id), bodies=False)
            for message in messages
        ]
        return json_answer(body, 201)

    async def _tried(self, idents: list[str], wait_seconds: float) -> None:
        try:
            async with asyncio.timeout(wait_seconds):
                while any(self._engine.sender.untried(ident) for ident in idents):
                    await self._engine.sender.progressed()
        except TimeoutError:
            return


def _shown(message: Message, attempts: list[Attempt], *, bodies: bool) -> Json:
    found: Json = {
        "id": message.id,
        "subscription": message.subscription,
        "event": message.event,
        "resource": message.resource,
        "state": message.state,
        "created_at": stamp(message.created_at),
        "next_attempt_at": stamp(message.due_at) if message.state == "pending" else None,
        "duplicate_of": message.duplicate_of,
        "attempts": [
            {
                "number": each.number,
                "at": stamp(each.at),
                "seconds": round(each.seconds, 4),
                "status": each.status,
                "error": each.error,
                "fault": each.fault,
            }
            for each in attempts
        ],
    }
    if bodies:
        found["body"] = message.body.decode()
    return found
