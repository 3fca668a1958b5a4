"""The overlays and components of the manifests, offline: what they make, and that it fits the servers they are for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from slotwire.handlers.agents.demo import agent as demo_agent
from slotwire.ingest.foundation.settings import Settings, known_variables
from tests.support.kustomize import GENERATED, Document, pod_template, read_kustomization, rendered
from tests.support.manifests import (
    ALL,
    BASE,
    COMPONENTS,
    DOCTOR,
    K8S,
    OVERLAYS,
    SECRETS,
    Workload,
    every_overlay,
    every_process,
    of_kind,
    parsed,
    workloads,
)


def kustomizations() -> list[Path]:
    """Return every folder of ours with a kustomization."""
    return sorted(path.parent for path in K8S.rglob("kustomization.yaml"))


def test_every_file_is_part_of_it() -> None:
    """The kustomizations name every file of their folder, and none that is missing but what the user is to make."""
    assert {BASE, *OVERLAYS.values()} < set(kustomizations())
    for folder in kustomizations():
        said = read_kustomization(folder)
        named = {name for name in said.get("resources", ()) if name.endswith(".yaml")}
        named |= {name for entry in said.get("configMapGenerator", ()) for name in entry["envs"]}
        named |= {patch["path"] for patch in said.get("patches", ())}
        there = {path.name for path in folder.iterdir() if path.name != ".gitignore"}
        assert named | {"kustomization.yaml"} == there, folder.name


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """An overlay of an installation's own: plain, with the secrets in files, and every other component."""
    shutil.copytree(K8S, tmp_path / "k8s")
    yours = tmp_path / "k8s" / "overlays" / "yours"
    shutil.copytree(COMPONENTS / "generated-secrets", yours / "generated-secrets")
    files: dict[str, list[str]] = {"database": [], "migrate": [], "keys": [], "kafka": []}
    for (secret, key), value in SECRETS.items():
        if (name := secret.removeprefix("slotwire-")) in files:  # the others are optional
            files[name].append(f"{key}={value}\n")
    for name, lines in files.items():
        (yours / "generated-secrets" / f"{name}.env").write_text("".join(lines), encoding="utf-8")
    others = [f"../../components/{name}" for name in ("keda", "argo-cd", "reloader")]
    said = {"resources": ["../plain"], "components": ["generated-secrets", *others]}
    (yours / "kustomization.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    return yours


def by_kubectl(kubectl: str, folder: Path) -> list[Document]:
    """Render with kubectl."""
    command = [kubectl, "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return list(yaml.safe_load_all(text))


def normalized(value: Any) -> Any:
    """Return a document without what may differ: hashes, order within lists, and how secrets are encoded."""
    if isinstance(value, dict):
        if value.get("kind") == "Secret":
            value = {**value, "type": "Opaque", "data": sorted(value["data"])}
        return {key: normalized(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((normalized(entry) for entry in value), key=lambda entry: json.dumps(entry, sort_keys=True))
    return re.sub(r"^(slotwire-\w+)-([a-z0-9]{10}|generated)$", r"\1-HASH", value) if isinstance(value, str) else value


def test_kubectl_renders_the_same(everything: Path) -> None:
    """Where kubectl is at hand, it makes of every overlay, and of all components, what the tests here judge."""
    assert normalized(rendered(everything)) != normalized(rendered(OVERLAYS["plain"]))
    if kubectl := shutil.which("kubectl"):
        for folder in (everything, *OVERLAYS.values()):
            assert normalized(by_kubectl(kubectl, folder)) == normalized(rendered(folder)), folder.name


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Job", "CronJob"])
def test_certificates_come_from_where_they_are_made(kind: str) -> None:
    """With an operator, its own Secrets are mounted in place of ours: Postgres' CA, and a certificate per process."""

    def of(overlay: str) -> list[Workload]:
        return [found for found in workloads(OVERLAYS[overlay]).values() if found.document["kind"] == kind]

    for process in of("cloudnative-pg"):
        assert process.files()["/etc/slotwire/postgres/ca.crt"] == {("slotwire-db-ca", "ca.crt")}
    for process in of("strimzi"):
        if "/etc/slotwire/kafka/ca.crt" in process.files():
            user = f"slotwire-kafka-{process.name.removeprefix('doctor-')}"
            assert process.files()["/etc/slotwire/kafka/ca.crt"] == {("slotwire-cluster-ca-cert", "ca.crt")}
            assert process.files()["/etc/slotwire/kafka/tls.crt"] == {(user, "user.crt")}
            assert process.files()["/etc/slotwire/kafka/tls.key"] == {(user, "user.key")}


@every_overlay
def test_nothing_is_reachable_that_is_not_named(overlay: str) -> None:
    """One policy takes every pod in both directions; the management port opens only to labelled pods."""
    policies = of_kind("NetworkPolicy", OVERLAYS[overlay])
    default = policies["default"]["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in default
    for process in workloads(OVERLAYS[overlay]).values():
        assert default["podSelector"]["matchLabels"].items() <= process.labels.items()
    opened: dict[int, Any] = {
        port["port"]: rule.get("from")
        for policy in policies.values()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    assert set(opened) == {8080, 8081, 8082}
    assert opened[8081] == [
        {"podSelector": {"matchLabels": {"slotwire-manages": "true"}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "slotwire-agents"}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "slotwire-doctor"}}},
    ]
    assert opened[8080] is None, "whatever terminates TLS may stand anywhere"


def reachable(process: Workload, overlay: str) -> dict[int, list[Document]]:
    """Return which ports its pods may reach, and where; an empty place is anywhere."""
    found: dict[int, list[Document]] = {}
    for policy in of_kind("NetworkPolicy", OVERLAYS[overlay]).values():
        if selects(policy["spec"]["podSelector"], process.labels):
            for rule in policy["spec"].get("egress", []):
                for port in rule["ports"]:
                    for number in range(port["port"], port.get("endPort", port["port"]) + 1):
                        found.setdefault(number, []).extend(rule.get("to", [{}]))
    return found


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Say whether a selector of labels fits."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(expression["key"]) in expression["values"] for expression in selector.get("matchExpressions", [])
    )


@every_process
def test_it_reaches_what_its_settings_name(process: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of its Postgres and its brokers are open to it, and so are names, by the node's own cache too."""
    overlay = next(names[0] for names, found in ALL.items() if found is process)
    settings, open_to = parsed(process, monkeypatch), reachable(process, overlay)
    url = (settings.migrate.database_url or settings.database_url).get_secret_value()
    assert urlsplit(url).port or 5432 in open_to
    for server in settings.kafka.bootstrap_servers.split(","):
        assert not server or int(server.rpartition(":")[2]) in open_to, server
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in open_to[53]
    assert (443 in open_to) == (process.name in {"control", "agents"})
    kafka = {port for port in open_to if 9092 <= port <= 9098}
    assert bool(kafka) == (process.name in {"relay", "agents", "migrate"} | DOCTOR)


def test_the_overlays_name_the_ports_of_their_servers() -> None:
    """MSK's ports for passwords and for IAM; the pods of an operator, and nothing else, where it runs the servers."""
    kafka = {name: reachable(workloads(OVERLAYS[name])["relay"], name) for name in OVERLAYS}
    assert {9096, 9098} <= set(kafka["managed"])
    assert 9093 not in kafka["managed"]
    assert kafka["strimzi"][9093] == [{"podSelector": {"matchLabels": {"strimzi.io/cluster": "slotwire"}}}]
    postgres = reachable(workloads(OVERLAYS["cloudnative-pg"])["serve"], "cloudnative-pg")
    assert postgres[5432] == [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "slotwire-db"}}}]


def test_a_changed_secret_rolls_its_pods(everything: Path) -> None:
    """With secrets from files, whoever uses one refers to its generated name; Reloader watches those that are not."""
    found = rendered(everything)
    secrets = {doc["metadata"]["name"] for doc in found if doc["kind"] == "Secret"}
    assert secrets == {f"slotwire-{name}{GENERATED}" for name in ("database", "migrate", "keys", "kafka")}
    for document in found:
        if pod_template(document) is None:
            continue
        text = yaml.safe_dump(document)
        used = set(re.findall(r"name: (slotwire-(?:database|migrate|keys|kafka)\S*)\n\s+(?:optional|key):?", text))
        used |= {ref["name"] for ref in references(document, "secretKeyRef") if not ref.get("optional")}
        assert used <= secrets, used - secrets
        lasting = document["kind"] in {"Deployment", "StatefulSet"}
        assert (document["metadata"].get("annotations") == {"reloader.stakater.com/auto": "true"}) == lasting
    assert (COMPONENTS / "generated-secrets" / ".gitignore").read_text(encoding="utf-8").splitlines()[1] == "*.env"


def test_only_control_has_the_oauth_app(everything: Path) -> None:
    """The component gives control, and its examination, the app and a public port; serve holds nothing of it."""
    folder = everything.parent / "with-oauth"
    folder.mkdir()
    said = {"resources": ["../plain"], "components": ["../../components/oauth"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    found = workloads(folder)
    secrets = {("slotwire-oauth-app", key) for key in ("client-id", "client-secret", "signing-keys")}
    assert {name for name, process in found.items() if process.secrets() & secrets} == {"control", "doctor-control"}
    for name in ("control", "doctor-control"):
        assert secrets <= found[name].secrets()
    assert {"name": "oauth", "containerPort": 8083} in found["control"].container["ports"]
    readme = (K8S / "README.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in readme for _, key in secrets)
    documents = rendered(folder)
    [ingress] = [doc for doc in documents if (doc["kind"], doc["metadata"]["name"]) == ("Ingress", "slotwire-connect")]
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert [path["path"] for path in paths] == ["/oauth/calendly/", "/approvals/"]
    assert {path["backend"]["service"]["name"] for path in paths} == {"slotwire-connect"}


def test_only_mcp_has_the_keys_of_tokens(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The component adds a process that holds its tokens' keys and no other key, and reaches `control` and Postgres."""
    folder = everything.parent / "with-mcp"
    folder.mkdir()
    said = {"resources": ["../plain"], "components": ["../../components/mcp"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    found = workloads(folder)
    secrets = {("slotwire-mcp", "url"), ("slotwire-mcp", "token-keys")}
    assert {name for name, process in found.items() if process.secrets() & secrets} == {"mcp", "doctor-mcp"}
    mcp, examines = found["mcp"], found["doctor-mcp"]
    assert examines.container["args"] == ["doctor", "--process", "mcp"]
    assert (examines.secrets(), examines.files(), examines.environment()) == (
        *(mcp.secrets(), mcp.files(), mcp.environment()),
    )
    [address] = [each for each in found["agents"].container["env"] if each["name"] == "SLOTWIRE_MCP__PUBLIC_URL"]
    assert address["valueFrom"]["configMapKeyRef"]["name"] in mcp.maps
    assert mcp.secrets() == secrets
    assert mcp.container["args"] == ["mcp", "serve"]
    settings = parsed(mcp, monkeypatch)
    assert mcp.ports == {"mcp": settings.mcp.port, "health": settings.health.port}
    assert mcp.container["securityContext"] == found["control"].container["securityContext"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert mcp.container[probe] == found["control"].container[probe]
    policies = {doc["metadata"]["name"]: doc["spec"] for doc in rendered(folder) if doc["kind"] == "NetworkPolicy"}
    [rule] = policies["slotwire-control"]["ingress"]
    for name in ("mcp", "doctor"):
        assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": f"slotwire-{name}"}}} in rule["from"]
    assert policies["slotwire-doctor"]["egress"][0]["ports"] == rule["ports"]
    without = of_kind("NetworkPolicy", OVERLAYS["plain"])["agents"]["spec"]["egress"]
    assert [each for each in without if each not in policies["slotwire-agents"]["egress"]] == []
    inside = [each for each in policies["slotwire-agents"]["egress"] if each["ports"] == [{"port": "https"}]]
    assert [place.keys() for each in inside for place in each["to"]] == [{"namespaceSelector"}]
    readme = (K8S / "README.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in readme for _, key in secrets)


def references(value: Any, key: str) -> list[Document]:
    """Find every reference of a kind in a document."""
    if isinstance(value, dict):
        return [
            *([value[key]] if key in value else []),
            *(r for inner in value.values() for r in references(inner, key)),
        ]
    return [r for inner in value for r in references(inner, key)] if isinstance(value, list) else []


def test_the_steps_of_a_rollout_are_hooks(everything: Path, tmp_path: Path) -> None:
    """Argo CD makes the jobs anew, with each sync and after it; Helm before and after, and first what they refer to."""
    jobs = {doc["metadata"]["name"]: doc for doc in rendered(everything) if doc["kind"] == "Job"}
    for name, hook in (("slotwire-migrate", "Sync"), ("slotwire-migrate-post", "PostSync")):
        assert jobs[name]["metadata"]["annotations"] == {
            "argocd.argoproj.io/hook": hook,
            "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        }
        assert not jobs[name]["spec"].get("suspend")
    folder = everything.parent / "with-helm"
    folder.mkdir()
    said = {"resources": ["../plain"], "components": ["../../components/helm"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    found = rendered(folder)
    weights = {
        (doc["kind"], doc["metadata"]["name"].removesuffix(GENERATED)): int(annotations["helm.sh/hook-weight"])
        for doc in found
        if "helm.sh/hook" in (annotations := doc["metadata"].get("annotations", {}))
    }
    needed = {("ServiceAccount", "slotwire-migrate"), ("PriorityClass", "slotwire")}
    needed |= {("ConfigMap", f"slotwire-{name}") for name in ("settings", "kafka")}
    jobs = {doc["metadata"]["name"]: doc for doc in found if doc["kind"] == "Job"}
    assert weights == dict.fromkeys(needed, -5) | {("Job", name): 0 for name in jobs}
    hooks = {name: job["metadata"]["annotations"]["helm.sh/hook"] for name, job in jobs.items()}
    assert hooks == {
        "slotwire-migrate": "pre-install,pre-upgrade",
        "slotwire-migrate-post": "post-install,post-upgrade",
    }
    assert not any(job["spec"].get("suspend") for job in jobs.values())
    assert {ref["name"].removesuffix(GENERATED) for ref in references(list(jobs.values()), "configMapRef")} == {
        name for kind, name in needed if kind == "ConfigMap"
    }


def test_agents_scale_by_their_lag(everything: Path) -> None:
    """The scaler's target exists and has no number of its own; its group is the agent's, its limit the partitions."""
    found = rendered(everything)
    (scaler,) = [doc for doc in found if doc["kind"] == "ScaledObject"]
    (agents,) = [doc for doc in found if doc["kind"] == "StatefulSet"]
    assert scaler["spec"]["scaleTargetRef"] == {"kind": "StatefulSet", "name": agents["metadata"]["name"]}
    assert "replicas" not in agents["spec"]
    assert scaler["spec"]["minReplicaCount"] >= 2
    assert scaler["spec"]["maxReplicaCount"] == Settings.model_fields["kafka"].default.partitions
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metadata"]["consumerGroup"] == demo_agent.name
    assert trigger["metadata"]["bootstrapServersFromEnv"] in known_variables()
    (access,) = [doc for doc in found if doc["kind"] == "TriggerAuthentication"]
    assert trigger["authenticationRef"]["name"] == access["metadata"]["name"]
