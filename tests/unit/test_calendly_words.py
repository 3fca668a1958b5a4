"""What goes to Calendly and what is said of its answers, before any connection is made."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.addresses import MAX_TOKEN_LENGTH
from slotwire.ingest.control.calendly_client.answers import MAX_TEXT, plain
from slotwire.ingest.errors import ConfigurationError, RequestRefused
from slotwire.ingest.foundation.settings import CalendlySettings
from tests.support.scripted_calendly import connected

TOKEN = "eyJ.a-token-that-nobody-may-see.sig"
HOOK = "https://hooks.example.com/hooks/calendly/capability"


@pytest.mark.parametrize("address", ["http://api.calendly.com", "ftp://127.0.0.1", "https://[", "api.calendly.com", ""])
async def test_a_token_never_goes_out_in_clear(address: str) -> None:
    """Anything but https is refused before a connection is made, loopback excepted."""
    with pytest.raises(ConfigurationError, match="SLOTWIRE_CALENDLY__API_URL"):
        async with connected(CalendlySettings(api_url=address), SecretStr(TOKEN)):
            pass


@pytest.mark.parametrize(
    ("token", "fits"),
    [
        ("t", True),
        ("t" * MAX_TOKEN_LENGTH, True),
        ("t" * (MAX_TOKEN_LENGTH + 1), False),
        ("", False),
        ("two words", False),
        ("a\r\nHost: elsewhere", False),
        ("ключ", False),
    ],
    ids=["one", "longest", "too_long", "empty", "blank", "lines", "not_ascii"],
)
async def test_an_impossible_token_is_refused(token: str, fits: bool) -> None:
    """Empty, too long, blanks, line breaks and other alphabets are refused without being shown."""

    async def attempt() -> bool:
        async with connected(CalendlySettings(), SecretStr(token)):
            return True

    if fits:
        assert await attempt()
    else:
        with pytest.raises(RequestRefused) as caught:
            await attempt()
        assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("fine", "fine"),
        ("a\nb\x1b[31m", "a b [31m"),
        (f"hook {HOOK} exists", "hook … exists"),
        ("ask ada@example.com now", "ask … now"),
        ("x" * (MAX_TEXT + 1), "x" * MAX_TEXT),
    ],
    ids=["plain", "control", "address", "mail", "long"],
)
def test_text_from_calendly_is_sanitized(told: str, shown: str) -> None:
    """What Calendly says is one line, bounded, without addresses, before it is part of a message."""
    assert plain(told) == shown
