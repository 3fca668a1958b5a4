"""The management API's routes, as one table: the application, its document and its tests are made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, SecretStr, ValidationError

from ingest.errors import RequestRefused
from ingest.operate.actions import Actions
from ingest.operate.booking_models import BookingPage, BookingQuery, Timeline, TimelineQuery
from ingest.operate.models import (
    DeliveryPage,
    DeliveryQuery,
    EventDetail,
    EventPage,
    EventQuery,
    KeyItem,
    KeyPage,
    KeyRequest,
    NewKey,
    PageQuery,
    SubscriptionItem,
    SubscriptionPage,
    SubscriptionRequest,
)
from ingest.operate.problems import invalid
from ingest.operate.quarantine_models import (
    DiscardRequest,
    QuarantineDetail,
    QuarantineItem,
    QuarantinePage,
    QuarantineQuery,
)
from ingest.operate.roles import Principal, Role

TOKEN_HEADER = "Calendly-Token"  # noqa: S105 -- a header's name
"""Carries a Calendly token where a request has no body."""

M = TypeVar("M", bound=BaseModel)


class ParametersInvalid(RequestRefused):
    """The query does not fit; carries where."""

    def __init__(self, error: ValidationError) -> None:
        found = invalid("parameter_invalid", error)
        super().__init__("; ".join(found.errors), code="parameter_invalid", remedy=found.remedy or "")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request, taken apart.

    Attributes:
        who: whoever asks.
        path: the path's variables.
        parameters: the query's parameters, each once.
        body: the body's octets.
        token: a Calendly token, if one came in the header.
    """

    who: Principal
    path: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes = field(repr=False)
    token: SecretStr | None

    def query(self, form: type[M]) -> M:
        """Read the query.

        Raises:
            RequestRefused: it does not fit; an unknown parameter does not either.
        """
        try:
            return form.model_validate(self.parameters)
        except ValidationError as error:
            raise ParametersInvalid(error) from None

    def id(self) -> UUID:
        """Read the id in the path; what is no id names nothing.

        Raises:
            RequestRefused: with code `not_found`.
        """
        try:
            return UUID(self.path["id"])
        except ValueError:
            raise RequestRefused("there is nothing of this id", code="not_found", remedy="Check the id.") from None

    def required_token(self) -> SecretStr:
        """Return the Calendly token.

        Raises:
            RequestRefused: none came.
        """
        if self.token is None:
            raise RequestRefused(
                "this asks Calendly, and that takes a token",
                code="token_missing",
                remedy=f"Send a token of an owner or admin of the organization in the header {TOKEN_HEADER}.",
            )
        return self.token


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route gives.

    Attributes:
        content: the answer's body.
        status: 200 unless something was made.
    """

    content: BaseModel
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: in upper case.
        path: with `{variables}`.
        summary: what it does, in one line.
        role: the least role that may.
        run: does it.
        gives: the form of the answer.
        query: the form of its parameters.
        takes: the form of its body.
        statuses: what it answers when it works.
        token: whether the header with a Calendly token is `optional` or `required`.
    """

    method: str
    path: str
    summary: str
    role: Role
    run: Callable[[Actions, Call], Awaitable[Answer]]
    gives: type[BaseModel]
    query: type[BaseModel] | None = None
    takes: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)
    token: str | None = None


async def _list_events(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.list_events(call.who, call.query(EventQuery)))


async def _get_event(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.get_event(call.who, call.id()))


async def _list_deliveries(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.list_deliveries(call.who, call.query(DeliveryQuery)))


async def _list_bookings(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.list_bookings(call.who, call.query(BookingQuery)))


async def _get_timeline(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.get_timeline(call.who, call.query(TimelineQuery).invitee))


async def _list_quarantine(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.list_quarantine(call.who, call.query(QuarantineQuery)))


async def _get_quarantined(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.get_quarantined(call.who, call.id()))


async def _retry_quarantined(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.retry_quarantined(call.who, call.id()))


async def _discard_quarantined(actions: Actions, call: Call) -> Answer:
    request = DiscardRequest.model_validate_json(call.body)
    return Answer(await actions.discard_quarantined(call.who, call.id(), request))


async def _list_subscriptions(actions: Actions, call: Call) -> Answer:
    query = call.query(PageQuery)
    return Answer(await actions.list_subscriptions(call.who, call.path["org"], query, call.token))


