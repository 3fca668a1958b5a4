"""compose.yaml and .env.example: commands that exist, settings that are known, addresses that fit each other."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from slotwire.ingest.cli import app
from slotwire.ingest.foundation.migrations import PROCESSES
from slotwire.ingest.foundation.settings import Settings, known_variables, load_settings
from slotwire.ingest.foundation.settings_base import PREFIX
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.jars import kafka_version
from slotwire.ingest.local.wiring import SIMULATOR_SEED
from slotwire.ingest.simulator.world import oauth_app
from tests.support.manifests import OF_COMPONENTS, SECRETS, variables
from tools.release.images import images_in
from tools.sources import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "slotwire"}
KEYS = {
    "SLOTWIRE_HTTP__HOOK_KEYS": SECRETS["slotwire-keys", "hook-keys"],
    "SLOTWIRE_VAULT__KEYS": SECRETS["slotwire-keys", "vault-keys"],
    "SLOTWIRE_MCP__TOKEN_KEYS": OF_COMPONENTS["slotwire-mcp", "token-keys"],
}
EXAMPLE = ROOT / ".env.example"


def parsed(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Parse an environment that holds these settings and no others."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.strip("'"))
    return load_settings()


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """Return a service's variables with those of `.env` filled in."""
    return {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: KEYS[found[1]], value)
        for name, value in service["environment"].items()
    }


def production() -> dict[str, str]:
    """Return the settings of `.env.example` with its commented half in place of the first."""
    text = EXAMPLE.read_text(encoding="utf-8")
    pairs = re.findall(rf"^#({PREFIX}\w+)=(.*)$", text, re.MULTILINE)
    return dict(pairs) | KEYS


