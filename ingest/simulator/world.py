"""The organizations, users, event types, first tokens and OAuth app of a seed; the same seed gives the same world."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import (
    Json,
    Role,
    SimulatedEventType,
    SimulatedGroup,
    SimulatedOrganization,
    SimulatedRoutingForm,
    SimulatedUser,
    Token,
)
from slotwire.ingest.simulator.people import TIMEZONES, full_name

CREATED_AT = datetime(2024, 1, 2, 3, 4, 5, 678123, UTC)
MAX_ORGANIZATIONS = 1_000

ROLES: tuple[Role, ...] = ("owner", "admin", "user", "user")
ORGANIZATIONS = ("Acme Sample", "Example Rockets", "Placeholder Dental", "Specimen Law", "Mockup Studio")
# name, minutes, location, limit: each host offers the first three, the owner all of them.
OFFERS = (
    ("30 Minute Meeting", 30, "zoom", 1),
    ("15 Minute Call", 15, "google_conference", 1),
    ("Office Visit", 60, "physical", 1),
    ("Team Sync", 45, "microsoft_teams_conference", 1),
    ("Call Me Back", 20, "outbound_call", 1),
    ("Product Webinar", 60, "zoom", 10),
)
EVERYONE_OFFERS = 3


@dataclass(frozen=True, slots=True)
class World:
    """Organizations, users, event types, forms and groups by their ids, and the first tokens."""

    organizations: dict[str, SimulatedOrganization]
    users: dict[str, SimulatedUser]
    event_types: dict[str, SimulatedEventType]
    routing_forms: dict[str, SimulatedRoutingForm]
    groups: dict[str, SimulatedGroup]
    tokens: tuple[Token, ...]

    def members(self, organization: str) -> tuple[SimulatedUser, ...]:
        """Return an organization's users, its owner first."""
        return tuple(user for user in self.users.values() if user.organization == organization)

    def offers(self, organization: str) -> tuple[SimulatedEventType, ...]:
        """Return an organization's event types."""
        return tuple(offer for offer in self.event_types.values() if offer.organization == organization)


def personal_access_token(
    seed: str, user: str, scopes: tuple[str, ...], number: int = 0, ends: datetime | None = None
) -> str:
    """Return a bearer token in the form of Calendly's: a JWT that names its user and scopes.

    It is signed with the seed, so it is the same after a restart and worthless anywhere else.
    Source: docs/reference/calendly.md, "Credentials".
    """
    draws = Draws(seed, "token", user, *scopes, number)
    claims: Json = {
        "iss": "https://auth.calendly.com",
        "iat": int(CREATED_AT.timestamp()),
        "jti": draws.uuid(),
        "user_uuid": user,
        "scope": " ".join(scopes),
    }
    if ends is not None:
        claims["exp"] = int(ends.timestamp())
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = ".".join(parts)
    mark = hmac.new(f"simulated {seed}".encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64url(mark)}"


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """The one app that is registered at a simulator; its values follow from the seed."""

    client_id: str
    client_secret: str = field(repr=False)
    signing_key: str = field(repr=False)


def oauth_app(seed: str) -> OAuthApp:
    """Return the app of a seed, with its first signing key."""
    draws = Draws(seed, "oauth app")
    secret, key = _base64url(draws.octets(32)), _base64url(draws.octets(32))
    return OAuthApp(draws.uuid(), secret, key)


def make_world(seed: str, organizations: int = 1) -> World:
    """Return the world of a seed.

    Raises:
        ValueError: fewer than 1 or more than 1,000 organizations.
    """
    if not 1 <= organizations <= MAX_ORGANIZATIONS:
        raise ValueError(f"a world has 1 to {MAX_ORGANIZATIONS} organizations")
    world = World({}, {}, {}, {}, {}, ())
    tokens: list[Token] = []
    for number in range(organizations):
        tokens += _make_organization(world, seed, number)
    return World(world.organizations, world.users, world.event_types, world.routing_forms, world.groups, tuple(tokens))


def _make_organization(world: World, seed: str, number: int) -> list[Token]:
    draws = Draws(seed, "organization", number)
    # Legacy ids and UUIDs take turns, because clients must accept both (docs/reference/calendly.md, "Parsing").
    ident = draws.legacy_id() if number % 2 == 0 else draws.uuid()
    name = ORGANIZATIONS[number % len(ORGANIZATIONS)] + ("" if number < len(ORGANIZATIONS) else f" {number}")
    created = CREATED_AT + timedelta(hours=number)
    world.organizations[ident] = SimulatedOrganization(
        ident, name, name.lower().replace(" ", "-"), "professional", created
    )
    users = [_make_user(world, seed, ident, number, place) for place in range(len(ROLES))]
    for place, user in enumerate(users):
        offers = OFFERS if place == 0 else OFFERS[:EVERYONE_OFFERS]
        for title, minutes, location, limit in offers:
            offer = Draws(seed, "event_type", user.id, title).uuid()
            slug = title.lower().replace(" ", "-")
            world.event_types[offer] = SimulatedEventType(
                offer, ident, user.id, title, slug, minutes, location, limit, created
            )
    form = Draws(seed, "routing_form", ident).uuid()
    world.routing_forms[form] = SimulatedRoutingForm(form, ident, "How can we help?", created)
    group = Draws(seed, "group", ident).uuid()
    world.groups[group] = SimulatedGroup(group, ident, "Sales", tuple(user.id for user in users[:2]), created)
    return [Token(personal_access_token(seed, user.id, ("default",)), user.id, ("default",)) for user in users]


def _make_user(world: World, seed: str, organization: str, number: int, place: int) -> SimulatedUser:
    draws = Draws(seed, "user", organization, place)
    given, family = full_name(draws)
    slug = f"{given.lower()}-{family.lower()}-{number}{place}".encode("ascii", "ignore").decode()
    ident = draws.legacy_id() if place % 2 == 0 else draws.uuid()
    user = SimulatedUser(
        ident,
        organization,
        draws.uuid(),
        f"{given} {family}",
        slug,
        f"{slug.replace('-', '.')}@example.com",
        ROLES[place],
        draws.pick(TIMEZONES),
        CREATED_AT + timedelta(hours=number, minutes=place),
    )
    world.users[ident] = user
    return user


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
