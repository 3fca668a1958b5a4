"""Binds the methods of MCP Events to the official library. What they do is elsewhere, and knows nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, Notification, RequestParams, ServerNotification
from pydantic import ConfigDict

from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.mcp.arguments import ArgumentsRefused, readable
from slotwire.ingest.mcp.events.catalogue import descriptor
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused, profile_of
from slotwire.ingest.mcp.principal import AgentPrincipal, current_principal
from slotwire.schemas.events import BY_TYPE

if TYPE_CHECKING:
    from slotwire.ingest.mcp.events.service import McpEvents

IDENTIFIER = "io.modelcontextprotocol/events"
_Context = ServerRequestContext[Any, Any]
_Answer = Callable[[AgentPrincipal, dict[str, Any], _Context], Awaitable[dict[str, Any]]]


class _Params(RequestParams):
    """Parameters as they came; each method checks its own."""

    model_config = ConfigDict(extra="allow")


class _Told(Notification[dict[str, Any], str]):
    """A notification of a stream."""


class EventsExtension(Extension):
    """The five methods, for `MCPServer(extensions=[…])`."""

    identifier = IDENTIFIER

    def __init__(self, events: McpEvents) -> None:
        self._events = events

    def settings(self) -> dict[str, Any]:
        """Say what is offered: the list of types does not change while a process runs."""
        return {"listChanged": False}

    def methods(self) -> Sequence[MethodBinding]:
        """Bind the methods; also for clients of the handshake era, which some hosts still are."""
        answers: dict[str, _Answer] = {
            "events/list": self._list,
            "events/poll": self._poll,
            "events/stream": self._stream,
            "events/subscribe": self._subscribe,
            "events/unsubscribe": self._unsubscribe,
        }
        return [MethodBinding(method, _Params, self._answering(method, answer)) for method, answer in answers.items()]

    async def _list(self, principal: AgentPrincipal, params: dict[str, Any], _: _Context) -> dict[str, Any]:
        if params.get("cursor") is not None:
            raise EventsRefused(EventsProblem.INVALID_PARAMS, "cursor: all types are on the first page")
        profile = profile_of(principal.profile)
        return {"events": [descriptor(name, profile) for name in sorted(principal.event_types & set(BY_TYPE))]}

    async def _poll(self, principal: AgentPrincipal, params: dict[str, Any], _: _Context) -> dict[str, Any]:
        return await self._events.poll(principal, params)

    async def _stream(self, principal: AgentPrincipal, params: dict[str, Any], context: _Context) -> dict[str, Any]:
        if context.request_id is None:  # pragma: no cover - a request has an id
            raise AssertionError
        if principal.of_run:
            raise EventsRefused(
                EventsProblem.FORBIDDEN, "this token ends with the run it was made for: use events/poll"
            )
        is_begun = False

        async def send(method: str, told: dict[str, Any]) -> None:
            nonlocal is_begun
            if not is_begun:  # a client ends its stream by going away, and then nothing is written any more
                is_begun = True
                await self._events.note(principal, "events/stream")
            notification = cast("ServerNotification", _Told(method=method, params=told))
            await context.session.send_notification(notification, related_request_id=context.request_id)

        return await self._events.streams(principal, params, context.request_id, send)

    async def _subscribe(self, principal: AgentPrincipal, params: dict[str, Any], _: _Context) -> dict[str, Any]:
        return await self._events.subscribing.subscribe(principal, params)

    async def _unsubscribe(self, principal: AgentPrincipal, params: dict[str, Any], _: _Context) -> dict[str, Any]:
        return await self._events.subscribing.unsubscribe(principal, params)

    def _answering(self, method: str, answer: _Answer) -> Callable[[_Context, _Params], Awaitable[dict[str, Any]]]:
        """Turn refusals into errors of JSON-RPC, with the numbers of the agent's profile; write the audit."""

        async def handler(context: _Context, params: _Params) -> dict[str, Any]:
            principal = current_principal()
            try:
                answered = await answer(principal, _read(params), context)
            except EventsRefused as refused:
                await self._events.note(principal, method, refused.problem)
                number = profile_of(principal.profile).errors[refused.problem]
                raise MCPError(number, refused.message, refused.data) from None
            except DatabaseUnavailable:
                raise MCPError(INTERNAL_ERROR, "The events cannot be read now. Try again in some seconds.") from None
            if method not in ("events/list", "events/stream"):
                await self._events.note(principal, method)
            return answered

        return handler


def _read(params: _Params) -> dict[str, Any]:
    try:
        return readable(params.model_extra or {})
    except ArgumentsRefused as refused:
        raise EventsRefused(EventsProblem.INVALID_PARAMS, str(refused)) from None
