"""The settings of `notify`: which events are told to which receiver, and how."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings, can_be_asked, can_sign
from slotwire.ingest.foundation.settings_base import Names
from slotwire.schemas.events import BY_TYPE
from slotwire.schemas.ids import last_segment

ORIGINS = ("webhook", "backfill", "reconcile", "retry", "own")
MAX_NAMES = 100
"""Of one list."""


class NotifySettings(ShippedSettings):
    """Tell a receiver of events, by a signed webhook or in a chat."""

    goes_with: ClassVar[Mapping[str, frozenset[str]]] = {"secret": frozenset({"url"})}

    url: Annotated[SecretStr, AfterValidator(can_be_asked)]
    """The receiver's address, https. It may hold a token, so it is kept like a secret."""
    form: Literal["webhook", "chat"] = "webhook"
    """`webhook`: the event as JSON, signed as Standard Webhooks has it. `chat`: one line, `{"text": …}`, as incoming
    webhooks of chats take it."""
    secret: Annotated[SecretStr | None, AfterValidator(can_sign)] = None
    """What the webhook is signed with: `whsec_` and base64 of 24 to 64 bytes."""
    previous_secret: Annotated[SecretStr | None, AfterValidator(can_sign)] = None
    """Another one that it is signed with too, while the receiver changes from it."""
    types: Names = Field((), max_length=MAX_NAMES)
    """Only events of these types, for example `com.calendly.invitee.created.v1`; all if empty."""
    event_types: Names = Field((), max_length=MAX_NAMES)
    """Only bookings of these event types at Calendly, by URI or its last segment; all events if empty."""
    origins: Names = ("webhook", "reconcile", "retry", "own")
    """Only events that came in so; what a backfill fetched is left out unless you add `backfill`."""
    capability_urls: bool = False
    """Send the links with which anybody can cancel or move a booking, and other links that open something."""
    name_invitees: bool = False
    """In a chat, name the invitee: everybody in the channel reads it."""

    @field_validator("types")
    @classmethod
    def _types_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each not in BY_TYPE:
                near = get_close_matches(each, BY_TYPE, n=1, cutoff=0.3)
                raise ValueError("names a type that no event has" + (f"; did you mean {near[0]}?" if near else ""))
        return value

    @field_validator("event_types")
    @classmethod
    def _event_types_by_id(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(last_segment(each) for each in value)

    @field_validator("origins")
    @classmethod
    def _origins_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(ORIGINS):
            raise ValueError(f"must be some of {', '.join(ORIGINS)}")
        return value

    @model_validator(mode="after")
    def _a_webhook_is_signed(self) -> Self:
        if self.form == "webhook" and self.secret is None:
            raise ValueError("a webhook needs a secret to sign with; a chat has none")
        return self
