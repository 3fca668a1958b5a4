"""Which addresses may be connected to, whatever a name was said to mean. Pure.

The lists are IANA's special-purpose registries for IPv4 and IPv6, written out: what the standard library calls global
differs from version to version, and it lets through addresses that carry an IPv4 address inside (NAT64, 6to4, Teredo).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings

_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by customers of a carrier
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols of the IETF
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_UNICAST = IPv6Network("2000::/3")
"""The only part of IPv6 that is handed out for the public network."""
_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols of the IETF, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))
"""Where clouds tell a machine its secrets, inside networks that may be allowed."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Which addresses may be connected to.

    Attributes:
        networks: private networks that are allowed.
        local: whether this machine is.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    local: bool = False

    @classmethod
    def of(cls, settings: OutgoingSettings) -> AddressRules:
        """Read them from the settings, which have checked the networks."""
        return cls(tuple(map(ip_network, settings.allow_networks)), settings.allow_local)

    def why_not(self, text: str) -> str | None:
        """Say why an address is refused, in words that follow "it is"; None where it may be connected to."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "no address"
        if address in _METADATA:
            return "an address where clouds tell secrets"
        if address.is_loopback:
            return None if self.local else "this machine"
        if any(address in network for network in self.networks):
            return None
        return _special_ipv4(address) if isinstance(address, IPv4Address) else _special_ipv6(address)


def is_address(host: str) -> bool:
    """Whether a host is an address itself, and no name of one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _special_ipv4(address: IPv4Address) -> str | None:
    if address.is_global and not any(address in network for network in _IPV4):
        return None
    return "not on the public network"


def _special_ipv6(address: IPv6Address) -> str | None:
    if address.scope_id is not None or address not in _UNICAST:
        return "not on the public network"
    if address.is_global and not any(address in network for network in _IPV6):
        return None
    return "not on the public network"
