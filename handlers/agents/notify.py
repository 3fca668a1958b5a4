"""Tells a receiver of events: a webhook signed as Standard Webhooks has it, or one line in a chat.

    slotwire agents run notify

For receivers without Kafka. At least once: a receiver that saw an event's id before has seen the event. What each
organization wants is set with `slotwire agents settings set notify`; without settings nothing is sent.
docs/howto/use-shipped-agents.md describes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from slotwire.handlers.context import Context
from slotwire.handlers.outcome import MAX_RETRY_AFTER_SECONDS, Outcome, Reject, Retry
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.ingest.foundation.agent_settings import NotifySettings
from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing import Answer
from slotwire.ingest.foundation.outgoing.retries import is_worth_another
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers, webhook_secret
from slotwire.schemas.codec import encode_data, format_time
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import (
    EVENT_CLASSES,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
)
from slotwire.schemas.ids import last_segment

MAX_BODY_BYTES = 262_144
"""A longer body is sent without its data and with a reference: receivers take 256 KiB."""
MAX_TYPED_CHARACTERS = 120
"""Of a text that a person typed, in a chat's line."""

agent = ShippedAgent(
    "notify",
    NotifySettings,
    start="latest",  # nobody wants to be told of the last thirty days at once
    retry=RetryPolicy(attempts=24, first_seconds=1, factor=3, longest_seconds=900),  # over about four hours
    # What is given up depends on receivers: one organization's must not stop the agent for all others.
    limit=GiveUpLimit(run=100_000, window=1_000, share=1.0),
    timeout_seconds=120,
    organization_concurrency=8,
)

_WORDS = {
    InviteeCreated.type: "Booked",
    InviteeCanceled.type: "Cancelled",
    InviteeRescheduled.type: "Moved",
    InviteeNoShowCreated.type: "No-show",
    InviteeNoShowDeleted.type: "No-show undone",
}
_ABOUT_THE_EVENT = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
"""Statuses that may be about one event, and say nothing of others."""
_PUBLIC_URLS = frozenset({"scheduling_url"})
_LOOKALIKES = str.maketrans(
    r"<>&@*_~`|[]()#\:/",
    "\u2039\u203a\uff06\uff20\u2217\uff3f\u223c\u02cb\u2223\uff3b\uff3d\uff08\uff09\uff03\uff3c\ua789\u2215",
)
"""For each character that a chat gives a meaning, one that looks the same and has none."""
_DOT_IN_WORD = re.compile(r"\.(?=\.*[^\s.])")


@agent.on(*EVENT_CLASSES)
async def tell(event: Event[Any], ctx: Context) -> Outcome | None:
    """Tell the organization's receiver, if it wants to know of this."""
    settings = await agent.settings(ctx.organization)
    if settings is None or not is_wanted(event, settings):
        return None
    body = chat_of(event, settings) if settings.form == "chat" else webhook_of(event, settings)
    if settings.dry_run:
        return agent.would(ctx, f"send a {settings.form}", bytes=len(body))
    headers = {"Content-Type": "application/json", **_signature(settings, event, body, ctx.clock.now())}
    try:
        answer = await agent.outgoing.post(settings.url.get_secret_value(), body, headers)
    except (OutgoingRefused, OutgoingFailed) as error:
        return await _not_told(ctx, error.message)
    return None if answer.is_success else await _refused(ctx, answer, len(body))


async def _refused(ctx: Context, answer: Answer, sent: int) -> Outcome:
    """Do what an answer other than success asks for."""
    why = f"the receiver answered {answer.status}"
    if is_worth_another(answer):
        return await _not_told(ctx, why, after=answer.retry_after, disables=answer.status not in _ABOUT_THE_EVENT)
    if answer.status == HTTPStatus.GONE:
        await agent.disable(ctx.organization, f"{why}: it wants no more")
        return Reject(why)
    return Reject(f"{why}: {sent} bytes are too many for it")


async def _not_told(ctx: Context, why: str, *, after: float | None = None, disables: bool = True) -> Outcome:
    """Try again later; with the last try give the event up, and the receiver too if all of them failed for hours."""
    ctx.log.warning("not_told", why=why, attempt=ctx.attempt)
    if ctx.attempt < agent.retry.attempts:
        return Retry(None if after is None else min(after, MAX_RETRY_AFTER_SECONDS))
    if disables:
        await agent.disable(ctx.organization, f"{why}, {ctx.attempt} times for one event")
    return Reject(why)


