"""The settings of `no_show_sweeper`: who knows who came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import SecretStr, ValidationInfo, field_validator, model_validator

from slotwire.ingest.foundation.agent_settings.form import ALLOW_LOCAL, ShippedSettings
from slotwire.ingest.foundation.errors import OutgoingRefused
from slotwire.ingest.foundation.outgoing.signing import webhook_secret
from slotwire.ingest.foundation.outgoing.target import read_target


class NoShowSweeperSettings(ShippedSettings):
    """Mark invitees who did not come, once their meeting is over."""

    goes_with: ClassVar[Mapping[str, frozenset[str]]] = {"secret": frozenset({"url"})}

    source: Literal["file", "receiver"] = "file"
    """Who knows who came. `file`: files in `SLOTWIRE_AGENTS__ATTENDANCE_FOLDER`; `receiver`: `url` is asked."""
    url: SecretStr | None = None
    """The receiver's address, https. It may hold a token, so it is kept like a secret."""
    secret: SecretStr | None = None
    """What the question is signed with: `whsec_` and base64 of 24 to 64 bytes."""

    @field_validator("url")
    @classmethod
    def _url_can_be_asked(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        try:
            if value is not None:
                read_target(value.get_secret_value(), local=bool((info.context or {}).get(ALLOW_LOCAL)))
        except OutgoingRefused as error:
            raise ValueError(error.message) from None
        return value

    @field_validator("secret")
    @classmethod
    def _secret_has_its_form(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            webhook_secret(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _a_receiver_is_named(self) -> Self:
        if self.source == "receiver" and (self.url is None or self.secret is None):
            raise ValueError("a receiver needs url and secret")
        return self
