"""Pure: what differs between the texts of MCP Events that hosts follow, as one value per agent.

Names and numbers are from SEP-3415 (draft of October 2026), from the older sketch of its working group, and from
OpenAI's guide for ChatGPT, which follows the sketch. The final text's numbers are not known: it is served with those of
the draft, and with an id of its own for each message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

DELIVERY_MODES = ("poll", "push", "webhook")


class EventsProblem(StrEnum):
    """Why a method is refused: the name that stands in the message, whatever the number."""

    INVALID_PARAMS = "InvalidParams"
    NOT_FOUND = "NotFound"
    FORBIDDEN = "Forbidden"
    RESOURCE_EXHAUSTED = "ResourceExhausted"
    UNSUPPORTED = "Unsupported"
    CALLBACK_ENDPOINT_ERROR = "CallbackEndpointError"


class EventsRefused(Exception):
    """A method of MCP Events is refused.

    Attributes:
        problem: its name, which a profile turns into a number.
        message: what is wrong and what to do, without secrets and without what was typed.
        data: for programs.
    """

    def __init__(self, problem: EventsProblem, message: str, **data: Any) -> None:
        super().__init__(message)
        self.problem = problem
        self.message = f"{problem}: {message}"
        self.data = data or None


_DRAFT = MappingProxyType(
    {
        EventsProblem.INVALID_PARAMS: -32602,
        EventsProblem.NOT_FOUND: -32023,
        EventsProblem.FORBIDDEN: -32024,
        EventsProblem.RESOURCE_EXHAUSTED: -32025,
        EventsProblem.UNSUPPORTED: -32026,
        EventsProblem.CALLBACK_ENDPOINT_ERROR: -32027,
    }
)
_SKETCH = MappingProxyType(
    {
        EventsProblem.INVALID_PARAMS: -32602,
        EventsProblem.NOT_FOUND: -32011,
        EventsProblem.FORBIDDEN: -32012,
        EventsProblem.RESOURCE_EXHAUSTED: -32013,
        EventsProblem.UNSUPPORTED: -32014,
        EventsProblem.CALLBACK_ENDPOINT_ERROR: -32015,
    }
)


@dataclass(frozen=True)
class WireProfile:
    """What a host expects on the wire.

    Attributes:
        name: as an agent is registered with it.
        errors: the number of each problem.
        modes: the delivery modes that are offered.
        tells_gaps: whether a webhook is told of gaps and of its end (`gap`, `terminated`).
        own_message_ids: whether `webhook-id` is made for each message, instead of being the event's id.
        unknown_is_unsubscribed: whether to unsubscribe what is not there succeeds.
        at_once: requests to one webhook that may be under way together, each of another booking.
    """

    name: str
    errors: Mapping[EventsProblem, int]
    modes: tuple[str, ...] = DELIVERY_MODES
    tells_gaps: bool = True
    own_message_ids: bool = False
    unknown_is_unsubscribed: bool = False
    at_once: int = 8


DRAFT = WireProfile("draft", _DRAFT)
CHATGPT = WireProfile("chatgpt", _SKETCH, modes=("webhook",), tells_gaps=False, unknown_is_unsubscribed=True, at_once=1)
FINAL = WireProfile("final", _DRAFT, own_message_ids=True)
PROFILES: Mapping[str, WireProfile] = MappingProxyType({each.name: each for each in (DRAFT, CHATGPT, FINAL)})
"""By name. An agent that says nothing else is served by the draft's."""


def profile_of(name: str) -> WireProfile:
    """Return a profile by its name; the draft's for one that this version does not know."""
    return PROFILES.get(name, DRAFT)
