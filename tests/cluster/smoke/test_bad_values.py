"""For every value of the chart that has a limit, a bad example is refused.

The message names the value's key and says how to correct the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from tests.cluster.renders import refusal
from tools.docs import chart_files

pytestmark = [pytest.mark.cluster]

SCHEMA: dict[str, Any] = json.loads((chart_files.FLEET / "values.schema.json").read_text())
NETWORK = "a network with its prefix length, such as 192.0.2.0/24 or 192.0.2.7/32"
NAME = "empty, or a name in Kubernetes: lower-case letters, digits, - and ."
IMAGE = "only the name of an image, in lower case: registry, tag and digest have their own keys"
DIGEST = "empty, or the whole digest of the image, sha256:<64 digits>"
AMOUNT = "an amount in the notation of Kubernetes: 500m or 2 of cpu, 512Mi or 2Gi of memory"
KEY = "a key inside of a Secret or ConfigMap: letters, digits, -, _ and ."
EVERYBODY = "at least one network: to Kubernetes an empty list means every network"
EVERY_PORT = "at least one port: to Kubernetes an empty list means every port"
INTERVAL = "a number with the unit ms, s, m or h, such as 30s"
COMPONENTS = ("coordinator", "sync", "agent", "operator", "postgresql")
BAD: dict[str, tuple[Any, str]] = {
    "image.registry": ("https://registry.example.com", "without https:// and without a tag"),
    "image.tag": ("midstreamer:1", "a tag: at most 128 letters"),
    "image.pullPolicy": ("always", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
    "image.services": ("registry.example.com/midstreamer:1", IMAGE),
    "image.agent": ("Agent", IMAGE),
    "image.postgres": ("postgres@sha256:ab", IMAGE),
    **{f"image.digests.{image}": ("sha256:ab", DIGEST) for image in ("services", "agent")},
    "image.digests.postgres": ("cd" * 32, DIGEST),
    "trustDomain": ("spiffe://fleet", "only the trust domain of a SPIFFE identity"),
    "allowlist": (["desk-1"], "<kind>/<id> or <kind>/<prefix>*, such as client/desk-*"),
    "clients.namespaces": (["Shop"], "a name in Kubernetes: lower-case letters, digits and -"),
    "healthPort": (0, "minimum: got 0, want 1"),
    "listenAddress": ("::", "value must be one of '[::]', '0.0.0.0'"),
    "coordinator.replicas": (0, "minimum: got 0, want 1"),
    "coordinator.port": (70_000, "maximum: got 70,000, want 65,535"),
    "coordinator.outsidePort": (0, "minimum: got 0, want 1"),
    "coordinator.service.type": ("Loadbalancer", "one of 'LoadBalancer', 'NodePort', 'ClusterIP'"),
    "coordinator.service.nodePort": (70_000, "maximum: got 70,000, want 65,535"),
    "coordinator.service.loadBalancerSourceRanges": (["192.0.2.7"], NETWORK),
    "coordinator.service.externalTrafficPolicy": ("local", "value must be one of 'Local', "),
    "sync.replicas": (0, "minimum: got 0, want 1"),
    "sync.port": (0, "minimum: got 0, want 1"),
    "agent.replicas": (-1, "minimum: got -1, want 0"),
    "agent.engine": ("cuda", "value must be one of 'wasm', 'numba', 'auto', ''"),
    "agent.threads": (1000, "maximum: got 1,000, want 256"),
    "agent.topology": ([{"maxSkew": 1}], "missing property 'topologyKey'"),
    "operator.replicas": (0, "minimum: got 0, want 1"),
    "operator.certificateLifeSeconds": (60, "minimum: got 60, want 600"),
    "postgresql.existingSecret": ("My Secret", NAME),
    "postgresql.existingSecretKey": ("a key", KEY),
    "postgresql.ca.secret": ("My Secret", NAME),
    "postgresql.ca.configMap": ("-", NAME),
    "postgresql.ca.key": ("", KEY),
    "postgresql.storage.size": ("20 GB", "a size with its unit, such as 20Gi or 500Mi"),
    "postgresql.storage.className": ("Fast", NAME),
    "podDisruptionBudgets.maxUnavailable": ("half", "a number of pods, 1 or more, or a share"),
    "monitoring.podMonitor.interval": ("half a minute", INTERVAL),
    "monitoring.serviceMonitor.interval": ("30", INTERVAL),
    "test.deadlineSeconds": (1, "minimum: got 1, want 5"),
    "networkPolicies.apiServer.cidrs": ([], EVERYBODY),
    "networkPolicies.apiServer.ports": ([], EVERY_PORT),
    "networkPolicies.dns.ports": ([], EVERY_PORT),
    "networkPolicies.postgresql.cidrs": (["db.example.com"], NETWORK),
    "networkPolicies.postgresql.ports": ([], EVERY_PORT),
    "networkPolicies.outside.cidrs": (["198.51.100.0"], NETWORK),
    "networkPolicies.outside.except": (["10.0.0.0"], NETWORK),
    "networkPolicies.otlp.cidrs": (["collector"], NETWORK),
    "networkPolicies.otlp.ports": ([], EVERY_PORT),
    "priorityClassName": ("High", NAME),
    "extraEnv": ([{"value": "UTC"}], "missing property 'name'"),
    "extraVolumes": ([{"emptyDir": {}}], "missing property 'name'"),
    "extraVolumeMounts": ([{"name": "scratch"}], "missing property 'mountPath'"),
    "extraObjects": ([{"kind": "ConfigMap"}], "missing properties 'apiVersion', 'metadata'"),
    "image.pullSecrets": ([{"name": ""}], "minLength: got 0, want 1"),
    **{f"{each}.resources": ({"limits": {"memory": "1 GB"}}, AMOUNT) for each in COMPONENTS},
    "test.resources": ({"requests": {"cpu": "half"}}, AMOUNT),
}
"""For each value with a limit: a bad example, and the sentence that must refuse it.

