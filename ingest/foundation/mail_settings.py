"""The settings of mail that agents send."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from slotwire.ingest.foundation.settings_base import LOOPBACK, SettingsGroup


class MailSettings(SettingsGroup):
    """The SMTP server that takes the mail of agents, and in whose name they send."""

    host: str = ""
    """The server. Unset: no agent can send mail."""
    port: int = Field(587, ge=1, le=65535)
    """Its port: usually 587 with `starttls`, 465 with `tls`."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`: TLS is demanded after the greeting; `tls`: from the first octet; `none`: only to a server on this
    machine."""
    ca_file: str | None = None
    """The CA that signed the server's certificate; the system's CAs if unset."""
    username: str | None = None
    """Used to log in; unset: no login."""
    password: SecretStr | None = None
    """Used to log in."""
    sender: str = Field("", pattern=r"^([^@\s<>\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,255})?$")
    """The address that mail comes from: `slotwire@example.com`."""
    timeout_seconds: float = Field(30.0, gt=0, le=300)
    """How long a mail may take to be handed over."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.host and not self.sender:
            raise ValueError("sender: name the address that mail comes from")
        if self.security == "none" and self.host not in {"", *LOOPBACK}:
            raise ValueError("security: a server that is not this machine needs `starttls` or `tls`")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password: give both, or neither")
        return self
