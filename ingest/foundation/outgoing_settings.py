"""The settings of requests to addresses that somebody else names: receivers of webhooks, chats."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import Field, field_validator

from slotwire.ingest.foundation.settings_base import Names, SettingsGroup

PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
"""Networks that may be allowed. Link-local and loopback addresses, where machines tell their secrets, never are."""


class OutgoingSettings(SettingsGroup):
    """Requests to receivers of webhooks. Only public addresses are connected to, over https, without a proxy."""

    allow_networks: Names = ()
    """Private networks that receivers may be in, in CIDR form, each within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16,
    100.64.0.0/10 or fc00::/7."""
    allow_local: bool = False
    """Also connect to this machine, and there without TLS: for the local stack. Refused unless `SLOTWIRE_PUBLIC_URL`
    and both addresses of Calendly are loopback ones."""
    ca_file: str | None = None
    """The CA that signed the receivers' certificates; the system's CAs if unset."""
    timeout_seconds: float = Field(10.0, gt=0, le=60)
    """How long a request may take, from the look-up of the name to the last octet of the answer."""
    at_once_per_destination: int = Field(4, ge=1, le=50)
    """The most requests at once from one process to one scheme, host and port."""
    per_second_per_destination: float = Field(10.0, ge=0.1, le=1000)
    """The most requests in a second from one process to one scheme, host and port."""

    @field_validator("allow_networks")
    @classmethod
    def _networks_are_private(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                network = ip_network(each)
            except ValueError:
                raise ValueError("must be networks in CIDR form, for example 10.20.0.0/16, fd12::/16") from None
            if not any(network.version == of.version and network.subnet_of(of) for of in PRIVATE):  # type: ignore[arg-type]  # of one version
                raise ValueError(f"must be within one of {', '.join(map(str, PRIVATE))}")
        return value
