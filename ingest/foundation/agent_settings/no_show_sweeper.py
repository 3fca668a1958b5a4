"""The settings of `no_show_sweeper`: who knows who came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, SecretStr, model_validator

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings, can_be_asked, can_sign


class NoShowSweeperSettings(ShippedSettings):
    """Mark invitees who did not come, once their meeting is over."""

    goes_with: ClassVar[Mapping[str, frozenset[str]]] = {"secret": frozenset({"url"})}

    source: Literal["file", "receiver"] = "file"
    """Who knows who came. `file`: files in `SLOTWIRE_AGENTS__ATTENDANCE_FOLDER`; `receiver`: `url` is asked."""
    url: Annotated[SecretStr | None, AfterValidator(can_be_asked)] = None
    """The receiver's address, https. It may hold a token, so it is kept like a secret."""
    secret: Annotated[SecretStr | None, AfterValidator(can_sign)] = None
    """What the question is signed with: `whsec_` and base64 of 24 to 64 bytes."""

    @model_validator(mode="after")
    def _a_receiver_is_named(self) -> Self:
        if self.source == "receiver" and (self.url is None or self.secret is None):
            raise ValueError("a receiver needs url and secret")
        return self
