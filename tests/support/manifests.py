"""Reads the Kubernetes manifests for the tests: documents, workloads, and the environment a pod would get."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.sources import ROOT

BASE = ROOT / "k8s" / "base"
EXAMPLE = ROOT / "k8s" / "overlays" / "example"
WORKLOADS = ("Deployment", "StatefulSet", "Job")
Document = dict[str, Any]

SECRETS = {
    **{
        ("slotwire-database", f"{process}-url"): f"postgresql://slotwire_{process}:secret@db.example.com/slotwire"
        for process in ("serve", "relay", "control", "agents")
    },
    ("slotwire-migrate", "url"): "postgresql://owner:secret@db.example.com/slotwire",
    ("slotwire-keys", "hook-keys"): "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    ("slotwire-keys", "vault-keys"): "2026-01:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8",
    ("slotwire-kafka", "username"): "slotwire",
    ("slotwire-kafka", "password"): "secret",
}
"""What stands in the tests for the Secrets that an installation makes."""


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job with its one container.

    Attributes:
        name: of the process, without `slotwire-`.
        document: the whole manifest.
    """

    name: str
    document: Document

    @property
    def spec(self) -> Document:
        """Its specification."""
        spec: Document = self.document["spec"]
        return spec

    @property
    def pod(self) -> Document:
        """The specification of its pods."""
        pod: Document = self.spec["template"]["spec"]
        return pod

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        labels: dict[str, str] = self.spec["template"]["metadata"]["labels"]
        return labels

    @property
    def container(self) -> Document:
        """Its container."""
        (container,) = self.pod["containers"]
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

    def environment(self, *overlays: Path) -> dict[str, str]:
        """Return the variables its container would get, with the settings of overlays merged in."""
        found: dict[str, str] = {}
        for source in self.container["envFrom"]:
            name = source["configMapRef"]["name"]
            for folder in (BASE, *overlays):
                found |= generated_maps(folder).get(name, {})
        for entry in self.container["env"]:
            source = entry.get("valueFrom", {})
            if "secretKeyRef" in source:
                found[entry["name"]] = SECRETS[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]
            elif source.get("fieldRef", {}).get("fieldPath") == "metadata.name":
                found[entry["name"]] = f"slotwire-{self.name}-0"
            else:
                found[entry["name"]] = entry["value"]
        return found


@cache
def documents(folder: Path) -> tuple[Document, ...]:
    """Return the manifests of a folder, but not its kustomization, its patches or its settings."""
    files = [folder / name for name in kustomization(folder)["resources"] if name.endswith(".yaml")]
    return tuple(doc for file in files for doc in yaml.safe_load_all(file.read_text(encoding="utf-8")))


def kustomization(folder: Path) -> Document:
    """Read a folder's kustomization."""
    found: Document = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


def generated_maps(folder: Path) -> dict[str, dict[str, str]]:
    """Return the ConfigMaps a kustomization generates, by name."""
    return {
        entry["name"]: {name: value for file in entry["envs"] for name, value in variables(folder / file).items()}
        for entry in kustomization(folder)["configMapGenerator"]
    }


def variables(path: Path) -> dict[str, str]:
    """Read a file of NAME=value lines."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def workloads() -> dict[str, Workload]:
    """Return the workloads of the base by the name of their process."""
    found = (
        Workload(doc["metadata"]["name"].removeprefix("slotwire-"), doc)
        for doc in documents(BASE)
        if doc["kind"] in WORKLOADS
    )
    return {workload.name: workload for workload in found}