def is_wanted(event: Event[Any], settings: NotifySettings) -> bool:
    """Whether an organization wants to be told of an event."""
    if settings.types and event.type not in settings.types:
        return False
    if (event.origin or "webhook") not in settings.origins:
        return False
    return not settings.event_types or _event_type_of(event) in settings.event_types


def _event_type_of(event: Event[Any]) -> str | None:
    """Return the identifier of the event type at Calendly that an event is about."""
    scheduled = getattr(event.data, "scheduled_event", None)
    uri = event.subject if ".event_type." in event.type else getattr(scheduled, "event_type", None)
    return last_segment(uri) if isinstance(uri, str) and uri else None


def _signature(settings: NotifySettings, event: Event[Any], body: bytes, now: datetime) -> Mapping[str, str]:
    if settings.form == "chat" or settings.secret is None:
        return {}
    before = settings.previous_secret
    also = () if before is None else (webhook_secret(before.get_secret_value()),)
    return standard_webhook_headers(
        webhook_secret(settings.secret.get_secret_value()), str(event.id), now, body, also=also
    )


def webhook_of(event: Event[Any], settings: NotifySettings) -> bytes:
    """Write an event as the body of a webhook: `type`, `timestamp` and `data`, and its context beside them."""
    data = orjson.loads(encode_data(event.data))
    message = {
        "type": event.type,
        "timestamp": format_time(event.time),
        "id": str(event.id),
        "source": event.source,
        "subject": event.subject,
        "tenant": event.tenant,
        "key": event.key,
        "sequence": event.sequence,
        "origin": event.origin,
        "inferred": event.inferred,
        "replay": event.replay,
        "data": data if settings.capability_urls else without_capabilities(data),
    }
    body = orjson.dumps(message)
    if len(body) <= MAX_BODY_BYTES:
        return body
    return orjson.dumps({**message, "data": None, "dataref": f"/v1/events/{event.id}"})


def without_capabilities(value: Any, *, of: str = "") -> Any:
    """Leave out what opens something: links but public ones, what a conference needs to be joined, unknown fields."""
    if isinstance(value, list):
        return [without_capabilities(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: without_capabilities(each, of=name)
        for name, each in value.items()
        if not _opens_something(name, each, of=of)
    }


def _opens_something(name: str, value: object, *, of: str) -> bool:
    if name == "extra" or (name.endswith("_url") and name not in _PUBLIC_URLS):
        return True
    return of == "location" and (name == "data" or (isinstance(value, str) and "://" in value))


def chat_of(event: Event[Any], settings: NotifySettings) -> bytes:
    """Write an event as one line for a chat."""
    return orjson.dumps({"text": line_of(event, name_invitees=settings.name_invitees)})


def line_of(event: Event[Any], *, name_invitees: bool) -> str:
    """Say what happened in one line. What people typed has no meaning to the chat."""
    data = event.data
    parts = [_word_of(event)]
    scheduled: Any = getattr(data, "scheduled_event", None)
    if isinstance(data, InviteeRescheduled):
        parts += [f"from {_when(data.old_start_time)}", f"to {_when(data.start_time)}"]
    elif getattr(scheduled, "name", None):
        parts += [plain(scheduled.name), f"on {_when(scheduled.start_time)}"]
    elif isinstance(getattr(data, "reason", None), str):
        parts.append(plain(data.reason))
    invitee = getattr(data, "name", None) if isinstance(data, InviteeCreated | InviteeCanceled) else None
    if name_invitees and invitee:
        parts.append(f"by {plain(invitee)}" if isinstance(data, InviteeCreated) else f"of {plain(invitee)}")
    return f"{parts[0]}: {' '.join(parts[1:])}" if len(parts) > 1 else parts[0]


def _word_of(event: Event[Any]) -> str:
    if isinstance(event.data, InviteeCanceled) and event.data.rescheduled:
        return "Moved away"
    resource, verb = event.type.split(".")[-3:-1]
    return _WORDS.get(event.type, f"{resource} {verb}".replace("_", " ").capitalize())


def _when(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%a %d %b %Y, %H:%M} UTC" if time else "an unknown time"


def plain(text: str) -> str:
    """Write what somebody typed so that no chat sees a mention, a link, markup or a second line in it."""
    printable = "".join(" " if unicodedata.category(each) in _UNSEEN else each for each in text)
    clean = _DOT_IN_WORD.sub("\u2024", " ".join(printable.split())).translate(_LOOKALIKES)
    return clean if len(clean) <= MAX_TYPED_CHARACTERS else f"{clean[: MAX_TYPED_CHARACTERS - 1]}\u2026"


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that nobody sees: controls, formats such as changes of direction, line ends."""
