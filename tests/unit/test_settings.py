"""Settings: misspelt names and wrong values are named with what to do, and no value is ever shown."""

from __future__ import annotations

import pytest

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.author_environment import OF_OTHERS
from slotwire.ingest.foundation.settings import Settings, known_variables, load_settings
from slotwire.ingest.foundation.settings_base import PREFIX, SettingsGroup


def problem(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ConfigurationError:
    """Load settings that cannot be, and return what is said."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    return raised.value


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SLOTWIRE_KAFKA__BOOTSTRAP_SERVER", "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS"),
        ("SLOTWIRE_DATABASEURL", "SLOTWIRE_DATABASE_URL"),
        ("SLOTWIRE_HTTP_PORT", "SLOTWIRE_HTTP__PORT"),
    ],
)
def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    """A misspelt setting must not silently be the default."""
    said = problem(monkeypatch, **{name: "x"})
    assert name in said.message
    assert nearest in said.remedy


def test_a_wrong_value_names_its_variable_and_not_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said by name; the value may be a secret and is not repeated."""
    said = problem(monkeypatch, SLOTWIRE_HTTP__PORT="hunter2", SLOTWIRE_KAFKA__PARTITIONS="0")
    assert "SLOTWIRE_HTTP__PORT" in said.message
    assert "SLOTWIRE_KAFKA__PARTITIONS" in said.message
    assert "hunter2" not in said.message + said.remedy


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://hooks.example.com", True),
        ("https://example.com/behind/a/path/", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://hooks.example.com", False),
        ("https://", False),
        ("https://example.com/?a=b", False),
        ("hooks.example.com", False),
    ],
)
def test_the_public_url_is_https_except_on_this_machine(monkeypatch: pytest.MonkeyPatch, url: str, fits: bool) -> None:
    """Calendly sends to https only; a loopback simulator may do without."""
    if fits:
        monkeypatch.setenv("SLOTWIRE_PUBLIC_URL", url)
        assert load_settings().public_url == url.rstrip("/")
    else:
        assert "SLOTWIRE_PUBLIC_URL" in problem(monkeypatch, SLOTWIRE_PUBLIC_URL=url).message


def test_settings_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """SASL without a user, and more in-sync replicas than replicas, cannot be."""
    assert "SASL" in problem(monkeypatch, SLOTWIRE_KAFKA__SECURITY_PROTOCOL="SASL_SSL").message
    monkeypatch.delenv("SLOTWIRE_KAFKA__SECURITY_PROTOCOL")
    assert "min_insync_replicas" in problem(monkeypatch, SLOTWIRE_KAFKA__REPLICATION_FACTOR="1").message


def test_simulated_time_is_refused_where_calendly_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process goes by the simulator's clock only where its own address and both of Calendly's are this machine's."""
    addresses = {
        "SLOTWIRE_PUBLIC_URL": "http://127.0.0.1:8080",
        "SLOTWIRE_CALENDLY__API_URL": "http://127.0.0.1:8090",
        "SLOTWIRE_CALENDLY__AUTH_URL": "http://localhost:8090",
        "SLOTWIRE_LOCAL__CLOCK_FILE": "/nowhere/clock",
    }
    for name, value in addresses.items():
        monkeypatch.setenv(name, value)
    assert str(load_settings().local.clock_file) == "/nowhere/clock"
    for name in list(addresses)[:3]:
        with monkeypatch.context() as changed:
            assert "SLOTWIRE_LOCAL__CLOCK_FILE" in problem(changed, **{name: "https://calendly.example.com"}).message
            changed.delenv(name)
            assert "SLOTWIRE_LOCAL__CLOCK_FILE" in problem(changed).message


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several keys stand in one variable; spaces around them do not count."""
    monkeypatch.setenv("SLOTWIRE_VAULT__KEYS", "a:x, b:y,")
    assert [key.get_secret_value() for key in load_settings().vault.keys] == ["a:x", "b:y"]


def test_secrets_do_not_show_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the settings prints no key, password or address with one."""
    monkeypatch.setenv("SLOTWIRE_DATABASE_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("SLOTWIRE_VAULT__KEYS", "a:hunter2")
    monkeypatch.setenv("SLOTWIRE_HTTP__HOOK_KEYS", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_every_group_is_known_by_its_variables() -> None:
    """The list of known names is what the error above searches."""
    assert {"SLOTWIRE_DATABASE_URL", "SLOTWIRE_HTTP__PORT", "SLOTWIRE_VAULT__KEYS"} <= known_variables()


def test_receivers_on_this_machine_are_for_the_local_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that serves a real Calendly does not start where requests to this machine would be allowed."""
    monkeypatch.setenv("SLOTWIRE_CALENDLY__API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SLOTWIRE_CALENDLY__AUTH_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SLOTWIRE_PUBLIC_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("SLOTWIRE_OUTGOING__ALLOW_LOCAL", "true")
    assert load_settings().outgoing.allow_local
    said = problem(monkeypatch, SLOTWIRE_PUBLIC_URL="https://hooks.example.com")
    assert "SLOTWIRE_OUTGOING__ALLOW_LOCAL" in said.message


def test_an_authors_code_is_left_no_secret_but_those_of_its_servers() -> None:
    """Every setting that is a secret is kept out of such a process, but what it connects to Postgres and Kafka with."""
    secret = set[str]()
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, SettingsGroup):
            inner = group.model_fields.items()
            secret |= {f"{PREFIX}{name}__{each}".upper() for each, of in inner if "SecretStr" in str(of.annotation)}
        elif "SecretStr" in str(group):
            secret.add(f"{PREFIX}{name}".upper())
    assert len(secret) > 8
    left = {name for name in secret if not name.startswith(OF_OTHERS)}
    assert left == {f"{PREFIX}DATABASE_URL", f"{PREFIX}KAFKA__SASL_PASSWORD"}
