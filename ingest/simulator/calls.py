"""The record of REST calls since the start, and of those that reached another organization.

A call is foreign if its path, query or body names something that belongs to another organization than the token's
user, whatever the answer was. Correct software makes none, so tests expect an empty list.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import orjson

from slotwire.ingest.simulator.clock import stamp
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.model import API, Json, Token, uri

MAX_CALLS = 100_000
"""How many calls, foreign calls, and owners of named things are remembered; the oldest are dropped first."""
MARK_LENGTH = 12


@dataclass(frozen=True, slots=True)
class RestCall:
    """One REST call. A digest stands for the token.

    Attributes:
        user: the token's user; None when the token is unknown.
        organization: that user's, at the time of the call.
        named: the organizations of everything the call names.
        status: the answer's.
    """

    number: int
    at: datetime
    token: str | None
    user: str | None
    organization: str | None
    method: str
    path: str
    named: tuple[str, ...]
    status: int

    @property
    def foreign(self) -> bool:
        """Whether it names something of another organization."""
        return self.organization is not None and any(each != self.organization for each in self.named)

    def shown(self) -> Json:
        """Return it as JSON, with URIs instead of ids."""
        return {
            "number": self.number,
            "at": stamp(self.at),
            "token": self.token,
            "user": uri("users", self.user) if self.user else None,
            "organization": uri("organizations", self.organization) if self.organization else None,
            "method": self.method,
            "path": self.path,
            "named_organizations": [uri("organizations", each) for each in self.named],
            "status": self.status,
            "foreign": self.foreign,
        }


class Owners:
    """Finds the organization that a resource belongs to."""

    def __init__(self, engine: Engine, limit: int = MAX_CALLS) -> None:
        self._engine = engine
        self._limit = limit
        world, bookings = engine.world, engine.bookings
        self._kinds: dict[str, Callable[[str], object | None]] = {
            "users": world.users.get,
            "event_types": world.event_types.get,
            "routing_forms": world.routing_forms.get,
            "groups": world.groups.get,
            "scheduled_events": bookings.event,
            "routing_form_submissions": bookings.submission,
            "webhook_subscriptions": engine.ledger.subscription,
            "invitee_no_shows": self._event_of_mark,
            "organization_memberships": self._member,
        }
        self._gone: dict[tuple[str, str], str] = {}

    def named(self, path: str, values: Iterator[object]) -> tuple[str, ...]:
        """Return the organizations of the resources that a call names, each once; unknown ones have none."""
        paths = [path, *(each.removeprefix(API) for each in values if isinstance(each, str) and each.startswith(API))]
        return tuple(dict.fromkeys(filter(None, map(self._owner, paths))))

    def _owner(self, path: str) -> str | None:
        _, kind, ident, *_ = [*path.split("/"), "", "", ""]
        if kind == "organizations":
            return ident or None
        find = self._kinds.get(kind)
        found = find(ident) if find and ident else None
        owner: str | None = getattr(found, "organization", None)
        # A deleted resource is still its owner's: naming it with another organization's token is foreign too.
        if owner is None:
            return self._gone.get((kind, ident))
        self._gone[kind, ident] = owner
        if len(self._gone) > self._limit:
            del self._gone[next(iter(self._gone))]
        return owner

    def _event_of_mark(self, ident: str) -> object | None:
        invitee = self._engine.bookings.invitee_of_mark(ident)
        return self._engine.bookings.event(invitee.event) if invitee else None

    def _member(self, ident: str) -> object | None:
        return next((each for each in self._engine.world.users.values() if each.membership == ident), None)


class RestCallLog:
    """The latest calls, in order, and counts of all."""

    def __init__(self, limit: int = MAX_CALLS) -> None:
        self._latest: deque[RestCall] = deque(maxlen=limit)
        self._foreign: deque[RestCall] = deque(maxlen=limit)
        self._counts: Counter[str | None] = Counter()
        self._tokens: dict[str, set[str]] = {}
        self.foreign_count = 0

    def add(self, call: RestCall) -> None:
        """Add a call."""
        self._latest.append(call)
        self._counts[call.organization] += 1
        if call.organization and call.token:
            self._tokens.setdefault(call.organization, set()).add(call.token)
        if call.foreign:
            self._foreign.append(call)
            self.foreign_count += 1

    def next_number(self) -> int:
        """Return the number of the next call: 1, 2, 3 …."""
        return self._counts.total() + 1

    def foreign(self) -> tuple[RestCall, ...]:
        """Return the calls that reached another organization."""
        return tuple(self._foreign)

    def listing(self, beyond: int, count: int, wanted: Callable[[RestCall], bool]) -> tuple[RestCall, ...]:
        """Return up to `count` calls after number `beyond`."""
        found = (each for each in self._latest if each.number > beyond and wanted(each))
        return tuple(each for each, _ in zip(found, range(count), strict=False))

    def summary(self) -> Json:
        """Return counts in all and by organization, with the digests of the tokens that were used for it."""
        organizations = {
            uri("organizations", each): {"calls": count, "tokens": sorted(self._tokens.get(each, ()))}
            for each, count in self._counts.items()
            if each
        }
        return {
            "calls": self._counts.total(),
            "unauthenticated": self._counts[None],
            "foreign_calls": self.foreign_count,
            "organizations": organizations,
        }


def token_mark(token: Token) -> str:
    """Return a digest that stands for a token where the token must not be shown."""
    return hashlib.sha256(token.value.encode()).hexdigest()[:MARK_LENGTH]


def values_in(body: bytes) -> Iterator[object]:
    """Return the values of a JSON object, and the items of the lists among them."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    for value in found.values() if isinstance(found, dict) else ():
        yield from value if isinstance(value, list) else (value,)
