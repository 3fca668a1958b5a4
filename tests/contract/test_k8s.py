"""The Kubernetes manifests, offline: valid by schema, and as our processes need them."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from slotwire.handlers.agents.demo import agent as demo_agent
from slotwire.ingest.cli import app
from slotwire.ingest.foundation.postgres_readiness import READY_SECONDS
from slotwire.ingest.foundation.settings import Settings, known_variables, load_settings
from slotwire.ingest.foundation.settings_base import PREFIX
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.listener import IN_FLIGHT_SECONDS
from slotwire.ingest.relay.process import STOP_SECONDS
from tests.support.manifests import BASE, EXAMPLE, SECRETS, Document, Workload, documents, kustomization, workloads
from tools.sources import ROOT

VERSIONS = ("1.29", kubernetes_validate.latest_version().rpartition(".")[0])
"""The oldest Kubernetes the manifests are for, and the newest whose schema is at hand."""
MARGIN_SECONDS = 5.0
AIOHTTP_SHUTDOWN_SECONDS = 60.0
"""How long aiohttp lets requests of the management API finish, unless told otherwise."""
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
ALL = workloads()
LASTING = {name: workload for name, workload in ALL.items() if name != "migrate"}
every_process = pytest.mark.parametrize("process", ALL.values(), ids=ALL)
every_lasting_process = pytest.mark.parametrize("process", LASTING.values(), ids=LASTING)


def of_kind(kind: str) -> dict[str, Document]:
    """Return the base's manifests of a kind by the name of their process."""
    found = (doc for doc in documents(BASE) if doc["kind"] == kind)
    return {doc["metadata"]["name"].removeprefix("slotwire-"): doc for doc in found}


