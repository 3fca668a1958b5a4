"""`/webhook_subscriptions`. Source: docs/reference/calendly.md, "Webhook subscriptions", "Simulator assumptions"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import Caller, RestGate, body_of, resource
from slotwire.ingest.simulator.model import Json, Scope, SimulatedGroup, SimulatedSubscription, SimulatedUser
from slotwire.ingest.simulator.paging import choice_of, ident_in, ident_of, page_of_list
from slotwire.ingest.simulator.problems import SimulatedRefusal, forbidden, invalid, not_found
from slotwire.ingest.simulator.transport import NotLoopback, require_loopback

SCOPES: tuple[Scope, ...] = ("organization", "user", "group")


@dataclass(frozen=True, slots=True)
class SubscriptionRule:
    """In which scopes an event can be subscribed to, and which scope the token needs.

    Source: docs/reference/calendly.md, "Events".
    """

    scopes: tuple[Scope, ...]
    needs: str


EVENTS = {
    **dict.fromkeys(
        ("invitee.created", "invitee.canceled", "invitee_no_show.created", "invitee_no_show.deleted"),
        SubscriptionRule(SCOPES, "scheduled_events:read"),
    ),
    "routing_form_submission.created": SubscriptionRule(("organization",), "routing_forms:read"),
    **dict.fromkeys(
        (f"event_type.{verb}" for verb in ("created", "updated", "deleted")),
        SubscriptionRule(SCOPES, "event_types:read"),
    ),
    **dict.fromkeys(
        (f"meeting_recap.{verb}" for verb in ("created", "updated", "deleted")),
        SubscriptionRule(("user",), "meeting_recaps:read"),
    ),
    **dict.fromkeys(
        (f"contact.{verb}" for verb in ("created", "updated", "deleted")), SubscriptionRule(SCOPES, "contacts:read")
    ),
}


# Events of features that the free plan lacks (docs/reference/calendly.md, "Events").
PAID_EVENTS = ("routing_form_submission.", "meeting_recap.")


class SubscriptionCalls:
    """The calls that create, list, read and delete subscriptions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self, gate: RestGate) -> list[web.RouteDef]:
        """Return the routes."""
        one = "/webhook_subscriptions/{uuid}"
        return [
            web.post("/webhook_subscriptions", gate.guard("webhooks:write", self.create)),
            web.get("/webhook_subscriptions", gate.guard("webhooks:read", self.list)),
            web.get(one, gate.guard("webhooks:read", self.get)),
            web.delete(one, gate.guard("webhooks:write", self.delete)),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a subscription; the answer does not hold its signing key. Users of an organization may share a URL."""
        body = await body_of(request)
        url, events, scope, signing_key = self._checked(body, caller)
        organization = ident_in(body.get("organization"), "organization", "organizations")
        user, group = self._target(body, scope, organization)
        self._allow(caller, organization, scope, user)
        self._require_plan(organization, events)
        taken = {
            (each.url, each.organization, each.user or each.creator) for each in self._engine.ledger.subscriptions()
        }
        if (url, organization, user or caller.user.id) in taken:
            raise SimulatedRefusal(409, "Already Exists", "Hook with this url already exists")
        now = self._engine.clock.now()
        number = self._engine.bookings.next_number("subscription")
        made = SimulatedSubscription(
            id=Draws(self._engine.seed, "subscription", number).uuid(),
            url=url,
            organization=organization,
            scope=scope,
            user=user,
            group=group,
            events=events,
            creator=caller.user.id,
            signing_key=signing_key,
            created_at=now,
            updated_at=now,
            app=caller.app,
        )
        self._engine.ledger.put_subscription(made)
        self._engine.commit()
        return resource(payloads.subscription(made), 201)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List the subscriptions of one scope of an organization."""
        missing = [(name, "is missing") for name in ("organization", "scope") if name not in request.query]
        if missing:
            raise invalid(*missing)
        organization = ident_of(request, "organization", "organizations")
        scope = choice_of(request, "scope", SCOPES)
        user, group = ident_of(request, "user", "users"), ident_of(request, "group", "groups")
        if scope == "user" and user is None:
            raise invalid(("user", "is missing"))
        if scope == "group" and group is None:
            raise invalid(("group", "is missing"))
        self._allow(caller, organization or "", scope or "", user)
        for named, known in ((user, self._engine.world.users), (group, self._engine.world.groups)):
            if named is not None and (named not in known or known[named].organization != organization):
                raise forbidden()
        rows = [
            each
            for each in self._engine.ledger.subscriptions()
            if each.organization == organization
            and each.scope == scope
            and (scope != "user" or each.user == user)
            and (scope != "group" or each.group == group)
        ]
        return page_of_list(request, rows, payloads.subscription)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one subscription."""
        return resource(payloads.subscription(self._own(request, caller)))

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a subscription; its pending messages are abandoned."""
        found = self._own(request, caller)
        self._engine.sender.forget(found.id)
        self._engine.ledger.delete_subscription(found.id)
        self._engine.commit()
        return web.Response(status=204)

    def _own(self, request: web.Request, caller: Caller) -> SimulatedSubscription:
        found = self._engine.ledger.subscription(request.match_info["uuid"])
        if found is None or found.organization != caller.user.organization:
            raise not_found()
        self._allow(caller, found.organization, found.scope, found.user)
        return found

    def _allow(self, caller: Caller, organization: str, scope: str, user: str | None) -> None:
        if organization != caller.user.organization:
            raise forbidden()
        if not caller.administers and (scope != "user" or user != caller.user.id):
            raise forbidden("You do not have permission")

    def _checked(self, body: Json, caller: Caller) -> tuple[str, tuple[str, ...], Scope, str | None]:
        wrong = [(name, "is missing") for name in ("url", "events", "organization", "scope") if not body.get(name)]
        if wrong:
            raise invalid(*wrong)
        url, events, key = body["url"], body["events"], body.get("signing_key")
        scope = next((each for each in SCOPES if each == body["scope"]), None)
        if scope is None:
            raise invalid(("scope", f"must be one of: {', '.join(SCOPES)}"))
        if key is not None and not isinstance(key, str):
            raise invalid(("signing_key", "must be a string"))
        if not isinstance(events, list) or not isinstance(url, str):
            raise invalid(("events", "must be an array"), ("url", "must be a string"))
        wrong = [*_wrong_events(events, scope, caller), *_wrong_url(url)]
        if wrong:
            raise invalid(*wrong)
        return url, tuple(dict.fromkeys(map(str, events))), scope, key

    def _require_plan(self, organization: str, events: tuple[str, ...]) -> None:
        tenant = self._engine.world.organizations[organization]
        if not tenant.webhooks:
            raise forbidden("Please upgrade your Calendly account to Standard")
        if not tenant.pays and any(name.startswith(PAID_EVENTS) for name in events):
            raise forbidden("Please upgrade to a paid Calendly account.")

    def _target(self, body: Json, scope: Scope, organization: str) -> tuple[str | None, str | None]:
        if scope == "organization":
            return None, None
        if body.get(scope) is None:
            raise invalid((scope, "is missing"))
        known: Mapping[str, SimulatedUser | SimulatedGroup] = (
            self._engine.world.users if scope == "user" else self._engine.world.groups
        )
        ident = ident_in(body[scope], scope, f"{scope}s")
        if ident not in known or known[ident].organization != organization:
            raise invalid((scope, "does not exist in the organization"))
        return (ident, None) if scope == "user" else (None, ident)


def _wrong_events(events: Iterable[object], scope: Scope, caller: Caller) -> Iterator[tuple[str, str]]:
    for name in events:
        kind = EVENTS.get(name) if isinstance(name, str) else None
        if kind is None or scope not in kind.scopes:
            yield "events", f"{name} cannot be subscribed with scope {scope}"
        elif not caller.may(kind.needs):
            # A missing read scope is a 400 here, not a 403 (docs/reference/calendly.md, "Webhook subscriptions").
            yield "events", f"{name} requires the scope {kind.needs}"


def _wrong_url(url: str) -> Iterator[tuple[str, str]]:
    if urlsplit(url).scheme not in {"http", "https"}:
        yield "url", "must be an HTTPS address"
        return
    try:
        require_loopback(url)
    except NotLoopback as error:
        yield "url", f"{error.message}: {error.remedy}"
