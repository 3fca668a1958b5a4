"""The settings of `nightly_digest`: who gets a digest, by which way, when, and in which time zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from typing import Annotated, ClassVar, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings, can_be_asked, can_sign
from slotwire.ingest.foundation.mail_message import address_of
from slotwire.ingest.foundation.settings_base import Names
from slotwire.schemas.ids import last_segment

MAX_READERS = 50
"""Mail addresses of an organization."""
MAX_ZONES = 500


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('name one of the IANA database, for example "Europe/Berlin"') from None
    return name


def _half_hour(at: time) -> time:
    if at.minute % 30 or at.second or at.microsecond or at.tzinfo is not None:
        raise ValueError("write a full or half hour, for example 18:00 or 18:30")
    return at


_Zone = Annotated[str, Field(max_length=100), AfterValidator(_zone)]


class NightlyDigestSettings(ShippedSettings):
    """Send who is responsible what is booked, what has changed, and what needs attention."""

    goes_with: ClassVar[Mapping[str, frozenset[str]]] = {"webhook_secret": frozenset({"webhook"})}

    timezone: _Zone = "UTC"
    """What a day is, and in which times are shown: a name of the IANA database."""
    at: Annotated[time, AfterValidator(_half_hour)] = time(18)
    """When a digest is sent, by clocks in that zone: a full or half hour."""
    day: Literal["today", "tomorrow"] = "tomorrow"
    """Whose meetings it lists."""
    mail: Names = Field((), max_length=MAX_READERS)
    """Mail addresses that get the organization's digest, each a mail of its own."""
    file: bool = False
    """Write it into `SLOTWIRE_AGENTS__OUTPUT_FOLDER`, as text and as HTML."""
    webhook: Annotated[SecretStr | None, AfterValidator(can_be_asked)] = None
    """The address of a receiver, https. It may hold a token, so it is kept like a secret."""
    webhook_secret: Annotated[SecretStr | None, AfterValidator(can_sign)] = None
    """What the webhook is signed with: `whsec_` and base64 of 24 to 64 bytes."""
    each_host: bool = False
    """Also send everybody who hosts a meeting on that day their own, to the address that Calendly has for them."""
    host_timezones: Names = Field((), max_length=MAX_ZONES)
    """Time zones of hosts who are elsewhere: `USER=ZONE`, by the URI of the user or its last segment."""

    @field_validator("mail")
    @classmethod
    def _mails_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            address_of(each)
        if len({each.casefold() for each in value}) != len(value):
            raise ValueError("name each address once")
        return value

    @field_validator("host_timezones")
    @classmethod
    def _zones_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            host, _, zone = each.partition("=")
            if not host:
                raise ValueError("write USER=ZONE")
            _zone(zone)
        return value

    @model_validator(mode="after")
    def _a_webhook_is_signed(self) -> Self:
        if (self.webhook is None) != (self.webhook_secret is None):
            raise ValueError("a webhook needs a secret to sign with: give both, or neither")
        return self

    def zone_of(self, host: str) -> str:
        """Return the name of the time zone of a host, by their URI."""
        named = dict(each.split("=", 1) for each in self.host_timezones)
        return next((zone for name, zone in named.items() if last_segment(name) == last_segment(host)), self.timezone)

    @property
    def zones(self) -> frozenset[str]:
        """The names of the time zones of all hosts."""
        return frozenset({self.timezone, *(each.partition("=")[2] for each in self.host_timezones)})
