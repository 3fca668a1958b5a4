"""Settings of the OAuth app: whole or refused, and addresses that are safe to send a browser to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slotwire.ingest.foundation.oauth_settings import OAuthSettings

WHOLE = {"client_id": "app", "client_secret": "hidden words", "signing_keys": "one, two", "integrator": "Example"}


def test_a_whole_app_is_taken() -> None:
    """Several keys are separated by commas; without a client id there is no app, and nothing else is needed."""
    found = OAuthSettings.model_validate(WHOLE)
    assert [key.get_secret_value() for key in found.signing_keys] == ["one", "two"]
    assert "hidden words" not in repr(found)
    assert OAuthSettings().client_id == ""


@pytest.mark.parametrize("missing", ["client_secret", "signing_keys", "integrator"])
def test_half_an_app_is_refused(missing: str) -> None:
    """Each part that is missing is named: without keys no delivery would be accepted."""
    with pytest.raises(ValidationError, match=f"SLOTWIRE_OAUTH__{missing.upper()}"):
        OAuthSettings.model_validate({**WHOLE, missing: ""})


@pytest.mark.parametrize(
    "url",
    ["http://app.example.com/x", "https://app.example.com/x?y", "https://user@app.example.com/", "app", "https:///x"],
)
def test_a_return_address_is_https_without_a_query(url: str) -> None:
    """Loopback may be http, for a simulator on this machine."""
    OAuthSettings(return_urls=("https://app.example.com/x", "http://127.0.0.1:9/x"))
    with pytest.raises(ValidationError, match="https"):
        OAuthSettings(return_urls=(url,))


@pytest.mark.parametrize("url", ["http://connect.example.com", "https://connect.example.com/?x", "ftp://x"])
def test_the_public_address_is_https(url: str) -> None:
    """It may have a path, and a slash at its end does not matter."""
    assert OAuthSettings(public_url="https://connect.example.com/a/").public_url == "https://connect.example.com/a"
    with pytest.raises(ValidationError, match="https"):
        OAuthSettings(public_url=url)
