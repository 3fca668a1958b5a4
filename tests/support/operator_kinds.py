"""The shape of the operators' kinds that our overlays use, as their definitions have it: the fields that we set only.

Written from the CRDs of CloudNativePG 1.26, KEDA 2.17 and Strimzi's API `kafka.strimzi.io/v1`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def fields(required: str = "", **properties: Schema) -> Schema:
    """Describe an object with these fields only."""
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def listed(items: Schema) -> Schema:
    """Describe a list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


def one_of(*values: str) -> Schema:
    """Describe a word of several."""
    return {"enum": list(values)}


_NAMED = fields("name", name=TEXT)
_ROLE = fields("name", name=TEXT, ensure=one_of("present", "absent"), login=FLAG, passwordSecret=_NAMED)
_CLUSTER = fields(
    "instances storage",
    instances={"type": "integer", "minimum": 1},
    imageName=TEXT,
    storage=fields("", size=TEXT, storageClass=TEXT),
    affinity=fields("", topologyKey=TEXT),
    postgresql=fields(
        "",
        synchronous=fields(
            "method number",
            method=one_of("any", "first"),
            number={"type": "integer", "minimum": 1},
            dataDurability=one_of("required", "preferred"),
        ),
    ),
    bootstrap=fields("", initdb=fields("", database=TEXT, owner=TEXT, secret=_NAMED)),
    managed=fields("", roles=listed(_ROLE)),
)

_POLICY = fields("type value periodSeconds", type=one_of("Pods", "Percent"), value=NUMBER, periodSeconds=NUMBER)
_SCALED_OBJECT = fields(
    "scaleTargetRef triggers",
    scaleTargetRef=fields("name", apiVersion=TEXT, kind=TEXT, name=TEXT),
    minReplicaCount=NUMBER,
    maxReplicaCount=NUMBER,
    cooldownPeriod=NUMBER,
    advanced=fields(
        "",
        horizontalPodAutoscalerConfig=fields(
            "", behavior=fields("", scaleDown=fields("", stabilizationWindowSeconds=NUMBER, policies=listed(_POLICY)))
        ),
    ),
    triggers=listed(fields("type metadata", type=TEXT, metadata=TEXTS, authenticationRef=_NAMED)),
)
_SECRET_KEY = fields("parameter name key", parameter=TEXT, name=TEXT, key=TEXT)

_VOLUME = fields(
    "id type", id=NUMBER, type=one_of("persistent-claim", "ephemeral"), size=TEXT, kraftMetadata=one_of("shared")
)
_NODE_POOL = fields(
    "replicas storage roles",
    replicas={"type": "integer", "minimum": 0},
    roles=listed(one_of("controller", "broker")),
    storage=fields("type", type=one_of("jbod"), volumes=listed(_VOLUME)),
)
_LISTENER = fields(
    "name port type tls",
    name={"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
    port={"type": "integer", "minimum": 9092},
    type=one_of("internal"),
    tls=FLAG,
    authentication=fields("type", type=one_of("tls", "scram-sha-512")),
)
_KAFKA = fields(
    "kafka",
    kafka=fields(
        "listeners",
        rack=fields("topologyKey", topologyKey=TEXT),
        listeners=listed(_LISTENER),
        authorization=fields("type", type=one_of("simple")),
        config={"type": "object"},
    ),
    entityOperator=fields("", userOperator=fields(), topicOperator=fields()),
)
_OPERATIONS = ("Read", "Write", "Create", "Delete", "Alter", "Describe", "DescribeConfigs", "AlterConfigs")
_ACL = fields(
    "resource operations",
    resource=fields(
        "type",
        type=one_of("topic", "group", "cluster", "transactionalId"),
        name=TEXT,
        patternType=one_of("literal", "prefix"),
    ),
    operations=listed(one_of(*_OPERATIONS)),
)
_USER = fields(
    "",
    authentication=fields("type", type=one_of("tls", "scram-sha-512")),
    authorization=fields("type acls", type=one_of("simple"), acls=listed(_ACL)),
)

SPECS: dict[tuple[str, str], Schema] = {
    ("postgresql.cnpg.io/v1", "Cluster"): _CLUSTER,
    ("keda.sh/v1alpha1", "ScaledObject"): _SCALED_OBJECT,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): fields("", secretTargetRef=listed(_SECRET_KEY)),
    ("kafka.strimzi.io/v1", "KafkaNodePool"): _NODE_POOL,
    ("kafka.strimzi.io/v1", "Kafka"): _KAFKA,
    ("kafka.strimzi.io/v1", "KafkaUser"): _USER,
}
"""The schema of `spec`, by API version and kind."""
