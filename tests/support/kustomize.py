"""Renders a kustomization as `kubectl kustomize` does, as far as ours go, so that tests judge what is applied.

A test renders every overlay with kubectl too, where it is at hand, and compares.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

CLUSTER_WIDE = frozenset({"PriorityClass"})
_KNOWN = frozenset(
    {
        "apiVersion", "kind", "resources", "components", "namespace", "images",
        "configMapGenerator", "secretGenerator", "patches",
    }
)  # fmt: skip
_KEYS = ("name", "mountPath", "containerPort", "topologyKey")
"""What identifies an entry of a list in a strategic merge; a list whose entries have none is replaced."""
_REFERENCES = {"configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
GENERATED = "-generated"
"""Stands for the hash that ends the names of generated ConfigMaps and Secrets."""


def rendered(folder: Path) -> list[Document]:
    """Return what a kustomization makes.

    Args:
        folder: with a kustomization.yaml.

    Returns:
        The documents. The name of a generated one ends in `GENERATED` where kustomize writes a hash of its content.
    """
    documents = _accumulated(folder)
    made = {(doc["kind"], doc["metadata"]["name"]) for doc in documents if doc.pop("generated", None)}
    for document in documents:
        _rename(document, made)
        if (document["kind"], document["metadata"]["name"]) in made:
            document["metadata"]["name"] += GENERATED
    return documents


def read_kustomization(folder: Path) -> Document:
    """Read a folder's kustomization.

    Raises:
        AssertionError: it has a field that this module does not know.
    """
    found: Document = _documents(folder / "kustomization.yaml")[0]
    assert set(found) <= _KNOWN, f"{folder.name}: unknown to the tests' renderer: {set(found) - _KNOWN}"
    return found


def variables(path: Path) -> dict[str, str]:
    """Read a file of NAME=value lines."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _documents(path: Path) -> list[Document]:
    """Read a file of YAML with the loader in C, which is ten times as fast, where there is one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(path.read_text(encoding="utf-8"), loader))


def _accumulated(folder: Path, documents: list[Document] | None = None) -> list[Document]:
    said = read_kustomization(folder)
    documents = [] if documents is None else documents
    for name in said.get("resources", ()):
        path = folder / name
        documents += _accumulated(path) if path.is_dir() else _documents(path)
    for name in said.get("components", ()):
        documents = _accumulated(folder / name, documents)
    for kind, field in (("ConfigMap", "configMapGenerator"), ("Secret", "secretGenerator")):
        for entry in said.get(field, ()):
            _generate(documents, kind, entry, folder)
    for patch in said.get("patches", ()):
        for content in _documents(folder / patch["path"]):
            _patch(documents, content, patch.get("target"))
    for document in documents:
        if "namespace" in said and document["kind"] not in CLUSTER_WIDE:
            document["metadata"]["namespace"] = said["namespace"]
        for image in said.get("images", ()):
            _set_image(document, image)
    return documents


def _generate(documents: list[Document], kind: str, entry: Document, folder: Path) -> None:
    data = {name: value for file in entry["envs"] for name, value in variables(folder / file).items()}
    if entry.get("behavior") == "merge":
        (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, entry["name"])]
        found["data"] |= data
        return
    metadata = {"name": entry["name"]} | ({"namespace": entry["namespace"]} if "namespace" in entry else {})
    documents.append({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data, "generated": True})


def _patch(documents: list[Document], patch: Any, target: Document | None) -> None:
    if target is None:
        target = {"kind": patch["kind"], "name": patch["metadata"]["name"]}
    chosen = [
        document
        for document in documents
        if re.fullmatch(target["kind"], document["kind"])
        and re.fullmatch(target.get("name", ".*"), document["metadata"]["name"])
    ]
    assert chosen, f"a patch of {target} finds nothing"
    for document in chosen:
        if isinstance(patch, list):
            for operation in patch:
                _operate(document, operation)
        else:
            content = {key: value for key, value in patch.items() if key not in {"apiVersion", "kind"}}
            content["metadata"] = {key: value for key, value in patch["metadata"].items() if key != "name"}
            _merge(document, content)


def _operate(document: Document, operation: Document) -> None:
    """Apply an operation of a JSON patch; of the paths, those through objects only."""
    *parents, last = operation["path"].strip("/").split("/")
    place = document
    for name in parents:
        place = place[name]
    if operation["op"] == "remove":
        del place[last]
    else:
        assert operation["op"] == "add", operation
        place[last] = copy.deepcopy(operation["value"])


def _merge(into: Document, patch: Document) -> None:
    for name, value in patch.items():
        there = into.get(name)
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict) and isinstance(there, dict):
            _merge(there, value)
        elif isinstance(value, list) and isinstance(there, list) and (key := _key_of([*value, *there])):
            for entry in value:
                same = [old for old in there if old[key] == entry[key]]
                if same:
                    _merge(same[0], entry)
                else:
                    there.append(copy.deepcopy(entry))
        else:
            into[name] = copy.deepcopy(value)


def _key_of(entries: list[Any]) -> str | None:
    return next((key for key in _KEYS if all(isinstance(e, dict) and key in e for e in entries)), None)


def _set_image(document: Document, image: Document) -> None:
    for container in containers(document):
        if container["image"] == image["name"]:
            digest = f"@{image['digest']}" if "digest" in image else ""
            container["image"] = f"{image['newName']}:{image['newTag']}{digest}"


def _rename(value: Any, made: set[tuple[str, str]]) -> None:
    """Give references to what was generated its name."""
    if isinstance(value, list):
        for entry in value:
            _rename(entry, made)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _REFERENCES and (_REFERENCES[key], inner["name"]) in made:
                inner["name"] += GENERATED
            else:
                _rename(inner, made)


def containers(document: Document) -> Iterator[Document]:
    """Return the containers of a workload, of whatever kind; none for others."""
    pod = pod_template(document)
    if pod is not None:
        yield from pod["spec"].get("initContainers", ())
        yield from pod["spec"]["containers"]


def pod_template(document: Document) -> Document | None:
    """Return the template of a workload's pods; None for other documents."""
    if document["kind"] not in {"Deployment", "StatefulSet", "Job", "CronJob"}:
        return None
    spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
    template: Document = spec["template"]
    return template
