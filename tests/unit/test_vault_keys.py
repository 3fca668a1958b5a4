"""The vault's keys from a file or from a provider, under the same rules as from the environment."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import ConfigurationError, SecretUnreadable
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.sealing import MAX_KEYS
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys import vault_keys
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.keys.vault_keys import GROUP, MAX_FILE_BYTES, read_vault_keys

CONTEXT = ("a", "place")
TAKEN: list[object] = []
KEY = bytes(range(32))
"""For the ids of tests, which must be the same in every process that collects them."""


def entry(name: str = "k1", key: bytes | None = None) -> str:
    """Make an entry."""
    return f"{name}:{encode_base64url(key or secrets.token_bytes(32))}"


def written(folder: Path, text: str) -> VaultSettings:
    """Write a file of keys, and name it."""
    file = folder / "keys"
    file.write_text(text, encoding="utf-8")
    return VaultSettings(keys_file=str(file))


def one_provider() -> list[str]:
    """Give what a test laid ready, as a package's provider would."""
    answer = TAKEN[0]
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[return-value]  # a provider may give anything


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> VaultSettings:
    """An installed package with one provider, and the settings that name it."""
    there = importlib.metadata.EntryPoint("kms", f"{__name__}:one_provider", GROUP)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda _: one_provider)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [there] if group == GROUP else [])
    vault_keys._provided.cache_clear()
    TAKEN.clear()
    return VaultSettings(keys_provider="kms")


@pytest.mark.parametrize("joined", ["{0}\n{1}\n", "{0},{1}", "\n  {0} ,\r\n\r\n{1}"])
def test_a_file_holds_what_the_variable_would(joined: str, tmp_path: Path) -> None:
    """Entries stand one a line or between commas, as a mounted secret may have them; the first seals."""
    new, old = entry("new"), entry("old")
    settings = written(tmp_path, joined.format(new, old))
    vault = Vault.from_settings(settings)
    assert vault.key_names == ("new", "old")
    by_variable = Vault.from_settings(VaultSettings(keys=(SecretStr(old), SecretStr(new))))
    assert vault.open(by_variable.seal(b"secret", context=CONTEXT), context=CONTEXT) == b"secret"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no key"),
        ("\n , \n", "contains no key"),
        ("no colon", "not name:key"),
        ("k1:short", "has 3 bytes|not base64url"),
        ("k1:" + encode_base64url(bytes(32)), "is not random"),
        ("k1:Zoë", "not base64url"),
        (f"{entry('k', KEY)}\n{entry('k', KEY)}", "twice"),
        ("x" * (MAX_FILE_BYTES + 1), "longer than"),
    ],
)
def test_a_bad_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """What is wrong with the file is said with what to do, without showing what it holds."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_vault_keys(written(tmp_path, text))
    assert "SLOTWIRE_VAULT__KEYS_FILE" in caught.value.message
    assert caught.value.remedy
    assert "export" not in caught.value.remedy
    for part in filter(None, (item.partition(":")[2] for item in text.split())):
        assert part not in str(caught.value) + caught.value.remedy


def test_the_longest_file_and_the_most_keys(tmp_path: Path) -> None:
    """A file of 16 KiB is read, and so are 32 keys; one key more is refused."""
    longest = entry().ljust(MAX_FILE_BYTES)
    assert list(read_vault_keys(written(tmp_path, longest)).keys) == ["k1"]
    most = [entry(f"k{number}") for number in range(MAX_KEYS)]
    assert len(read_vault_keys(written(tmp_path, "\n".join(most))).keys) == MAX_KEYS
    with pytest.raises(ConfigurationError, match=f"contains {MAX_KEYS + 1} keys"):
        read_vault_keys(written(tmp_path, "\n".join([*most, entry("more")])))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is named with what is wrong."""
    for path, words in ((tmp_path / "nowhere", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigurationError, match=words) as caught:
            read_vault_keys(VaultSettings(keys_file=str(path)))
        assert str(path) in caught.value.message
        assert "may read" in caught.value.remedy


def test_a_file_without_the_right_to_read_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user's is refused with the system's own reason."""
    settings = written(tmp_path, entry())

    def forbidden(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ConfigurationError, match="permission denied"):
        read_vault_keys(settings)


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Keys that anybody could have put there are no keys; others may read it, as in a mounted secret."""
    settings = written(tmp_path, entry())
    assert settings.keys_file is not None
    Path(settings.keys_file).chmod(0o644)
    assert read_vault_keys(settings).keys
    Path(settings.keys_file).chmod(0o646)
    with pytest.raises(ConfigurationError, match="any user") as caught:
        read_vault_keys(settings)
    assert caught.value.remedy.startswith("chmod o-w ")


def test_keys_in_two_places_are_refused(tmp_path: Path) -> None:
    """Exactly one source is taken; which one counted would be a guess."""
    both = written(tmp_path, entry()).model_copy(update={"keys": (SecretStr(entry()),)})
    with pytest.raises(
        ConfigurationError, match="more than one place: SLOTWIRE_VAULT__KEYS, SLOTWIRE_VAULT__KEYS_FILE"
    ):
        read_vault_keys(both)
    with pytest.raises(ConfigurationError, match="is not set"):
        read_vault_keys(VaultSettings())


def test_messages_name_the_file_setting(tmp_path: Path) -> None:
    """A secret of a key that the file lacks says that the file lacks it."""
    sealed = Vault.from_settings(VaultSettings(keys=(SecretStr(entry("old")),))).seal(b"x", context=CONTEXT)
    with pytest.raises(SecretUnreadable, match="SLOTWIRE_VAULT__KEYS_FILE does not contain"):
        Vault.from_settings(written(tmp_path, entry("new"))).open(sealed, context=CONTEXT)


def test_a_provider_gives_the_keys_once(provided: VaultSettings) -> None:
    """A provider is asked once a process, and its entries go under the same rules."""
    TAKEN.append([entry("a"), entry("b")])
    assert Vault.from_settings(provided).key_names == ("a", "b")
    TAKEN[0] = RuntimeError("asked twice")
    assert Vault.from_settings(provided).key_names == ("a", "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "returned no keys$"),
        ([b"k1:octets"], "returned no keys$"),
        (["k1"], "not name:key"),
        ([entry("k", bytes(range(31)))], "has 31 bytes"),
        (RuntimeError("the secret key is hunter2"), r"failed \(RuntimeError\)$"),
    ],
)
def test_a_provider_that_fails_is_named(given: object, message: str, provided: VaultSettings) -> None:
    """Whatever a provider does wrong is a clear message, without its own words: they may hold what is secret."""
    TAKEN.append(given)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_vault_keys(provided)
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy


def test_a_provider_that_nobody_offers_is_refused(provided: VaultSettings) -> None:
    """A name that no installed package has is refused with those there are."""
    with pytest.raises(ConfigurationError, match="offered are: kms"):
        read_vault_keys(VaultSettings(keys_provider="other"))