The key is the path of the value in the chart's values, such as "image.tag".
"""
BOUNDS = {"if", "enum", "minimum", "maximum", "required", "minLength"}
OF_A_TYPE = {"boolean": "yes", "string": 42, "array": "x", "object": "x", "integer": "x"}
"""For each type of a JSON schema, a value that is of another type."""


def test_every_value_that_is_bounded_has_a_bad_example() -> None:
    bounded = {path for path, one in chart_files.leaves(SCHEMA) if set(_rules(one)) & BOUNDS}

    assert set(BAD) == bounded


@pytest.mark.parametrize("path", BAD)
def test_a_bad_value_is_refused_with_its_key_and_the_way_out(path: str) -> None:
    _, sentence = BAD[path]

    assert _said(_of(BAD), path, sentence)


@pytest.mark.parametrize("path", [path for path, _ in chart_files.leaves(SCHEMA)])
def test_a_value_of_another_type_is_refused_with_its_key_and_the_type(path: str) -> None:
    wrong = {each: _of_another_type(one["type"]) for each, one in chart_files.leaves(SCHEMA)}

    assert _said(_of(wrong), path, wrong[path][1])


def test_a_setting_beyond_its_limit_is_refused_with_its_key_and_the_limit() -> None:
    wrong = dict(_beyond(SCHEMA["properties"]["config"], "config"))

    output = _of(wrong)

    assert len(wrong) > 50
    assert [
        path for path, (_, sentence) in wrong.items() if not _said(output, path, sentence)
    ] == []


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("imges", "removed: there is no such key; `helm show values` prints all keys"),
        ("coordinator.service.kind", "removed: the keys here are type, nodePort, annotations,"),
        ("coordinator.resources.cpu", "removed: the keys here are requests, limits"),
        ("config.agents", "removed: the keys here are sync, coordinator, agent, postgres,"),
        ("config.sync.leases", "removed: there is no such setting, or the chart sets it itself"),
        ("config.security.key", "removed: there is no such setting, or the chart sets it itself"),
        ("config.agent.limits.links", "removed: there is no such setting, or the chart"),
    ],
)
def test_a_key_that_is_not_there_is_refused_with_what_is(path: str, sentence: str) -> None:
    assert _said(_of({path: ("x", "")}), path, sentence)


def test_not_even_the_sentence_itself_is_taken() -> None:
    assert "at '/image/digests/agent': 'not' failed" in _of({"image.digests.agent": (DIGEST, "")})


def _of(wrong: Mapping[str, tuple[Any, str]]) -> str:
    """Return Helm's error output for values that contain all these bad values."""
    values: dict[str, Any] = {}
    for path, (value, _) in wrong.items():
        *sections, key = path.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return _refusal(json.dumps(values))


@cache
def _refusal(values: str) -> str:
    return refusal(json.loads(values))


def _of_another_type(wanted: str | list[str]) -> tuple[Any, str]:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    wrong = True if "string" in kinds[1:] else OF_A_TYPE[kinds[0]]
    return wrong, f"want {' or '.join(sorted(kinds, key='null'.__ne__))}"


def _said(told: str, path: str, sentence: str) -> bool:
    """Whether Helm's error output has the sentence in a line about this path.

    A line about a longer path that begins with this path also counts.
    """
    place = re.compile(rf"- at '/{path.replace('.', '/')}(/[^']*)?': ")
    return any(place.search(line) and sentence in line for line in told.splitlines())


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the keywords that a JSON schema uses, and those of all schemas inside it."""
    yield from schema
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if inner:
            yield from _rules(inner)
    for inner in schema.get("properties", {}).values():
        yield from _rules(inner)


def _beyond(schema: Any, path: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield each setting with a limit: its path, a value beyond the limit, and a text.

    The refusal of the value must contain the text.
    """
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for key, one in schema.get("properties", {}).items():
        yield from _beyond(one, f"{path}.{key}")
    schema = next((each for each in schema.get("anyOf", ()) if "minimum" in each), schema)
    if "minimum" in schema:
        yield path, (schema["minimum"] - 1, "minimum: got ")
    elif "enum" in schema:
        yield path, ("neither", f"value must be one of '{schema['enum'][0]}'")
    elif "then" in schema:
        wrong = "https://u:p@proxy" if schema["type"] == "string" else 0
        yield path, (wrong, f"value must be '{schema['then']['const']}'")
    elif "maximum" in schema:
        yield path, (schema["maximum"] + 1, "maximum: got ")
