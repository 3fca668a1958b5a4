"""The vault seals for one place and opens nowhere else."""

from __future__ import annotations

import base64
import secrets

import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import ConfigurationError, SecretUnreadable
from slotwire.ingest.foundation.key_texts import MIN_DISTINCT_OCTETS, encode_base64url
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.vault import MAX_SECRET_BYTES, Vault

CONTEXT = ("signing_keys", "ORG", "hook", "1")


def entry(name: str = "k1", key: bytes | None = None) -> str:
    """Make an entry of the setting."""
    return f"{name}:{encode_base64url(key or secrets.token_bytes(32))}"


def vault(*entries: str) -> Vault:
    """Read entries the way a process does."""
    return Vault.from_settings(VaultSettings(keys=tuple(SecretStr(item) for item in entries)))


def test_a_sealed_secret_opens_in_its_place() -> None:
    """What was sealed comes back unchanged, and the sealed form does not hold it in clear."""
    ours = vault(entry())
    sealed = ours.seal(b"signing-key", context=CONTEXT)
    assert ours.open(sealed, context=CONTEXT) == b"signing-key"
    assert b"signing-key" not in sealed


def test_two_seals_of_one_secret_differ() -> None:
    """Every seal has a nonce of its own."""
    ours = vault(entry())
    assert ours.seal(b"x", context=CONTEXT) != ours.seal(b"x", context=CONTEXT)


@pytest.mark.parametrize(
    "other",
    [
        ("signing_keys", "ORG", "hook", "2"),
        ("signing_keys", "ORG", "hook1"),
        ("signing_keys", "ORG", "hook", "1", ""),
        ("signing_keysORG", "hook", "1"),
        (),
    ],
)
def test_another_context_does_not_open(other: tuple[str, ...]) -> None:
    """No other context opens a secret, not even one whose parts join to the same text."""
    ours = vault(entry())
    sealed = ours.seal(b"secret", context=CONTEXT)
    with pytest.raises(SecretUnreadable):
        ours.open(sealed, context=other)


def test_every_changed_octet_is_noticed() -> None:
    """Flipping any single octet of a sealed secret makes it unreadable."""
    ours = vault(entry())
    sealed = ours.seal(b"secret", context=CONTEXT)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SecretUnreadable):
            ours.open(bytes(changed), context=CONTEXT)


def test_every_cut_is_noticed() -> None:
    """A secret cut short anywhere is unreadable, never an error of another kind."""
    ours = vault(entry())
    sealed = ours.seal(b"", context=CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(SecretUnreadable):
            ours.open(sealed[:length], context=CONTEXT)


def test_the_first_key_seals_and_all_open() -> None:
    """After a new key is put first, old secrets still open; once the old key is gone the message names it."""
    old, new = entry("old"), entry("new")
    sealed = vault(old).seal(b"secret", context=CONTEXT)
    both = vault(new, old)
    assert both.open(sealed, context=CONTEXT) == b"secret"
    assert vault(new).open(both.seal(b"secret", context=CONTEXT), context=CONTEXT) == b"secret"
    with pytest.raises(SecretUnreadable, match="'old'") as caught:
        vault(new).open(sealed, context=CONTEXT)
    assert "SLOTWIRE_VAULT__KEYS" in caught.value.remedy


def test_the_longest_secret_and_one_past_it() -> None:
    """64 KiB are sealed, one octet more is refused."""
    ours = vault(entry())
    longest = bytes(MAX_SECRET_BYTES)
    assert ours.open(ours.seal(longest, context=CONTEXT), context=CONTEXT) == longest
    with pytest.raises(ValueError, match="longer than"):
        ours.seal(longest + b"x", context=CONTEXT)


def _twice() -> list[str]:
    key = secrets.token_bytes(32)
    return [entry("a", key), entry("b", key)]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "is not set"),
        (["no-name-and-no-colon"], "not name:key"),
        ([":" + entry().partition(":")[2]], "not name:key"),
        ([entry("a name with blanks")], "not name:key"),
        ([entry("n" * 33)], "not name:key"),
        (["k1:not/base64+url"], "not base64url"),
        ([entry(key=secrets.token_bytes(31))], "has 31 bytes, it must have 32"),
        ([entry(key=secrets.token_bytes(33))], "has 33 bytes, it must have 32"),
        ([entry(key=bytes(32))], "is not random"),
        ([entry(key=bytes(range(MIN_DISTINCT_OCTETS - 1)) + bytes(33 - MIN_DISTINCT_OCTETS))], "is not random"),
        ([entry("same"), entry("same")], "twice"),
        (_twice(), "twice"),
    ],
)
def test_bad_keys_are_refused_with_a_remedy(entries: list[str], message: str) -> None:
    """Every bad setting is refused with what to do, and without showing a key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        vault(*entries)
    assert caught.value.remedy
    for item in entries:
        assert item.partition(":")[2] not in str(caught.value) or not item.partition(":")[2]


def test_the_accepted_forms_of_a_key() -> None:
    """A key may be padded or not, its name may have 32 characters, and MIN_DISTINCT_OCTETS octets are enough."""
    padded = "k1:" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    assert padded.endswith("=")
    assert vault(padded).key_names == ("k1",)
    assert vault(entry("n" * 32)).key_names == ("n" * 32,)
    barely = bytes(range(MIN_DISTINCT_OCTETS)) + bytes(32 - MIN_DISTINCT_OCTETS)
    assert vault(entry(key=barely)).key_names == ("k1",)


def test_the_text_form_shows_no_key() -> None:
    """`repr` gives names only."""
    made = entry("k1")
    assert repr(vault(made)) == "Vault(keys=['k1'])"
