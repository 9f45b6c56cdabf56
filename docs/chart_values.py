"""What each value of the charts may be: the source of their schemas, beside the settings' classes.

A value is a JSON schema.  Its description is the comment above its key in values.yaml, its default
what values.yaml has.  `examples` has a value other than the default, with which tests see that it
is used.  Anything that is not declared is refused.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
PORT_MAX = 65535
REPLICAS_MAX = 1000


def _text(example: str, pattern: str = "", **more: Any) -> Schema:
    ruled = {"pattern": pattern} if pattern else {}
    return {"type": "string", **ruled, **more, "examples": [example]}


def _whole(example: int, least: int, most: int, *, optional: bool = False) -> Schema:
    kind: str | list[str] = ["integer", "null"] if optional else "integer"
    return {"type": kind, "minimum": least, "maximum": most, "examples": [example]}


def _choice(example: str, *others: str) -> Schema:
    return {"type": "string", "enum": [example, *others], "examples": [example]}


def _flag(example: bool) -> Schema:
    return {"type": "boolean", "examples": [example]}


def _many(items: Schema, example: Any) -> Schema:
    return {"type": "array", "items": items, "examples": [[example]]}


def _section(**values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": values}


def _texts(example: dict[str, str]) -> Schema:
    """Labels, annotations and the like."""
    return {"type": "object", "additionalProperties": {"type": "string"}, "examples": [example]}


def _optional(pattern: str) -> str:
    """The same pattern, or nothing."""
    return f"^$|{pattern}"


_OBJECT: Schema = {"type": "object"}
_NAMED = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1}},
}
_AMOUNTS = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "integer", "number"],
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
    },
}
_TAINT = {"key": "gpu", "operator": "Exists"}
_ANYWHERE = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 1,
                "preference": {"matchExpressions": [{"key": "fast", "operator": "Exists"}]},
            }
        ]
    }
}
ANNOTATIONS = _texts({"example.com/team": "quants"})
LABELS = _texts({"example.com/cost": "42"})
TOLERATIONS = _many(_OBJECT, _TAINT)
AFFINITY = {"type": "object", "examples": [_ANYWHERE]}


def _resources() -> Schema:
    made = _section(requests=_AMOUNTS, limits=_AMOUNTS)
    return {**made, "examples": [{"requests": {"memory": "200Mi"}}]}


def _component(**values: Schema) -> Schema:
    """A kind of pod: what all have, and its own."""
    return _section(
        **values,
        resources=_resources(),
        nodeSelector=_texts({"disk": "ssd"}),
        tolerations=TOLERATIONS,
        affinity=AFFINITY,
    )


def _replicas() -> Schema:
    return _whole(3, 1, REPLICAS_MAX)


def _monitor() -> Schema:
    every = _text("45s", r"^[0-9]+(ms|s|m|h)$")
    return _section(enabled=_flag(True), interval=every, labels=LABELS)


def _digest() -> Schema:
    return _text(f"sha256:{'ab' * 32}", _optional(r"^sha256:[0-9a-f]{64}$"))


def _image() -> Schema:
    image = r"^[a-z0-9]([-a-z0-9._/]*[a-z0-9])?$"
    return _section(
        registry=_text("registry.example.com/team", r"^([^@:/]+(:[0-9]+)?(/[^@:]*)?)?$"),
        tag=_text("9f3c2a", _optional(r"^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$")),
        pullPolicy=_choice("Always", "IfNotPresent", "Never"),
        pullSecrets=_many(_NAMED, {"name": "registry"}),
        services=_text("fleet", image),
        agent=_text("fleet-agent", image),
        postgres=_text("fleet-postgres", image),
        digests=_section(services=_digest(), agent=_digest(), postgres=_digest()),
    )


def _service() -> Schema:
    return _section(
        type=_choice("LoadBalancer", "NodePort", "ClusterIP"),
        nodePort=_whole(30400, 1, PORT_MAX, optional=True),
        annotations=ANNOTATIONS,
        loadBalancerClass=_text("example.com/udp"),
        loadBalancerSourceRanges=_many(
            {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}, "192.0.2.0/24"
        ),
        externalTrafficPolicy=_choice("Local", "Cluster"),
    )


def _postgresql() -> Schema:
    secret = _optional(NAME)
    return _component(
        enabled=_flag(False),
        dsn=_text("postgresql://midstreamer@db.example.com/midstreamer?sslmode=verify-full"),
        existingSecret=_text("database", secret),
        existingSecretKey=_text("pass", r"^[-._a-zA-Z0-9]+$"),
        ca=_section(
            secret=_text("database-ca", secret),
            configMap=_text("database-ca", secret),
            key=_text("ca.pem", r"^[-._a-zA-Z0-9]+$"),
        ),
        storage=_section(
            enabled=_flag(False),
            size=_text("20Gi", r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"),
            className=_text("fast", secret),
        ),
    )


def _networks(*, empty: bool) -> Schema:
    """Networks, as 192.0.2.0/24; an empty list is everybody to Kubernetes, so most refuse it."""
    ruled = {} if empty else {"minItems": 1}
    block = {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}
    return {**_many(block, "192.0.2.0/24"), **ruled}


def _ports(example: int) -> Schema:
    port = {"type": "integer", "minimum": 1, "maximum": PORT_MAX}
    return {**_many(port, example), "minItems": 1}


def _network_policies() -> Schema:
    return _section(
        enabled=_flag(False),
        apiServer=_section(cidrs=_networks(empty=False), ports=_ports(8443)),
        dns=_section(ports=_ports(5353)),
        postgresql=_section(cidrs=_networks(empty=False), ports=_ports(6432)),
        clients=_section(namespaceLabels=_texts({"team": "quants"})),
        outside=_section(cidrs=_networks(empty=True), **{"except": _networks(empty=True)}),
        prometheus=_section(namespaceLabels=_texts({"team": "metrics"})),
        otlp=_section(
            namespaceLabels=_texts({"team": "traces"}),
            cidrs=_networks(empty=True),
            ports=_ports(4319),
        ),
    )


def _topology() -> Schema:
    one = {**_OBJECT, "required": ["topologyKey"]}
    return _many(one, {"topologyKey": "topology.kubernetes.io/zone"})


def _user() -> Schema:
    return {"type": ["object", "null"], "examples": [None]}


def fleet(config: Schema) -> Schema:
    """The values of `charts/midstreamer`; ``config`` is what the settings' classes say."""
    entry = r"^(client|agent|coordinator|sync|postgres)/\S+( .+)?$"
    budget = {
        "type": ["integer", "string"],
        "minimum": 1,
        "pattern": r"^[1-9][0-9]?%$",
        "examples": ["25%"],
    }
    return _section(
        image=_image(),
        trustDomain=_text("fleet.example", r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$"),
        allowlist=_many({"type": "string", "pattern": entry}, "client/desk-*"),
        clients=_section(namespaces=_many({"type": "string", "pattern": LABEL}, "shop")),
        cluster=_section(create=_flag(True)),
        config=config,
        healthPort=_whole(9191, 1, PORT_MAX),
        listenAddress=_choice("[::]", "0.0.0.0"),
        coordinator=_component(
            replicas=_replicas(),
            port=_whole(7500, 1, PORT_MAX),
            outsidePort=_whole(7501, 1, PORT_MAX),
            service=_service(),
        ),
        sync=_component(replicas=_replicas(), port=_whole(7550, 1, PORT_MAX)),
        agent=_component(
            replicas=_whole(3, 0, REPLICAS_MAX, optional=True),
            engine=_choice("wasm", "numba", "auto", ""),
            threads=_whole(2, 0, 256, optional=True),
            topology=_topology(),
        ),
        operator=_component(
            replicas=_replicas(), certificateLifeSeconds=_whole(7200, 600, 90 * 86400)
        ),
        postgresql=_postgresql(),
        podSecurityContext=_user(),
        podDisruptionBudgets=_section(enabled=_flag(False), maxUnavailable=budget),
        monitoring=_section(podMonitor=_monitor(), serviceMonitor=_monitor()),
        test=_section(
            enabled=_flag(False), deadlineSeconds=_whole(90, 5, 3600), resources=_resources()
        ),
        networkPolicies=_network_policies(),
        nodeSelector=_texts({"pool": "fleet"}),
        tolerations=TOLERATIONS,
        affinity=AFFINITY,
        priorityClassName=_text("high", _optional(NAME)),
        podAnnotations=ANNOTATIONS,
        podLabels=LABELS,
        labels=LABELS,
        annotations=ANNOTATIONS,
        extraEnv=_many(_NAMED, {"name": "TZ", "value": "UTC"}),
        extraVolumes=_many(_NAMED, {"name": "scratch", "emptyDir": {}}),
        extraVolumeMounts=_many(
            {**_OBJECT, "required": ["name", "mountPath"]},
            {"name": "scratch", "mountPath": "/scratch"},
        ),
        extraObjects=_many(
            {**_OBJECT, "required": ["apiVersion", "kind", "metadata"]},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}},
        ),
    )


def cluster() -> Schema:
    """The values of `charts/midstreamer-cluster`."""
    one = _section(
        namespace={"type": "string", "pattern": LABEL, "maxLength": 63},
        release={"type": "string", "pattern": LABEL, "maxLength": 40},
        clients={"type": "array", "items": {"type": "string", "pattern": LABEL}},
    )
    installations = _many(
        {**one, "required": ["namespace", "release"]}, {"namespace": "fleet", "release": "mid"}
    )
    return _section(installations=installations, labels=LABELS, annotations=ANNOTATIONS)