async def _create_subscription(actions: Actions, call: Call) -> Answer:
    request = SubscriptionRequest.model_validate_json(call.body)
    made, new = await actions.create_subscription(call.who, call.path["org"], request)
    return Answer(made, 201 if new else 200)


async def _get_subscription(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.get_subscription(call.who, call.path["org"], call.id()))


async def _delete_subscription(actions: Actions, call: Call) -> Answer:
    ended = await actions.delete_subscription(call.who, call.path["org"], call.id(), call.required_token())
    return Answer(ended)


async def _list_keys(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.list_keys(call.who, call.query(PageQuery)))


async def _create_key(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.create_key(call.who, KeyRequest.model_validate_json(call.body)), 201)


async def _revoke_key(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.revoke_key(call.who, call.id()))


_QUARANTINE = "/v1/quarantine"
_SUBSCRIPTIONS = "/v1/organizations/{org}/subscriptions"

ROUTES = (
    Route(
        "GET",
        "/v1/events",
        "List events of the log, oldest first.",
        Role.READER,
        _list_events,
        EventPage,
        query=EventQuery,
    ),
    Route("GET", "/v1/events/{id}", "Read one event with its data.", Role.READER, _get_event, EventDetail),
    Route(
        "GET",
        "/v1/deliveries",
        "List deliveries from Calendly, newest first.",
        Role.READER,
        _list_deliveries,
        DeliveryPage,
        query=DeliveryQuery,
    ),
    Route(
        "GET",
        "/v1/bookings",
        "List bookings, by their invitees' names.",
        Role.READER,
        _list_bookings,
        BookingPage,
        query=BookingQuery,
    ),
    Route(
        "GET",
        "/v1/bookings/timeline",
        "Read one booking with what was told of it, what was written, and how far that has come.",
        Role.READER,
        _get_timeline,
        Timeline,
        query=TimelineQuery,
    ),
    Route(
        "GET",
        _QUARANTINE,
        "List authentic deliveries that became no event, newest first.",
        Role.READER,
        _list_quarantine,
        QuarantinePage,
        query=QuarantineQuery,
    ),
    Route(
        "GET",
        _QUARANTINE + "/{id}",
        "Read one of them; its body is shown to the role `operator` or more.",
        Role.READER,
        _get_quarantined,
        QuarantineDetail,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/retry",
        "Read it again: it becomes events with their right ids, or stays with the reason it has now.",
        Role.OPERATOR,
        _retry_quarantined,
        QuarantineItem,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/discard",
        "Settle it as not wanted; its body stays.",
        Role.OPERATOR,
        _discard_quarantined,
        QuarantineItem,
        takes=DiscardRequest,
    ),
    Route(
        "GET",
        _SUBSCRIPTIONS,
        "List an organization's subscriptions, with a token beside what Calendly says of them.",
        Role.READER,
        _list_subscriptions,
        SubscriptionPage,
        query=PageQuery,
        token="optional",  # noqa: S106 -- says whether there is one
    ),
    Route(
        "POST",
        _SUBSCRIPTIONS,
        "Subscribe an organization at Calendly; 200 when it is subscribed already.",
        Role.OPERATOR,
        _create_subscription,
        SubscriptionItem,
        takes=SubscriptionRequest,
        statuses=(201, 200),
    ),
    Route("GET", _SUBSCRIPTIONS + "/{id}", "Read one subscription.", Role.READER, _get_subscription, SubscriptionItem),
    Route(
        "DELETE",
        _SUBSCRIPTIONS + "/{id}",
        "End a subscription, at Calendly first.",
        Role.OPERATOR,
        _delete_subscription,
        SubscriptionItem,
        token="required",  # noqa: S106 -- says whether there is one
    ),
    Route("GET", "/v1/keys", "List keys of this API.", Role.ADMIN, _list_keys, KeyPage, query=PageQuery),
    Route(
        "POST",
        "/v1/keys",
        "Make a key of this API; it is shown once.",
        Role.ADMIN,
        _create_key,
        NewKey,
        takes=KeyRequest,
        statuses=(201,),
    ),
    Route("DELETE", "/v1/keys/{id}", "Revoke a key of this API, at once.", Role.ADMIN, _revoke_key, KeyItem),
)