def test_it_runs_every_process() -> None:
    """Postgres, Kafka, the simulator and all six processes are there, and nothing of ours waits for nothing."""
    assert set(OURS) == {"migrate", "migrate-post", "serve", "relay", "control", "agents", "mcp", "simulator"}
    assert set(SERVICES) - set(OURS) == {"postgres", "kafka"}
    assert SERVICES["migrate"]["depends_on"].keys() == {"postgres", "kafka"}
    for name in ("serve", "relay", "mcp"):
        assert OURS[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    before = OURS["migrate-post"]["depends_on"]
    assert set(before) == {"serve", "control", "relay", "agents", "mcp"}
    assert all(each == {"condition": "service_started"} for each in before.values())
    assert (OURS["migrate"]["command"], OURS["migrate-post"]["command"]) == (
        ["migrate", "--pre"],
        ["migrate", "--post"],
    )


@pytest.mark.parametrize("name", OURS)
def test_its_command_exists(name: str) -> None:
    """The command of the service is one `slotwire` has, with those arguments."""
    told = CliRunner().invoke(app, [*OURS[name]["command"], "--help"])
    assert told.exit_code == 0, told.output
    assert "Usage:" in told.output


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_known_and_parse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable of the service is a known setting, all values are text, and together they are valid."""
    environment = environment_of(OURS[name])
    assert not set(environment) - known_variables()
    settings = parsed(environment, monkeypatch)
    url = settings.migrate.database_url if name.startswith("migrate") else settings.database_url
    assert url is not None
    assert url.get_secret_value().endswith("@postgres:5432/slotwire")
    if name in {"serve", "control"}:
        Vault.from_settings(settings.vault)
        HookAddresses.from_settings(settings)


def test_the_addresses_fit_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three that speak over loopback share a network namespace and no port; the broker is where relay looks."""
    sharing = {name for name, service in OURS.items() if service.get("network_mode") == "service:serve"}
    assert sharing == {"control", "simulator"}
    serve = parsed(environment_of(OURS["serve"]), monkeypatch)
    control = parsed(environment_of(OURS["control"]), monkeypatch)
    simulator_port = int(OURS["simulator"]["command"][-1])
    ports = [serve.http.port, serve.health.port, control.admin.port, control.health.port, simulator_port]
    ports.append(control.oauth.port)
    assert len(set(ports)) == len(ports)
    published = [port.split(":") for port in OURS["serve"]["ports"]]
    assert [int(inside) for _, _, inside in published] == [serve.http.port, control.admin.port, control.oauth.port]
    assert control.calendly.api_url == f"http://127.0.0.1:{simulator_port}"
    assert serve.public_url == f"http://127.0.0.1:{serve.http.port}"
    mcp, agents = (parsed(environment_of(OURS[name]), monkeypatch) for name in ("mcp", "agents"))
    assert OURS["agents"]["network_mode"] == "service:mcp"
    assert len({mcp.mcp.port, mcp.health.port, agents.health.port}) == 3
    assert agents.mcp.public_url == mcp.mcp.public_url == f"http://127.0.0.1:{mcp.mcp.port}"
    relay = parsed(environment_of(OURS["relay"]), monkeypatch)
    assert (
        SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{relay.kafka.bootstrap_servers}"
    )


def test_customers_connect_by_the_simulators_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages have an address of this machine, and the app is the one of the simulator's seed; no other has it."""
    oauth, simulated = parsed(environment_of(OURS["control"]), monkeypatch).oauth, oauth_app(SIMULATOR_SEED)
    assert oauth.public_url == f"http://127.0.0.1:{oauth.port}"
    assert oauth.client_secret is not None
    keys = [key.get_secret_value() for key in oauth.signing_keys]
    assert (oauth.client_id, oauth.client_secret.get_secret_value(), keys) == (
        *(simulated.client_id, simulated.client_secret),
        [simulated.signing_key],
    )
    for name in set(OURS) - {"control"}:
        assert not [each for each in environment_of(OURS[name]) if each.startswith(f"{PREFIX}OAUTH__")]


def test_it_opens_nothing_to_the_network() -> None:
    """Every published port is on loopback: the passwords in the file are no secret."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_a_role_a_process() -> None:
    """Each process logs in with the role that is its own, which owns nothing; only `migrate` gets the owner."""
    roles = COMPOSE["configs"]["roles"]["content"]
    for process in PROCESSES:
        assert f"CREATE ROLE slotwire_{process} LOGIN" in roles
    logins = {
        name: re.findall(r"//(\w+):", str(environment_of(service).get("SLOTWIRE_DATABASE_URL", "")))
        for name, service in OURS.items()
    }
    own = {name: [f"slotwire_{name}"] for name in ("serve", "control", "relay", "agents", "mcp")}
    assert logins == {**own, "simulator": ["slotwire_control"], "migrate": [], "migrate-post": []}
    owner = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    with_owner = {name for name, service in OURS.items() if f"//{owner}:" in str(service["environment"])}
    assert with_owner == {"migrate", "migrate-post"}


def test_the_broker_is_the_one_that_is_tested() -> None:
    """The image's Kafka is the version of the embedded one."""
    (image,) = images_in(f"image: {SERVICES['kafka']['image']}\n")
    assert image.place[2] == kafka_version()


def test_containers_may_do_no_more_than_they_must() -> None:
    """Ours run read-only, without capabilities, and are given the time to drain."""
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["stop_grace_period"] == "30s", name


def test_the_example_holds_known_settings() -> None:
    """Every line of .env.example that sets something, commented or not, names a setting that exists."""
    assert set(variables(EXAMPLE)) <= known_variables()
    assert set(production()) <= known_variables()
    assert not set(KEYS) - set(variables(EXAMPLE))
    assert not any(variables(EXAMPLE)[name] for name in KEYS), "a key that everybody knows is none"


def test_the_example_parses_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With keys filled in, its first half is valid and names this machine and nothing beyond."""
    settings = parsed(variables(EXAMPLE) | KEYS, monkeypatch)
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.public_url == "http://127.0.0.1:8080"


def test_the_example_parses_for_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the comments taken off, its second half is valid: TLS and SASL to Kafka, https to us, the real Calendly."""
    settings = parsed(production(), monkeypatch)
    assert (settings.kafka.security_protocol, settings.kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert settings.public_url.startswith("https://")
    assert settings.calendly == Settings.model_fields["calendly"].default
    assert settings.migrate.database_url is not None
    Vault.from_settings(settings.vault)
    HookAddresses.from_settings(settings)


def test_what_the_example_calls_defaults_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings below `These are the defaults.` say what holds without them."""
    found = re.findall(
        r"^# .*These are the defaults\.\n((?:#SLOTWIRE_.*\n)+)", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE
    )
    said = dict(line.removeprefix("#").split("=", 1) for block in found for line in block.splitlines())
    without = parsed({}, monkeypatch)
    assert said
    assert parsed(said, monkeypatch) == without
