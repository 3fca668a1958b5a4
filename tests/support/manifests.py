"""The Kubernetes manifests for the tests: overlays rendered, workloads, and the environment a pod would get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from slotwire.ingest.foundation.settings import Settings, load_settings
from slotwire.ingest.foundation.settings_base import PREFIX
from tests.support.kustomize import GENERATED, Document, pod_template, rendered, variables
from tools.sources import ROOT

K8S = ROOT / "k8s"
BASE = K8S / "base"
OVERLAYS = {name: K8S / "overlays" / name for name in ("plain", "strimzi", "cloudnative-pg", "managed")}
COMPONENTS = K8S / "components"
__all__ = ["Document", "variables"]

SECRETS = {
    **{
        ("slotwire-database", f"{process}-url"): f"postgresql://slotwire_{process}:secret@db.example.com/slotwire"
        for process in ("serve", "relay", "control", "agents")
    },
    ("slotwire-migrate", "url"): "postgresql://owner:secret@db.example.com/slotwire",
    ("slotwire-keys", "hook-keys"): "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    ("slotwire-keys", "vault-keys"): "2026-01:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8",
    ("slotwire-agent-settings", "keys"): "2026-01:QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8",
    ("slotwire-kafka", "username"): "slotwire",
    ("slotwire-kafka", "password"): "secret",
}
"""What stands in the tests for the Secrets that an installation makes."""
OF_COMPONENTS = {
    ("slotwire-mcp", "url"): "postgresql://slotwire_mcp:secret@db.example.com/slotwire",
    ("slotwire-mcp", "token-keys"): "k1:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8",
}
"""Those that it makes for a component."""


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job of an overlay with its one container, or one of the containers of `doctor`.

    Attributes:
        name: of the process, without `slotwire-`; `doctor-serve` is the container that examines for `serve`.
        document: the whole manifest.
        maps: the ConfigMaps of its overlay, by name.
    """

    name: str
    document: Document
    maps: dict[str, dict[str, str]]

    @property
    def spec(self) -> Document:
        """Its specification."""
        spec: Document = self.document["spec"]
        return spec

    @property
    def pod(self) -> Document:
        """The specification of its pods."""
        template = pod_template(self.document)
        assert template is not None
        pod: Document = template["spec"]
        return pod

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        template = pod_template(self.document)
        assert template is not None
        labels: dict[str, str] = template["metadata"]["labels"]
        return labels

    @property
    def container(self) -> Document:
        """Its container."""
        (container,) = [entry for entry in self.pod["containers"] if entry["name"] == self.name.rpartition("-")[2]]
        found: Document = container
        return found

    @property
    def ports(self) -> dict[str, int]:
        """Its container's ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    def secrets(self) -> set[tuple[str, str]]:
        """Which keys of which Secrets its container reads."""
        refs = (entry.get("valueFrom", {}).get("secretKeyRef") for entry in self.container["env"])
        return {(ref["name"], ref["key"]) for ref in refs if ref}

    def files(self) -> dict[str, set[tuple[str, str]]]:
        """Which keys of which Secrets each file is from; a Secret that is mounted whole has the key `*`."""
        found: dict[str, set[tuple[str, str]]] = {}
        for mount in self.container["volumeMounts"]:
            (volume,) = [entry for entry in self.pod["volumes"] if entry["name"] == mount["name"]]
            assert mount["readOnly"] is True
            sources = volume["projected"]["sources"] if "projected" in volume else [{"secret": volume["secret"]}]
            for source in sources:
                secret = source["secret"]
                name = secret.get("secretName") or secret["name"]
                whole = [{"key": "*", "path": file} for file in ("ca.crt", "tls.crt", "tls.key")]
                for item in secret.get("items", whole):
                    found.setdefault(f"{mount['mountPath']}/{item['path']}", set()).add((name, item["key"]))
        return found

    def environment(self) -> dict[str, str]:
        """Return the variables its container would get."""
        found: dict[str, str] = {}
        for source in self.container["envFrom"]:
            found |= self.maps[source["configMapRef"]["name"]]
        password = found.get("SLOTWIRE_KAFKA__SECURITY_PROTOCOL", "").startswith("SASL")
        for entry in self.container["env"]:
            source = entry.get("valueFrom", {})
            if "secretKeyRef" in source:
                key = source["secretKeyRef"]
                if password or not key.get("optional"):
                    found[entry["name"]] = (SECRETS | OF_COMPONENTS)[key["name"], key["key"]]
            elif source.get("fieldRef", {}).get("fieldPath") == "metadata.name":
                found[entry["name"]] = f"slotwire-{self.name}-0"
            else:
                found[entry["name"]] = entry["value"]
        return found


@cache
def documents(folder: Path) -> tuple[Document, ...]:
    """Return what a kustomization makes, rendered once."""
    return tuple(rendered(folder))


def of_kind(kind: str, folder: Path = OVERLAYS["plain"]) -> dict[str, Document]:
    """Return the manifests of a kind by the name of their process."""
    return {doc["metadata"]["name"].removeprefix("slotwire-"): doc for doc in documents(folder) if doc["kind"] == kind}


def workloads(folder: Path = OVERLAYS["plain"]) -> dict[str, Workload]:
    """Return the workloads of an overlay by the name of their process."""
    maps = {doc["metadata"]["name"]: doc["data"] for doc in documents(folder) if doc["kind"] == "ConfigMap"}
    assert all(name.endswith(GENERATED) for name in maps)
    found = (
        Workload(f"doctor-{container['name']}" if doc["kind"] == "CronJob" else name, doc, maps)
        for doc in documents(folder)
        if (template := pod_template(doc)) is not None
        for name in [doc["metadata"]["name"].removeprefix("slotwire-")]
        for container in template["spec"]["containers"]
    )
    return {workload.name: workload for workload in found}


def parsed(process: Workload, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Parse the settings a pod would get."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    for name, value in process.environment().items():
        monkeypatch.setenv(name, value)
    return load_settings()


ALL = {(overlay, name): found for overlay in OVERLAYS for name, found in workloads(OVERLAYS[overlay]).items()}
PLAIN = workloads()
DOCTOR = frozenset(f"doctor-{process}" for process in ("serve", "relay", "control", "agents"))
"""The containers that examine, one for each process that lasts."""
ENDING = DOCTOR | {"migrate", "migrate-post"}
"""What ends by itself."""


def each(chosen: dict[tuple[str, str], Workload]) -> pytest.MarkDecorator:
    """Run a test for each of some workloads."""
    return pytest.mark.parametrize("process", chosen.values(), ids=["-".join(names) for names in chosen])


every_process = each(ALL)
every_lasting_process = each({names: found for names, found in ALL.items() if names[1] not in ENDING})
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
