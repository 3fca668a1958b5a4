"""The Kubernetes manifests, offline: valid by schema, and as our processes need them."""

from __future__ import annotations

import copy

import kubernetes_validate
import pytest
from typer.testing import CliRunner

from slotwire.handlers.agents.demo import agent as demo_agent
from slotwire.handlers.ending import LEAVE_SECONDS
from slotwire.ingest.cli import app
from slotwire.ingest.foundation.migrate_settings import MigrateSettings
from slotwire.ingest.foundation.postgres_readiness import READY_SECONDS
from slotwire.ingest.foundation.settings import known_variables
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.listener import IN_FLIGHT_SECONDS
from slotwire.ingest.relay.process import STOP_SECONDS
from tests.support.manifests import (
    DOCTOR,
    ENDING,
    OVERLAYS,
    PLAIN,
    SECRETS,
    Workload,
    documents,
    every_lasting_process,
    every_overlay,
    every_process,
    of_kind,
    parsed,
    workloads,
)
from tools.sources import ROOT

VERSIONS = ("1.29", kubernetes_validate.latest_version().rpartition(".")[0])
"""The oldest Kubernetes the manifests are for, and the newest whose schema is at hand."""
MARGIN_SECONDS = 5.0
STEPS = {"migrate": ["migrate", "--pre"], "migrate-post": ["migrate", "--post"]}
"""The jobs of a rollout, with their commands."""
AIOHTTP_SHUTDOWN_SECONDS = 60.0
"""How long aiohttp lets requests of the management API finish, unless told otherwise."""
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
CUSTOM = frozenset({"Kafka", "KafkaNodePool", "KafkaUser", "Cluster", "ScaledObject", "TriggerAuthentication"})
"""Kinds of operators, which Kubernetes' own schema does not have: test_k8s_operators.py."""


@pytest.mark.parametrize("version", VERSIONS)
@every_overlay
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    """Kubernetes' own schema accepts every document, unknown fields forbidden; operators' kinds are judged apart."""
    known = () if overlay == "plain" else documents(OVERLAYS["plain"])
    found = [doc for doc in documents(OVERLAYS[overlay]) if doc["kind"] not in CUSTOM and doc not in known]
    assert {kubernetes_validate.validate(document, version, strict=True) for document in found} == {version}
    assert len(found) > (20 if overlay == "plain" else 1)


