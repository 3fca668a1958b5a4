"""What the overlays ask of operators: the shape of it, and that it fits what our processes need."""

from __future__ import annotations

import copy

import jsonschema
import pytest
import yaml

from slotwire.handlers.agents.demo import agent as demo_agent
from slotwire.handlers.firings import FIRINGS
from slotwire.ingest.foundation.migrations import PROCESSES, role_of
from slotwire.ingest.local.jars import kafka_version
from slotwire.schemas.topics import AVAILABILITY, RELAY_CURSOR, TOPICS
from tests.support.kustomize import Document
from tests.support.manifests import COMPONENTS, OVERLAYS, documents
from tests.support.operator_kinds import SPECS

CUSTOM = [
    *(doc for overlay in OVERLAYS.values() for doc in documents(overlay) if (doc["apiVersion"], doc["kind"]) in SPECS),
    *yaml.safe_load_all((COMPONENTS / "keda" / "scaled-object.yaml").read_text(encoding="utf-8")),
]


def one(kind: str, name: str = "") -> Document:
    """Return the one document of a kind, or of a kind and name."""
    found: list[Document] = [doc for doc in CUSTOM if doc["kind"] == kind and name in {"", doc["metadata"]["name"]}]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("document", CUSTOM, ids=[f"{doc['kind']}-{doc['metadata']['name']}" for doc in CUSTOM])
def test_it_has_the_shape_of_its_kind(document: Document) -> None:
    """Its fields are those of the operator's definition, with values of the right type, and another one is refused."""
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert document["metadata"]["namespace"] == "slotwire"
    validator = jsonschema.Draft202012Validator(SPECS[document["apiVersion"], document["kind"]])
    assert not list(validator.iter_errors(document["spec"]))
    wrong = copy.deepcopy(document["spec"]) | {"replica": 3}
    assert list(validator.iter_errors(wrong))


def test_every_kind_of_an_operator_is_judged() -> None:
    """No document of an overlay has an API that neither Kubernetes' schema nor ours knows."""
    groups = {doc["apiVersion"].partition("/")[0] for overlay in OVERLAYS.values() for doc in documents(overlay)}
    known = {"v1", "apps", "batch", "policy", "autoscaling", "networking.k8s.io", "scheduling.k8s.io"}
    assert groups - known == {version.partition("/")[0] for version, _ in SPECS} - {"keda.sh"}
    assert {(doc["apiVersion"], doc["kind"]) for doc in CUSTOM} == set(SPECS)


def test_the_database_has_every_role_and_a_second_copy() -> None:
    """There is a login per process beside the owner, and a commit waits for another instance, in another zone."""
    spec = one("Cluster")["spec"]
    roles = {role["name"]: role["login"] for role in spec["managed"]["roles"]}
    assert roles == {role_of(process, "slotwire"): process != "mcp" for process in PROCESSES}
    assert spec["bootstrap"]["initdb"] == {
        "database": "slotwire",
        "owner": "slotwire_owner",
        "secret": {"name": "slotwire-db-owner"},
    }
    assert spec["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert spec["instances"] >= 3
    assert spec["affinity"]["topologyKey"] == "topology.kubernetes.io/zone"


def test_the_brokers_hold_three_copies() -> None:
    """The cluster has as many nodes as topics have copies, makes no topic by itself, and is spread over zones."""
    kafka, pool = one("Kafka")["spec"]["kafka"], one("KafkaNodePool")["spec"]
    assert pool["replicas"] >= kafka["config"]["default.replication.factor"] == 3
    assert kafka["config"]["auto.create.topics.enable"] == "false"
    assert kafka["config"]["transaction.state.log.min.isr"] == kafka["config"]["min.insync.replicas"] == 2
    assert kafka["rack"]["topologyKey"] == "topology.kubernetes.io/zone"
    assert kafka_version().startswith("4."), "nodes are brokers and controllers, without another service"


def allowed(user: str, kind: str, name: str) -> set[str]:
    """Return what a user may do with a topic, a group or a transactional id."""
    found: set[str] = set()
    for acl in one("KafkaUser", f"slotwire-kafka-{user}")["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        fits = name.startswith(resource["name"]) if resource["patternType"] == "prefix" else name == resource["name"]
        if resource["type"] == kind and fits:
            found |= set(acl["operations"])
    return found


def test_each_process_may_do_in_kafka_what_it_does() -> None:
    """The rights are those that the how-to lists: the relay writes, agents read and write their dead letters only."""
    for topic in TOPICS:
        assert {"Create", "Describe"} <= allowed("migrate", "topic", topic.name)
        assert not {"Read", "Write"} & allowed("migrate", "topic", topic.name)
        assert {"Describe", "Write"} <= allowed("relay", "topic", topic.name)
        assert ("Read" in allowed("relay", "topic", topic.name)) == (topic == RELAY_CURSOR)
        assert {"Describe", "Read"} == allowed("agents", "topic", topic.name)
        if topic not in {RELAY_CURSOR, AVAILABILITY}:
            letters = allowed("agents", "topic", f"{topic.name}.{demo_agent.name}.dlq")
            assert {"Create", "Describe", "Write"} <= letters
    assert {"Create", "Describe", "Write"} <= allowed("agents", "topic", f"{FIRINGS.name}.{demo_agent.name}.dlq")
    assert "Write" in allowed("relay", "transactionalId", "slotwire-relay-0")
    assert "Read" in allowed("agents", "group", demo_agent.name)
    assert not allowed("agents", "transactionalId", "slotwire-relay-0")
