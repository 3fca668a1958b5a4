"""What is done at Calendly once, however often it is asked: book, cancel, reschedule, mark and clear a no-show.

`slotwire control` keeps a receipt for each, under a key: that of the caller, or one that follows from the arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.mcp.tools.calls import ToolGrants
from slotwire.ingest.mcp.tools.results import ToolAnswer
from slotwire.ingest.mcp.tools.table import KEY, OPERATE, SCHEDULE, Tool, argument
from slotwire.ingest.mcp.tools.toolbox import AskFirst, Call

NEXT: Mapping[str, str] = MappingProxyType(
    {
        "done": "It is done. Calling again with the same arguments does nothing more.",
        "probable": "It is very likely done: the meeting is as it should be.",
        "done_by_other": "Somebody else has done it already.",
        "refused": "Calendly refused it, so nothing has changed. `reason` says why; ask for something else.",
        "not_done": "It was not done.",
        "open": "It is not known yet. Call again with the same arguments in a minute: it is not done twice.",
        "not_sent": "It will be tried again. Call again with the same arguments in a minute to see what became of it.",
        "not_seen": "It was asked for, and its effect was not seen. Tell a person, who has to look; do not repeat it.",
        "person": "A person has to decide. Tell them, and do not repeat it.",
    }
)
"""What to do next, by the state of an action (docs/reference/states.md)."""
SHOWN = ("id", "verb", "state", "reason", "invitee", "scheduled_event", "mark", "target")
"""What a model sees of an action."""
ASKS = "cancels_everyone"
"""The code of an action that `control` refuses because it would cancel others' bookings too."""
_PRESETS = frozenset({SCHEDULE, OPERATE})
_START = argument("start_time", format="date-time")
_WHY = argument("reason", description="The invitee reads it.")
_INVITEE = argument("invitee")


def _deed(name: str, description: str, required: tuple[str, ...], /, **properties: Mapping[str, Any]) -> Tool:
    return Tool(
        name=name,
        description=description,
        properties={**properties, "idempotency_key": KEY},
        required=required,
        reads=False,
        destroys=name in {"cancel_meeting", "reschedule_meeting"},
        repeats=True,
        presets=_PRESETS,
        of_chains=name in {"cancel_meeting", "mark_no_show", "reschedule_meeting"},
    )


VERBS: Mapping[str, str] = MappingProxyType(
    {
        "book_meeting": "book",
        "cancel_meeting": "cancel",
        "reschedule_meeting": "reschedule",
        "mark_no_show": "mark_no_show",
        "clear_no_show": "clear_no_show",
    }
)
"""The action behind each tool."""
DEEDS: Mapping[str, Tool] = MappingProxyType(
    {
        each.name: each
        for each in (
            _deed(
                "book_meeting",
                "Book a slot of an event type for somebody. Ask list_available_times for free slots first.",
                ("event_type", "start_time", "email", "name", "timezone"),
                event_type=argument("event_type"),
                start_time=_START,
                email=argument("email", description="The invitee's mail address."),
                name=argument("name", description="The invitee's name."),
                timezone=argument("timezone", description="The invitee's time zone, for example Europe/Paris."),
                guests=argument("guests", type="array", items={"type": "string"}, maxItems=10),
                answers=argument(
                    "answers",
                    type="array",
                    maxItems=50,
                    description="Answers to the event type's questions, each with the question's exact text.",
                    items={
                        "type": "object",
                        "properties": {
                            "question": {"type": "string"},
                            "answer": {"type": "string"},
                            "position": {"type": "integer", "minimum": 0},
                        },
                        "required": ["question", "answer"],
                        "additionalProperties": False,
                    },
                ),
                location=argument(
                    "location",
                    type="object",
                    description="Where to meet, if the event type offers a choice.",
                    properties={"kind": {"type": "string"}, "location": {"type": "string"}},
                    required=["kind"],
                    additionalProperties=False,
                ),
            ),
            _deed(
                "cancel_meeting",
                "Cancel a whole meeting, for everybody in it. If several have booked it, a person is asked first.",
                ("scheduled_event",),
                scheduled_event=argument("scheduled_event"),
                reason=_WHY,
            ),
            _deed(
                "reschedule_meeting",
                "Move an invitee to another slot of the same event type: it books the new one, then cancels the old.",
                ("invitee", "start_time"),
                invitee=_INVITEE,
                start_time=_START,
                reason=_WHY,
            ),
            _deed("mark_no_show", "Mark that an invitee did not come.", ("invitee",), invitee=_INVITEE),
            _deed(
                "clear_no_show",
                "Take a no-show mark back.",
                ("no_show_mark",),
                no_show_mark=argument("no_show_mark", description="The mark's URI, as get_invitee shows it."),
            ),
        )
    }
)
"""The tools, by name."""


@dataclass(frozen=True, slots=True)
class DeedsBench:
    """The tools that act."""

    control: ControlClient
    grants: ToolGrants

    @property
    def tools(self) -> Mapping[str, Tool]:
        """All of them."""
        return DEEDS

    async def run(self, call: Call) -> ToolAnswer:
        """Have it done, and say what became of it.

        Raises:
            AskFirst: it would cancel the bookings of several people.
        """
        action = action_of(call)
        grant = await self.grants.grant(call)
        try:
            found = await self.control.act_as_agent(grant, key_of(call), action)
        except RequestRefused as error:
            if error.code != ASKS:
                raise
            if call.who.chain is not None:
                raise RequestRefused(
                    f"{error.message}, and this token is for one chain of bookings",
                    code="not_granted",
                    remedy="Tell the person whom you work for.",
                ) from None
            raise AskFirst(f"{error.message[:1].upper()}{error.message[1:]}. Cancel it for all of them?") from None
        told = found if isinstance(found, dict) else {}
        shown = {name: told.get(name) for name in SHOWN}
        # What we wrote ourselves: states, ids and addresses of Calendly.
        item = {**shown, "next": NEXT.get(str(told.get("state")), "Read the meeting to see what became of it.")}
        return ToolAnswer(item=item, target=told.get("target"), ours=True)


def action_of(call: Call) -> dict[str, Any]:
    """Write what is to be done as `control` takes it."""
    given = {name: value for name, value in call.arguments.items() if name != "idempotency_key"}
    if "no_show_mark" in given:
        given["mark"] = given.pop("no_show_mark")
    verb = VERBS[call.tool.name]
    if call.confirmed and verb in ("cancel", "reschedule"):
        given["everyone"] = True
    return {"verb": verb, **given}


def key_of(call: Call) -> str:
    """Return the key of an action: the caller's own, or one that follows from what is asked."""
    own = call.arguments.get("idempotency_key")
    if own is not None:
        return f"k:{own}"
    told = orjson.dumps([call.tool.name, dict(call.arguments)], option=orjson.OPT_SORT_KEYS)
    return f"a:{hashlib.sha256(told).hexdigest()[:40]}"