def test_a_misspelt_field_is_refused() -> None:
    """The validation above bites: a field that does not exist is an error."""
    wrong = copy.deepcopy(PLAIN["serve"].document)
    wrong["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError, match="enableServiceLink"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_there_is_a_workload_for_every_process() -> None:
    """The names are those of the processes: four that last, two jobs that migrate, and doctor, which waits."""
    for overlay in OVERLAYS.values():
        assert set(workloads(overlay)) == set(PLAIN)
    assert {name: workload.document["kind"] for name, workload in PLAIN.items()} == {
        "serve": "Deployment",
        "relay": "Deployment",
        "control": "Deployment",
        "agents": "StatefulSet",
        "migrate": "Job",
        "migrate-post": "Job",
        **dict.fromkeys(DOCTOR, "CronJob"),
    }
    assert PLAIN["doctor-serve"].spec["suspend"] is True
    assert {name for name, process in PLAIN.items() if process.pod.get("restartPolicy") == "Never"} == ENDING


@every_process
def test_its_command_exists(process: Workload) -> None:
    """The arguments of the container are a command of `slotwire` that takes them."""
    arguments = process.container["args"]
    if process.name in DOCTOR:
        assert arguments == ["doctor", "--process", process.name.removeprefix("doctor-")]
    elif process.name in STEPS:
        assert arguments == STEPS[process.name]
    else:
        assert arguments[0] == process.name
    told = CliRunner().invoke(app, [*arguments, "--help"])
    assert told.exit_code == 0, told.output
    assert "Usage:" in told.output
    if process.name == "agents":
        assert arguments == ["agents", "run", "slotwire.handlers.agents.demo:agent"]
        assert demo_agent.events


def test_the_second_step_waits_for_a_person() -> None:
    """Applying the manifests runs the first step; the second, after which there is no way back, is let run by hand."""
    assert PLAIN["migrate-post"].spec["suspend"] is True
    assert "suspend" not in PLAIN["migrate"].spec
    assert not {"SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS"} & set(PLAIN["migrate-post"].environment())
    for name in STEPS:  # longer than an index may take to be built, and then it is tried again
        assert PLAIN[name].spec["activeDeadlineSeconds"] > MigrateSettings().build_timeout_seconds
        assert PLAIN[name].spec["backoffLimit"] > 0


@every_process
def test_its_variables_are_known_and_parse(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one the settings know, they make valid settings, and the files that they name are mounted."""
    unknown = set(process.environment()) - known_variables()
    assert not unknown
    settings = parsed(process, monkeypatch)
    if process.name.rpartition("-")[2] in {"serve", "control"}:
        Vault.from_settings(settings.vault)
        HookAddresses.from_settings(settings)
    assert settings.log.format == "json"
    files = [settings.database.ssl_cafile, settings.database.ssl_certfile, settings.database.ssl_keyfile]
    files += [settings.kafka.ssl_cafile, settings.kafka.ssl_certfile, settings.kafka.ssl_keyfile]
    for file in files:
        assert file is None or file.startswith("/etc/ssl/") or file in process.files(), f"{file} is not mounted"


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
    account = process.name.partition("-")[0]
    assert pod["serviceAccountName"] == f"slotwire-{account}"
    assert of_kind("ServiceAccount")[account]["automountServiceAccountToken"] is False
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
        "agents": settings.agents.stop_grace_seconds + LEAVE_SECONDS,
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
    spread = {entry["topologyKey"]: entry["labelSelector"] for entry in process.pod["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone": selector, "kubernetes.io/hostname": selector}
    if process.document["kind"] == "Deployment":
        assert process.spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_member_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's name in its consumer group is the name of its pod, which a restart does not change."""
    agents = PLAIN["agents"]
    assert parsed(agents, monkeypatch).agents.group_instance_id == "slotwire-agents-0"
    assert agents.spec["serviceName"] == of_kind("Service")["agents"]["metadata"]["name"]


def test_services_reach_their_pods() -> None:
    """Each Service selects one process and names a port of its container; the management API is not exposed."""
    services = of_kind("Service")
    assert set(services) == {"serve", "control", "agents"}
    for name, service in services.items():
        assert service["spec"]["selector"] == {"app.kubernetes.io/name": f"slotwire-{name}"}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(PLAIN[name].ports)
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    (ingress,) = of_kind("Ingress").values()
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {path["backend"]["service"]["name"] for path in paths} == {"slotwire-serve"}
    assert ingress["spec"]["tls"]


def addresses(process: Workload) -> dict[str, str]:
    """Return the addresses within the cluster that a process has from its manifest."""
    return {
        each["name"]: each["value"]
        for each in process.container["env"]
        if each["name"].endswith("_URL") and "value" in each
    }


@every_overlay
def test_secrets_are_referred_to_and_never_held(overlay: str) -> None:
    """No Secret is in the repository, every one that is used is described, and each process gets only its own."""
    assert not of_kind("Secret", OVERLAYS[overlay])
    readme = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    found = workloads(OVERLAYS[overlay])
    used = {name: process.secrets() for name, process in found.items()}
    for name in DOCTOR:
        assert used.pop(name) == used[name.removeprefix("doctor-")], "it examines with what the process itself has"
        assert found[name].files() == found[name.removeprefix("doctor-")].files()
        assert addresses(found[name]) == addresses(found[name.removeprefix("doctor-")])
    for secret, key in set().union(*used.values()):
        assert (secret, key) in SECRETS
        assert any(f"`{secret}`" in line and f"`{key}`" in line for line in readme.splitlines()), (secret, key)

    def holders(secret: str, key: str | None = None) -> set[str]:
        return {name for name, keys in used.items() if any(s == secret and key in {None, k} for s, k in keys)}

    assert holders("slotwire-migrate", "url") == set(STEPS)
    assert holders("slotwire-keys") == {"serve", "control"}
    assert holders("slotwire-agent-settings") == {"control", "agents"}
    assert holders("slotwire-kafka", "password") == {"relay", "agents", "migrate"}
    for process in ("serve", "relay", "agents", "control"):
        assert holders("slotwire-database", f"{process}-url") == {process}


@every_process
def test_the_servers_are_verified(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres' certificate is checked by a CA of its own, Kafka's too; keys are for the process' group alone."""
    settings = parsed(process, monkeypatch)
    assert settings.database.ssl_mode == "verify-full"
    assert settings.database.ssl_cafile == "/etc/slotwire/postgres/ca.crt"
    if settings.kafka.bootstrap_servers:
        assert settings.kafka.security_protocol in {"SSL", "SASL_SSL"}
        assert settings.kafka.ssl_cafile
    assert process.pod["securityContext"]["fsGroup"] == process.pod["securityContext"]["runAsGroup"]
    for volume in process.pod["volumes"]:
        assert (volume.get("secret") or volume["projected"])["defaultMode"] == 0o440
    assert not {key for keys in process.files().values() for _, key in keys} & {"ca.key"}


def test_what_must_not_wait_comes_first() -> None:
    """The processes that take, write and publish deliveries have a class of priority; agents have none."""
    (priority,) = of_kind("PriorityClass").values()
    assert (priority["metadata"]["name"], priority["globalDefault"]) == ("slotwire", False)
    assert "namespace" not in priority["metadata"]
    classed = {name for name, process in PLAIN.items() if process.pod.get("priorityClassName") == "slotwire"}
    assert classed == {"serve", "relay", "control", *STEPS}
    assert not [name for name in PLAIN if name not in classed and "priorityClassName" in PLAIN[name].pod]
