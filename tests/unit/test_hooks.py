"""Hook addresses: minted by us, proved without a look-up, masked in what is written."""

from __future__ import annotations

import secrets

import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.settings import HttpSettings, Settings
from slotwire.ingest.keys.hooks import HOOK_LENGTH, HookAddresses, HookId, masked

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def key(octets: int = 32) -> str:
    """Make a server key as the settings take it."""
    return encode_base64url(secrets.token_bytes(octets))


def addresses(*keys: str, public_url: str = "https://hooks.example.com/in") -> HookAddresses:
    """Read keys the way a process does."""
    http = HttpSettings(hook_keys=tuple(SecretStr(item) for item in keys))
    return HookAddresses.from_settings(Settings(http=http, public_url=public_url))


def test_a_minted_hook_reads_back() -> None:
    """A hook of ours gives its id, and the same id always gives the same hook."""
    ours = addresses(key())
    hook_id = ours.mint()
    hook = ours.hook(hook_id)
    assert ours.read(hook) == hook_id
    assert ours.hook(hook_id) == hook
    assert len(hook) == HOOK_LENGTH


def test_every_single_character_change_is_refused() -> None:
    """No hook that differs in one character is read, the spare bits of the last character included."""
    ours = addresses(key())
    hook = ours.hook(ours.mint())
    for at in range(len(hook)):
        for other in ALPHABET:
            if other != hook[at]:
                assert ours.read(hook[:at] + other + hook[at + 1 :]) is None


@pytest.mark.parametrize("forged", ["", "A", "A" * 42, "A" * 43, "A" * 44, "é" * 43, "A" * 42 + "\n", "A" * 42 + "="])
def test_a_malformed_hook_is_refused(forged: str) -> None:
    """Any other length or alphabet is no hook, and never an exception."""
    assert addresses(key()).read(forged) is None


def test_the_first_key_mints_and_all_are_accepted() -> None:
    """A hook outlives the key's replacement as long as its key is listed."""
    old, new = key(), key()
    before, after = addresses(old), addresses(new, old)
    hook_id = before.mint()
    assert after.read(before.hook(hook_id)) == hook_id
    assert after.read(after.hook(hook_id)) == hook_id
    assert after.hook(hook_id) != before.hook(hook_id)
    assert addresses(new).read(after.hook(hook_id)) == hook_id
    assert addresses(new).read(before.hook(hook_id)) is None


def test_the_address_keeps_a_path_of_the_public_url() -> None:
    """A path in the public address is honoured."""
    ours = addresses(key())
    hook_id = ours.mint()
    assert ours.url(hook_id) == f"https://hooks.example.com/in/hooks/calendly/{ours.hook(hook_id)}"


def test_without_a_public_url_there_is_no_address() -> None:
    """A missing public address is said only when an address is needed."""
    ours = addresses(key(), public_url="")
    with pytest.raises(ConfigurationError, match="SLOTWIRE_PUBLIC_URL"):
        ours.url(ours.mint())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "is not set"),
        (["*"], "not base64url"),
        ([key(31)], "31 bytes, it must have at least 32"),
        ([encode_base64url(bytes(32))], "not random"),
        ([encode_base64url(bytes(range(32)))] * 2, "twice"),
    ],
)
def test_bad_keys_are_refused_with_a_remedy(keys: list[str], message: str) -> None:
    """Every bad setting is refused with what to do."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        addresses(*keys)
    assert caught.value.remedy


def test_a_longer_key_is_accepted() -> None:
    """32 octets are the least, not the most."""
    ours = addresses(key(64))
    assert ours.read(ours.hook(ours.mint())) is not None


def test_the_logged_form_is_not_a_valid_hook() -> None:
    """The masked form keeps six characters and none that could break a log line."""
    ours = addresses(key())
    hook = ours.hook(HookId("A" * 22))
    assert masked(hook) == "AAAAAA…"
    assert masked("a\n\x1b[31m") == "a???31…"
    assert ours.read(masked(hook)) is None


def test_the_text_form_shows_no_key() -> None:
    """`repr` counts the keys and does not show them."""
    made = key()
    assert made not in repr(addresses(made))
