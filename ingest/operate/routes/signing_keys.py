"""Routes of signing keys."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse
from slotwire.ingest.operate.signing_key_models import SigningKeyPage, SigningKeyRevoked, SigningKeysRotated

_SIGNING_KEYS = "/v1/organizations/{org}/signing-keys"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.signing_keys.list(request.who, request.path["org"], request.query(PageQuery)))


async def _revoke(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.signing_keys.revoke(request.who, request.path["org"], request.id()))


async def _rotate(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.signing_keys.rotate(request.who, request.path["org"]))


async def _rotate_all(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.signing_keys.rotate_all(request.who))


ROUTES = (
    Route(
        "GET",
        _SIGNING_KEYS,
        "List an organization's signing keys. The keys themselves are never shown.",
        Role.READER,
        _list,
        SigningKeyPage,
        query=PageQuery,
    ),
    Route(
        "DELETE",
        _SIGNING_KEYS + "/{id}",
        "Revoke a signing key, effective at once; its subscription is replaced if it is wanted.",
        Role.OPERATOR,
        _revoke,
        SigningKeyRevoked,
    ),
    Route(
        "POST",
        _SIGNING_KEYS + "/rotate",
        "Give an organization's subscriptions other signing keys, by replacing them without a gap.",
        Role.OPERATOR,
        _rotate,
        SigningKeysRotated,
    ),
    Route(
        "POST",
        "/v1/signing-keys/rotate",
        "Give the subscriptions of all organizations other signing keys; the subscription manager makes them.",
        Role.OPERATOR,
        _rotate_all,
        SigningKeysRotated,
        everywhere=True,
    ),
)
