"""Who sent a request, when proxies are in between. Pure: addresses go in, and one comes out, for logs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

MAX_FORWARDED = 32
"""Entries of `X-Forwarded-For` that are looked at, from the right."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BRACKETS = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?", re.ASCII)
_IPV4_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}", re.ASCII)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def read_network(text: str) -> Network:
    """Read a network in CIDR form, or one address. IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.

    Raises:
        ValueError: it is neither, or has bits set outside its prefix.
    """
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        if address is not None:
            return ipaddress.IPv4Network((address, network.prefixlen - 96))
    return network


def client_address(peer: str, forwarded: Sequence[str], trusted: Iterable[Network]) -> str:
    """Return the address that a request came from: the last one that no trusted proxy could have made up.

    Each proxy adds the address of its own client at the right, so we go from the right, as long as the one who wrote
    an entry is trusted. The left part may be forged. An entry that is no address ends the way at the last good one.

    Args:
        peer: the address at the other end of the connection.
        forwarded: the values of `X-Forwarded-For`, in their order.
        trusted: the networks of the proxies.
    """
    networks = tuple(trusted)
    found = _read(peer)
    if found is None:
        return peer
    entries = [entry for value in forwarded for entry in value.split(",")]
    for entry in reversed(entries[-MAX_FORWARDED:]):
        if not any(found in network for network in networks):
            break
        before = _read(entry)
        if before is None:
            break
        found = before
    return str(found)


def _read(text: str) -> Address | None:
    """Read an address, with or without brackets, port and zone; None if it is none."""
    text = text.strip()
    bare = _BRACKETS.fullmatch(text) or _IPV4_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((bare[1] if bare else text).partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
