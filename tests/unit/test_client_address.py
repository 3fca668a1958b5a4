"""Who sent a request, behind proxies and without: the right-most entry that no trusted proxy could have made up."""

from __future__ import annotations

import pytest

from slotwire.ingest.foundation.client_address import MAX_FORWARDED, client_address, read_network

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:172.16.0.0/108")
PROXY = "10.1.1.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # without a proxy that is trusted, the header is anybody's
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("2001:db8::9", ["198.51.100.1"], "2001:db8::9"),
        # one proxy, of each kind of address
        (PROXY, ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.7", ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.8", ["198.51.100.1"], "192.0.2.8"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("172.20.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1%eth0", ["198.51.100.1"], "198.51.100.1"),
        (PROXY, ["::ffff:198.51.100.1"], "198.51.100.1"),
        (PROXY, [], PROXY),
        (PROXY, [""], PROXY),
        # a chain of proxies, in one header and in several
        (PROXY, ["198.51.100.1, 10.2.2.2, fd00::2"], "198.51.100.1"),
        (PROXY, ["198.51.100.1", "10.2.2.2", "fd00::2"], "198.51.100.1"),
        (PROXY, ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        # the left part is forged
        (PROXY, ["127.0.0.1, 10.9.9.9, 198.51.100.1"], "198.51.100.1"),
        (PROXY, ["10.9.9.9", "203.0.113.5, 198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        # ports and brackets
        (PROXY, ["198.51.100.1:51234"], "198.51.100.1"),
        (PROXY, ["[2001:db8::1]:443"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, ["198.51.100.1, [fd00::2]:8080"], "198.51.100.1"),
        # garbage ends the way at the last good address
        (PROXY, ["198.51.100.1, unknown"], PROXY),
        (PROXY, ["198.51.100.1, unknown, 10.2.2.2"], "10.2.2.2"),
        (PROXY, ["198.51.100.1,, 10.2.2.2"], "10.2.2.2"),
        (PROXY, ["198.51.100.1, 10.2.2.2:"], PROXY),
        (PROXY, ["1.2.3.4.5"], PROXY),
        (PROXY, ["[198.51.100.1"], PROXY),
        (PROXY, ["<script>"], PROXY),
        # a socket without an address
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_s_address(peer: str, forwarded: list[str], expected: str) -> None:
    """Each form of peer and header gives the address that cannot be forged."""
    assert client_address(peer, forwarded, [read_network(each) for each in TRUSTED]) == expected


def test_only_so_many_entries_are_looked_at() -> None:
    """A chain as long as the limit is followed to its end; of a longer one, the left part is not."""
    trusted, chain = [read_network("10.0.0.0/8")], ["10.0.0.1"] * (MAX_FORWARDED - 1)
    assert client_address(PROXY, [",".join(["198.51.100.1", *chain])], trusted) == "198.51.100.1"
    assert client_address(PROXY, [",".join(["198.51.100.1", "10.0.0.1", *chain])], trusted) == "10.0.0.1"


def test_nobody_is_trusted_unless_named() -> None:
    """Without trusted networks the address is the peer's."""
    assert client_address("127.0.0.1", ["198.51.100.1"], []) == "127.0.0.1"
