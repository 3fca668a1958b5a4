"""What is asked of a URL before anything is looked up. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from yarl import URL

from slotwire.ingest.foundation.errors import OutgoingRefused
from slotwire.ingest.foundation.settings_base import is_loopback

MAX_URL_CHARACTERS = 2_048
MAX_HOST_CHARACTERS, MAX_PART_CHARACTERS = 254, 63
"""Of a name (RFC 1035), with a full stop at its end, and of what stands between two full stops."""
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%#-]+", re.ASCII)
_AUTHORITY = re.compile(r"[A-Za-z]+://([^/?#]*)", re.ASCII)
_NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """An address that a request may be made to, if its name means addresses that may be connected to.

    Attributes:
        url: as it was written.
        host: its host, without brackets.
    """

    url: URL
    host: str

    @property
    def destination(self) -> str:
        """What limits count by: scheme, host and port."""
        return f"{self.url.scheme}://{self.host.lower().rstrip('.')}:{self.url.port}"


def read_target(url: str, *, local: bool) -> Target:
    """Read a URL.

    Args:
        url: as somebody wrote it. It may be a secret, and is never shown.
        local: whether http is fine on this machine.

    Raises:
        OutgoingRefused: `url`, `scheme`, `userinfo` or `fragment`.
    """
    authority = _AUTHORITY.match(url)
    if len(url) > MAX_URL_CHARACTERS or authority is None or _CHARACTERS.fullmatch(url) is None:
        raise _refused(f"is no address of at most {MAX_URL_CHARACTERS} characters, all of them ASCII", "url")
    if "@" in authority[1]:
        raise _refused("has a user or a password before its host", "userinfo")
    if "#" in url:
        raise _refused("has a fragment", "fragment")
    try:
        parsed = URL(url, encoded=True)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        raise _refused("cannot be read", "url") from None
    if parsed.scheme != "https" and not (parsed.scheme == "http" and local and host and is_loopback(host)):
        raise _refused("does not begin with https://", "scheme")
    if not host or not port or _is_odd_number(host) or _is_no_name(host):
        raise _refused("has no host and port that can be connected to", "url")
    return Target(parsed, host)


def _is_no_name(host: str) -> bool:
    """Whether a host is longer than a name can be, in whole or in a part, or has an empty part; addresses have none."""
    parts = host.removesuffix(".").split(".")
    return len(host) > MAX_HOST_CHARACTERS or not all(0 < len(each) <= MAX_PART_CHARACTERS for each in parts)


def _is_odd_number(host: str) -> bool:
    """Whether a host is an IPv4 address in another form than four numbers: servers and libraries read those apart."""
    if ":" in host or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is None:
        return False
    try:
        return str(IPv4Address(host)) != host
    except ValueError:
        return True


def _refused(what: str, reason: str) -> OutgoingRefused:
    return OutgoingRefused(
        f"the receiver's address {what}",
        reason=reason,
        remedy="Write https://host/path, without a user, a password or a fragment.",
    )
