"""Return addresses of links: compared part by part with the list, never repaired."""

from __future__ import annotations

import pytest

from slotwire.ingest.control.connect_links import allowed

LISTED = ("https://app.example.com/connected", "http://127.0.0.1:9/connected")


@pytest.mark.parametrize("url", [*LISTED, "https://app.example.com/connected?state=1&next=/x"])
def test_a_listed_address_is_allowed_with_any_query(url: str) -> None:
    """Scheme, host, port and path are those of an entry."""
    assert allowed(url, LISTED)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/connected",
        "http://app.example.com/connected",
        "https://app.example.com/connected/",
        "https://app.example.com/connected/../elsewhere",
        "https://app.example.com.evil.example.com/connected",
        "https://app.example.com@evil.example.com/connected",
        "https://user@app.example.com/connected",
        "https://app.example.com:8443/connected",
        "https://app.example.com/connected#fragment",
        "//app.example.com/connected",
        "https:\\\\app.example.com\\connected",
        "https://app.example.com/connected\t",
        "http://127.0.0.1:10/connected",
        "http://127.0.0.1:x/connected",
        "http://[/connected",
        "javascript:alert(1)",
        "",
    ],
)
def test_no_other_address_is_allowed(url: str) -> None:
    """Neither another place, nor another spelling that a browser might take for one of the list."""
    assert not allowed(url, LISTED)