def parsed(process: Workload, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Parse the settings a pod of the example would get."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    for name, value in process.environment(EXAMPLE).items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
def test_every_manifest_is_valid(folder: Path, version: str) -> None:
    """Kubernetes' own schema accepts every document, unknown fields forbidden."""
    checked = [kubernetes_validate.validate(document, version, strict=True) for document in documents(folder)]
    assert set(checked) == {version}


def test_a_misspelt_field_is_refused() -> None:
    """The validation above bites: a field that does not exist is an error."""
    wrong = copy.deepcopy(ALL["serve"].document)
    wrong["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError, match="enableServiceLink"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_every_file_is_part_of_it() -> None:
    """The kustomizations name every file of their folder, and none that is missing."""
    for folder in (BASE, EXAMPLE):
        said = kustomization(folder)
        named = {name for name in said["resources"] if name.endswith(".yaml")}
        named |= {name for entry in said["configMapGenerator"] for name in entry["envs"]}
        named |= {patch["path"] for patch in said.get("patches", [])}
        assert named | {"kustomization.yaml"} == {path.name for path in folder.iterdir()}, folder.name


def test_the_example_renders() -> None:
    """What the example changes exists in the base; with kubectl at hand the whole of it renders and is valid."""
    names = {generator["name"] for generator in kustomization(BASE)["configMapGenerator"]}
    assert names == {generator["name"] for generator in kustomization(EXAMPLE)["configMapGenerator"]}
    patch = yaml.safe_load((EXAMPLE / "agents.yaml").read_text(encoding="utf-8"))
    assert patch["metadata"]["name"] == ALL["agents"].document["metadata"]["name"]
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", str(EXAMPLE)]
        rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        found = list(yaml.safe_load_all(rendered))
        assert len(found) == len([*documents(BASE), *documents(EXAMPLE)]) + len(names)
        for document in found:
            assert kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
            assert document["metadata"]["namespace"] == "slotwire"


def test_there_is_a_workload_for_every_process() -> None:
    """The names are those of the processes: four that last and the job that migrates."""
    assert {name: workload.document["kind"] for name, workload in ALL.items()} == {
        "serve": "Deployment",
        "relay": "Deployment",
        "control": "Deployment",
        "agents": "StatefulSet",
        "migrate": "Job",
    }


@every_process
def test_its_command_exists(process: Workload) -> None:
    """The arguments of the container are a command of `slotwire` that takes them."""
    arguments = process.container["args"]
    assert arguments[0] == process.name
    told = CliRunner().invoke(app, [*arguments, "--help"])
    assert told.exit_code == 0, told.output
    assert "Usage:" in told.output
    if process.name == "agents":
        assert arguments == ["agents", "run", "slotwire.handlers.agents.demo:agent"]
        assert demo_agent.events


@every_process
def test_its_variables_are_known_and_parse(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one the settings know, and together with the example's they make valid settings."""
    unknown = set(process.environment(EXAMPLE)) - known_variables()
    assert not unknown
    settings = parsed(process, monkeypatch)
    if process.name in {"serve", "control"}:
        Vault.from_settings(settings.vault)
        HookAddresses.from_settings(settings)
    assert settings.log.format == "json"


@every_lasting_process
def test_its_probes_reach_it(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness and readiness are asked on the health port, which listens on the pod's address, and given time."""
    settings = parsed(process, monkeypatch)
    assert (settings.health.host, settings.health.port) == ("0.0.0.0", process.ports["health"])
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert process.container[probe]["httpGet"] == {"path": path, "port": "health"}
    assert process.container["readinessProbe"]["timeoutSeconds"] > READY_SECONDS
    if process.name == "serve":
        assert (settings.http.host, settings.http.port) == ("0.0.0.0", process.ports["http"])
    if process.name == "control":
        assert (settings.admin.host, settings.admin.port) == ("0.0.0.0", process.ports["admin"])


@every_process
def test_it_may_do_no_more_than_it_must(process: Workload) -> None:
    """No root, no writable file system, no capability, no token of the cluster, no variables of other services."""
    pod, container = process.pod, process.container
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == f"slotwire-{process.name}"
    assert of_kind("ServiceAccount")[process.name]["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


@every_process
def test_it_has_bounds(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and disk are limited, what it needs is asked for, and the largest bodies at once fit in."""
    resources = process.container["resources"]
    assert {"cpu", "memory", "ephemeral-storage"} == set(resources["requests"])
    assert {"memory", "ephemeral-storage"} == set(resources["limits"]), "a limit on CPU breaks the answer's deadline"
    if process.name == "serve":
        limit = resources["limits"]["memory"]
        http = parsed(process, monkeypatch).http
        assert http.max_connections * http.max_body_bytes < 0.6 * int(limit[:-2]) * UNITS[limit[-2:]]


@every_lasting_process
def test_it_is_given_time_to_stop(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody kills it while it drains and finishes what runs, by the code's own numbers; it needs no hook for it."""
    settings = parsed(process, monkeypatch)
    needs = {
        "serve": settings.http.drain_seconds + IN_FLIGHT_SECONDS,
        "relay": STOP_SECONDS + settings.relay.transaction_timeout_seconds,
        "control": AIOHTTP_SHUTDOWN_SECONDS,
        "agents": settings.agents.stop_grace_seconds,
    }
    assert process.pod["terminationGracePeriodSeconds"] >= needs[process.name] + MARGIN_SECONDS
    assert "lifecycle" not in process.container


@every_lasting_process
def test_it_outlives_a_node_and_a_new_version(process: Workload) -> None:
    """There are two of it, apart, one at a time may be evicted, and a new one is ready before an old one goes."""
    selector = {"matchLabels": {"app.kubernetes.io/name": f"slotwire-{process.name}"}}
    assert process.spec["selector"] == selector
    scaler = of_kind("HorizontalPodAutoscaler").get(process.name)
    assert (scaler["spec"]["minReplicas"] if scaler else process.spec["replicas"]) >= 2
    assert not (scaler and "replicas" in process.spec), "applying it would undo the scaler's number"
    budget = of_kind("PodDisruptionBudget")[process.name]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, selector)
    (spread,) = process.pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["labelSelector"]) == ("kubernetes.io/hostname", selector)
    if process.document["kind"] == "Deployment":
        assert process.spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_member_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's name in its consumer group is the name of its pod, which a restart does not change."""
    agents = ALL["agents"]
    assert parsed(agents, monkeypatch).agents.group_instance_id == "slotwire-agents-0"
    assert agents.spec["serviceName"] == of_kind("Service")["agents"]["metadata"]["name"]


def test_services_reach_their_pods() -> None:
    """Each Service selects one process and names a port of its container; the management API is not exposed."""
    services = of_kind("Service")
    assert set(services) == {"serve", "control", "agents"}
    for name, service in services.items():
        assert service["spec"]["selector"] == {"app.kubernetes.io/name": f"slotwire-{name}"}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ALL[name].ports)
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    (ingress,) = documents(EXAMPLE)
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {path["backend"]["service"]["name"] for path in paths} == {"slotwire-serve"}
    assert ingress["spec"]["tls"]


def test_secrets_are_referred_to_and_never_held() -> None:
    """No Secret is in the repository, every one that is used is described, and each process gets only its own."""
    assert not of_kind("Secret")
    readme = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    used = {name: process.secrets() for name, process in ALL.items()}
    for secret, key in set().union(*used.values()):
        assert (secret, key) in SECRETS
        assert any(f"`{secret}`" in line and f"`{key}`" in line for line in readme.splitlines()), (secret, key)
    assert {name for name, keys in used.items() if ("slotwire-migrate", "url") in keys} == {"migrate"}
    assert {name for name, keys in used.items() if "slotwire-keys" in {secret for secret, _ in keys}} == {
        "serve",
        "control",
    }
    assert {name for name, keys in used.items() if ("slotwire-kafka", "password") in keys} == {
        "relay",
        "agents",
        "migrate",
    }


def test_nothing_is_reachable_that_is_not_named() -> None:
    """One policy takes every pod in both directions; the management port opens only to labelled pods."""
    policies = of_kind("NetworkPolicy")
    default = policies["default"]["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    for process in ALL.values():
        assert default["podSelector"]["matchLabels"].items() <= process.labels.items()
    opened: dict[int, Any] = {
        port["port"]: rule.get("from")
        for policy in policies.values()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    assert set(opened) == {8080, 8081, 8082}
    assert opened[8081] == [{"podSelector": {"matchLabels": {"slotwire-manages": "true"}}}]
    assert opened[8080] is None, "whatever terminates TLS may stand anywhere"
