"""The values that users may set in the charts, each declared as a JSON schema.

The charts' schemas are generated from these declarations and from the settings.
`tools.docs.chart_files` adds to each value its description, which is the comment above its key in
values.yaml, and its default from values.yaml. ``examples`` holds a value other than the default,
with which tests check that the value is used. A value that is not declared here is refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tools.docs.chart_refusals import Schema, matching, not_empty, refused

PORT_MAX = 65535
REPLICAS_MAX = 1000
USERS_MAX = 20_000
"""Maximum users of a load test."""


class Rule(NamedTuple):
    """A pattern for texts, and the sentence that Helm prints for a text that does not match."""

    pattern: str
    message: str


NAME = Rule(
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "a name in Kubernetes: lower-case letters, digits, - and ."
)
LABEL = Rule(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a name in Kubernetes: lower-case letters, digits and -"
)
SECRET_KEY = Rule(
    r"^[-._a-zA-Z0-9]+$", "a key inside of a Secret or ConfigMap: letters, digits, -, _ and ."
)
IMAGE = Rule(
    r"^[a-z0-9]([-a-z0-9._/]*[a-z0-9])?$",
    "only the name of an image, in lower case: registry, tag and digest have their own keys",
)
NETWORK = Rule(
    r"^[0-9a-fA-F.:]+/[0-9]{1,3}$",
    "a network with its prefix length, such as 192.0.2.0/24 or 192.0.2.7/32",
)
SIZE = Rule(
    r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$", "a size with its unit, such as 20Gi or 500Mi"
)
INTERVAL = Rule(r"^[0-9]+(ms|s|m|h)$", "a number with the unit ms, s, m or h, such as 30s")


def _text(example: str, rule: Rule | None = None, **more: Any) -> Schema:
    ruled = matching(*rule) if rule else {}
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
    """Return the schema of a map from text to text, such as labels or annotations."""
    return {"type": "object", "additionalProperties": {"type": "string"}, "examples": [example]}


def _optional(rule: Rule) -> Rule:
    """Return a copy of the rule that also accepts an empty text."""
    return Rule(f"^$|{rule.pattern}", f"empty, or {rule.message}")


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
        **matching(
            r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
            "an amount in the notation of Kubernetes: 500m or 2 of cpu, 512Mi or 2Gi of memory",
        ),
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
    resources = _section(requests=_AMOUNTS, limits=_AMOUNTS)
    return {**resources, "examples": [{"requests": {"memory": "200Mi"}}]}


def _component(**values: Schema) -> Schema:
    """Return the schema of a component: its own ``values``, and those that all components have."""
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
    every = _text("45s", INTERVAL)
    return _section(enabled=_flag(True), interval=every, labels=LABELS)


def _monitoring() -> Schema:
    return _section(
        podMonitor=_monitor(),
        serviceMonitor=_monitor(),
        rules=_section(enabled=_flag(True), labels=LABELS),
        dashboards=_section(
            enabled=_flag(True),
            labels=_texts({"dashboards": "here"}),
            annotations=_texts({"grafana_folder": "Quants"}),
        ),
    )


def _digest() -> Schema:
    rule = Rule(r"^sha256:[0-9a-f]{64}$", "the whole digest of the image, sha256:<64 digits>")
    return _text(f"sha256:{'ab' * 32}", _optional(rule))


def _image() -> Schema:
    registry = Rule(
        r"^([^@:/]+(:[0-9]+)?(/[^@:]*)?)?$",
        "empty, or a registry and a path without https:// and without a tag,"
        " such as registry.example.com/team",
    )
    tag = Rule(
        r"^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$",
        "a tag: at most 128 letters, digits, _, - and .; the name of the image is another key",
    )
    return _section(
        registry=_text("registry.example.com/team", registry),
        tag=_text("9f3c2a", _optional(tag)),
        pullPolicy=_choice("Always", "IfNotPresent", "Never"),
        pullSecrets=_many(_NAMED, {"name": "registry"}),
        services=_text("fleet", IMAGE),
        agent=_text("fleet-agent", IMAGE),
        postgres=_text("fleet-postgres", IMAGE),
        digests=_section(services=_digest(), agent=_digest(), postgres=_digest()),
    )


def _service() -> Schema:
    return _section(
        type=_choice("LoadBalancer", "NodePort", "ClusterIP"),
        nodePort=_whole(30400, 1, PORT_MAX, optional=True),
        annotations=ANNOTATIONS,
        loadBalancerClass=_text("example.com/udp"),
        loadBalancerSourceRanges=_networks(),
        externalTrafficPolicy=_choice("Local", "Cluster"),
    )


def _postgresql() -> Schema:
    secret = _optional(NAME)
    return _component(
        enabled=_flag(False),
        dsn=_text("postgresql://midstreamer@db.example.com/midstreamer?sslmode=verify-full"),
        existingSecret=_text("database", secret),
        existingSecretKey=_text("pass", SECRET_KEY),
        ca=_section(
            secret=_text("database-ca", secret),
            configMap=_text("database-ca", secret),
            key=_text("ca.pem", SECRET_KEY),
        ),
        storage=_section(
            enabled=_flag(False),
            size=_text("20Gi", SIZE),
            className=_text("fast", secret),
        ),
    )


def _networks(*, narrow: str = "") -> Schema:
    """Return the schema of a list of networks.

    An empty list is refused if ``narrow`` is given, because to Kubernetes an empty list means every
    network. ``narrow`` is the sentence that Helm then prints.
    """
    block = {"type": "string", **matching(*NETWORK)}
    return {**_many(block, "192.0.2.0/24"), **(not_empty(narrow) if narrow else {})}


def _ports(example: int) -> Schema:
    port = {"type": "integer", "minimum": 1, "maximum": PORT_MAX}
    message = "at least one port: to Kubernetes an empty list means every port"
    return {**_many(port, example), **not_empty(message)}


def _network_policies() -> Schema:
    narrow = "at least one network: to Kubernetes an empty list means every network"
    return _section(
        enabled=_flag(False),
        apiServer=_section(cidrs=_networks(narrow=narrow), ports=_ports(8443)),
        dns=_section(ports=_ports(5353)),
        postgresql=_section(cidrs=_networks(narrow=narrow), ports=_ports(6432)),
        clients=_section(namespaceLabels=_texts({"team": "quants"})),
        outside=_section(cidrs=_networks(), **{"except": _networks()}),
        prometheus=_section(namespaceLabels=_texts({"team": "metrics"})),
        otlp=_section(
            namespaceLabels=_texts({"team": "traces"}),
            cidrs=_networks(),
            ports=_ports(4319),
        ),
    )


def _topology() -> Schema:
    one = {**_OBJECT, "required": ["topologyKey"]}
    return _many(one, {"topologyKey": "topology.kubernetes.io/zone"})


def _user() -> Schema:
    return {"type": ["object", "null"], "examples": [None]}


def _extras() -> dict[str, Schema]:
    """Return the schemas of values with which users add variables, volumes and objects."""
    return {
        "extraEnv": _many(_NAMED, {"name": "TZ", "value": "UTC"}),
        "extraVolumes": _many(_NAMED, {"name": "scratch", "emptyDir": {}}),
        "extraVolumeMounts": _many(
            {**_OBJECT, "required": ["name", "mountPath"]},
            {"name": "scratch", "mountPath": "/scratch"},
        ),
        "extraObjects": _many(
            {**_OBJECT, "required": ["apiVersion", "kind", "metadata"]},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}},
        ),
    }


def fleet(config: Schema) -> Schema:
    """Return the schema of `charts/midstreamer`; ``config`` is the schema of the settings."""
    entry = Rule(
        r"^(client|agent|coordinator|sync|postgres)/\S+( .+)?$",
        "<kind>/<id> or <kind>/<prefix>*, such as client/desk-*; kinds are client, agent,"
        " coordinator, sync and postgres",
    )
    domain = Rule(
        r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$",
        "only the trust domain of a SPIFFE identity, in lower case, such as fleet.example",
    )
    budget = {
        "type": ["integer", "string"],
        "minimum": 1,
        **matching(r"^[1-9][0-9]?%$", "a number of pods, 1 or more, or a share such as 25%"),
        "examples": ["25%"],
    }
    return _section(
        image=_image(),
        trustDomain=_text("fleet.example", domain),
        allowlist=_many({"type": "string", **matching(*entry)}, "client/desk-*"),
        clients=_section(namespaces=_many({"type": "string", **matching(*LABEL)}, "shop")),
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
        monitoring=_monitoring(),
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
        **_extras(),
    )


def cluster() -> Schema:
    """Return the schema of the values of `charts/midstreamer-cluster`."""
    one = _section(
        namespace={"type": "string", **matching(*LABEL), "maxLength": 63},
        release={"type": "string", **matching(*LABEL), "maxLength": 40},
        clients={"type": "array", "items": {"type": "string", **matching(*LABEL)}},
    )
    installations = _many(
        {**one, "required": ["namespace", "release"]}, {"namespace": "fleet", "release": "mid"}
    )
    return _section(installations=installations, labels=LABELS, annotations=ANNOTATIONS)


def loadtest() -> Schema:
    """Return the schema of the values of `charts/midstreamer-loadtest`."""
    fleet_image = _image()["properties"]
    image = {key: fleet_image[key] for key in ("registry", "tag", "pullPolicy", "pullSecrets")}
    policies = _network_policies()["properties"]
    number = {"type": ["number", "null"], **_above_zero()}
    mix = Rule(
        r"^([a-z]+=[0-9.]+(,[a-z]+=[0-9.]+)*)?$",
        "weights such as match=1,lookup=3; requests are append, match, lookup, survey and refusal",
    )
    threshold = Rule(
        r"^([a-z]+(\.[a-z]+)?\.)?(p[0-9]{1,2}|max|failures|late)<=[0-9]+(\.[0-9]+)?(ms|s|%)$",
        "a threshold such as match.p99<=50ms, failures<=0% or late<=5ms",
    )
    return _section(
        image=_section(**image, loadtest=_text("load", IMAGE), digest=_digest()),
        fleet=_section(
            namespace={**_text("quants", LABEL), "maxLength": 63},
            release={**_text("other", LABEL), "maxLength": 40},
            trustDomain=_text("fleet.example", NAME),
            port=_whole(7500, 1, PORT_MAX),
        ),
        shape=_choice("spike", "smoke", "ramp", "soak", "churn", "slow", "tiny"),
        users=_whole(40, 1, USERS_MAX, optional=True),
        rate={**number, "examples": [40]},
        seconds={**number, "examples": [90]},
        mix=_text("match=1,lookup=3", mix),
        seed=_whole(2, 0, 2**31),
        budgetSeconds=_whole(10, 1, 600),
        thresholds=_many({"type": "string", **matching(*threshold)}, "match.p99<=50ms"),
        workers=_whole(3, 1, 64),
        sdkPerSecond={"type": "number", "minimum": 0, "examples": [1]},
        deadlineSeconds=_whole(600, 60, 7 * 86400),
        metricsPort=_whole(9191, 1, PORT_MAX),
        rights=_section(create=_flag(False)),
        master=_section(resources=_resources()),
        worker=_section(resources=_resources()),
        podSecurityContext=_user(),
        networkPolicies=_section(
            **{key: policies[key] for key in ("enabled", "apiServer", "dns", "prometheus")}
        ),
        nodeSelector=_texts({"pool": "load"}),
        tolerations=TOLERATIONS,
        affinity=AFFINITY,
        podAnnotations=ANNOTATIONS,
        podLabels=LABELS,
        labels=LABELS,
        annotations=ANNOTATIONS,
    )


def _above_zero() -> Schema:
    message = "a number above 0"
    return {"if": {"type": "number", "maximum": 0}, "then": refused(message)}
