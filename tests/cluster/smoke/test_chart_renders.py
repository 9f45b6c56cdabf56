"""Tests of what the charts render.

Examples render as recorded, every value has an effect, and values that contradict are refused.
"""

from __future__ import annotations

import gzip
import json
import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.cluster import cluster_guard, commands_here, renders
from tests.cluster.renders import objects, refusal, render
from tools.docs import chart_files

pytestmark = [pytest.mark.cluster]

SCHEMA: dict[str, Any] = json.loads((chart_files.FLEET / "values.schema.json").read_text())
VALUES = dict(chart_files.leaves(SCHEMA))
OWN_DSN = "postgresql://midstreamer@db.example.com/midstreamer?sslmode=verify-full"
OWN_DATABASE = {"postgresql": {"enabled": False, "dsn": OWN_DSN}}
NEEDED: dict[str, dict[str, Any]] = {
    "postgresql.dsn": {"postgresql": {"enabled": False, "dsn": f"{OWN_DSN}&connect_timeout=3"}},
    "postgresql.existingSecret": OWN_DATABASE,
    "postgresql.existingSecretKey": {
        "postgresql": {**OWN_DATABASE["postgresql"], "existingSecret": "x"}
    },
    "postgresql.ca.secret": OWN_DATABASE,
    "postgresql.ca.configMap": OWN_DATABASE,
    "postgresql.ca.key": {"postgresql": {**OWN_DATABASE["postgresql"], "ca": {"secret": "x"}}},
    "clients.namespaces": {"cluster": {"create": True}},
    "coordinator.service.nodePort": {"coordinator": {"service": {"type": "NodePort"}}},
    **{
        f"coordinator.service.{key}": {"coordinator": {"service": {"type": "LoadBalancer"}}}
        for key in ("loadBalancerClass", "loadBalancerSourceRanges", "externalTrafficPolicy")
    },
    **{
        f"monitoring.{kind}.{key}": {"monitoring": {kind: {"enabled": True}}}
        for kind in ("podMonitor", "serviceMonitor", "rules", "dashboards")
        for key in ("interval", "labels", "annotations")
    },
    **{
        f"networkPolicies.postgresql.{key}": {"postgresql": OWN_DATABASE["postgresql"]}
        for key in ("cidrs", "ports")
    },
    "networkPolicies.outside.except": {"coordinator": {"service": {"type": "NodePort"}}},
    "networkPolicies.otlp.ports": {"networkPolicies": {"otlp": {"namespaceLabels": {"a": "b"}}}},
    "extraVolumeMounts": {"extraVolumes": [{"name": "scratch", "emptyDir": {}}]},
}
"""Some values of the chart have an effect only if other values are set too.

The key is the path of such a value. The entry has the other values. A test renders the chart twice,
first with only the other values, then with the value of the key as well. The renders must differ.
"""
ALONGSIDE = {"postgresql.enabled": OWN_DATABASE}
"""The chart refuses some values unless other values are set too.

The key is the path of such a value. The entry has the other values, which a test sets together with
the value of the key.
"""
CONFIG_MAP_BYTES_MAX = 1 << 20
"""The greatest size in bytes of a ConfigMap or Secret that the API server accepts."""
PLACED = ("Deployment", "StatefulSet", "PodTemplate", "Pod")
WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a database that is not named": (
        {"postgresql": {"enabled": False}},
        "postgresql.enabled is false and postgresql.dsn is empty: set it to the address of your",
    ),
    "a database beside our own": (
        {"postgresql": {"dsn": OWN_DSN}},
        "postgresql.dsn is for your own server, but postgresql.enabled is true",
    ),
    "a database of another make": (
        {"postgresql": {"enabled": False, "dsn": "mysql://m@db/m"}},
        "postgresql.dsn is not the address of a server: it must begin with postgresql://",
    ),
    "a database's Secret beside our own": (
        {"postgresql": {"existingSecret": "x"}},
        "postgresql.existingSecret is for your own server, but postgresql.enabled is true",
    ),
    "an authority of a database beside our own": (
        {"postgresql": {"ca": {"secret": "x"}}},
        "postgresql.ca is for your own server, but postgresql.enabled is true",
    ),
    "an authority of the database named twice": (
        {
            "postgresql": {
                **OWN_DATABASE["postgresql"],
                "dsn": f"{OWN_DSN}&sslrootcert=/x",
                "ca": {"secret": "x"},
            }
        },
        "postgresql.dsn contains sslrootcert, but postgresql.ca is set: leave out sslrootcert",
    ),
    "a database that is not verified": (
        {"postgresql": {"enabled": False, "dsn": "postgresql://m@db/m?sslmode=require"}},
        "postgresql.dsn must contain sslmode=verify-full",
    ),
    "two authorities of the database": (
        {"postgresql": {**OWN_DATABASE["postgresql"], "ca": {"secret": "x", "configMap": "y"}}},
        "postgresql.ca.secret and postgresql.ca.configMap are both set: set only one of them",
    ),
    "a port of nodes for nobody": (
        {"coordinator": {"service": {"nodePort": 30400}}},
        "coordinator.service.nodePort is 30400, but coordinator.service.type is ClusterIP",
    ),
    "a balancer without one": (
        {"coordinator": {"service": {"loadBalancerClass": "x"}}},
        "loadBalancerSourceRanges need coordinator.service.type LoadBalancer; it is ClusterIP",
    ),
    "one port for two entrances": (
        {"coordinator": {"outsidePort": 7400}},
        "coordinator.port and coordinator.outsidePort are both 7400",
    ),
    "one port for clients outside and for probes": (
        {"coordinator": {"outsidePort": 9090}},
        "healthPort and coordinator.outsidePort are both 9090",
    ),
    "two monitors of the same pods": (
        {"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
        "Prometheus would scrape each pod twice, so set one of them to false",
    ),
    "a label of the chart's own": (
        {"labels": {"app.kubernetes.io/instance": "x"}},
        "labels contains app.kubernetes.io/instance, which the chart sets itself",
    ),
}
"""By name of a case: values that contradict each other, and a part of the message about them.

`test_bad_values` tests the limits of single values.
"""


@cache
def _plain(needed: str) -> str:
    return render(json.loads(needed))


def _with(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(values))
    *sections, key = path.split(".")
    place = changed
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return changed


@pytest.mark.parametrize("path", VALUES)
def test_every_value_changes_what_is_rendered(path: str) -> None:
    needed = NEEDED.get(path, {})
    (example,) = VALUES[path]["examples"]

    changed = render(_with(ALONGSIDE.get(path, needed), path, example))

    assert changed != _plain(json.dumps(needed))


def test_every_setting_of_a_process_reaches_its_file() -> None:
    wanted = _settings(SCHEMA["properties"]["config"])

    (config,) = (
        each
        for each in objects(render({"config": wanted}))
        if each["metadata"]["name"] == f"{renders.RELEASE}-config"
    )

    written = tomllib.loads(config["data"]["config.toml"])
    assert sum(map(len, wanted.values())) > 40
    for section, settings in wanted.items():
        assert settings.items() <= written[section].items()


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_do_not_go_together_are_refused_with_what_to_change(what: str) -> None:
    values, told = REFUSED[what]

    assert told in refusal(values)


def test_a_cluster_without_the_administrators_chart_is_refused_with_what_he_does() -> None:
    cluster, pools = "apiregistration.k8s.io/v1/APIService", "midstreamer.dev/v1alpha1/AgentPool"

    message = refusal({}, has=[cluster])

    assert "ask an administrator to install the chart midstreamer-cluster once, with" in message
    assert "[{namespace: fleet, release: mid}]" in message
    assert refusal({}, has=[cluster, pools]) == ""
    assert refusal({"cluster": {"create": True}}, has=[cluster]) == ""


def test_a_password_in_the_address_of_the_database_is_refused_and_not_repeated() -> None:
    dsn = "postgresql://m:hunter2@db/m?sslmode=verify-full"

    message = refusal({"postgresql": {"enabled": False, "dsn": dsn}})

    assert "set postgresql.existingSecret to the name of the Secret" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("file", renders.examples(), ids=lambda file: file.stem)
def test_an_example_renders_as_recorded_each_time_the_same(file: Path) -> None:
    recorded = renders.examples()[file].read_text(encoding="utf-8")

    assert renders.of_example(file) == recorded, (
        "`python -m tests.cluster.renders` records the renders again"
    )
    assert renders.of_example(file) == recorded


@pytest.mark.parametrize("chart", chart_files.ALL, ids=lambda chart: chart.name)
def test_helm_finds_nothing_to_say_about_a_chart(chart: Path) -> None:
    output = commands_here.run([cluster_guard.helm(), "lint", "--strict", str(chart)])

    assert "[WARNING]" not in output


def test_nothing_belongs_to_the_cluster_unless_it_is_wanted() -> None:
    assert not WIDE & {each["kind"] for each in objects(render())}
    rendered = objects(render({"cluster": {"create": True}}))
    assert {each["kind"] for each in rendered} >= WIDE


def test_two_fleets_have_no_name_of_the_cluster_in_common() -> None:
    values = {"cluster": {"create": True}}
    one, other = (
        _wide_names(render(values, namespace=namespace, release=release))
        for namespace, release in (("a", "mid"), ("b", "mid"))
    )

    assert one
    assert not one & other
    assert one == _wide_names(render(values, namespace="a", release="mid"))


def test_the_administrators_chart_gives_a_fleet_what_it_would_give_itself() -> None:
    own = _wide(render({"cluster": {"create": True}}))
    values = {"installations": [{"namespace": renders.NAMESPACE, "release": renders.RELEASE}]}

    given = _wide(render(values, chart=chart_files.CLUSTER))

    assert own
    assert own.items() <= given.items()


def test_only_pods_that_ask_the_api_server_have_a_token() -> None:
    rendered = objects(render())
    accounts = [each for each in rendered if each["kind"] == "ServiceAccount"]
    pods = [_pod(each) for each in rendered if each["kind"] in PLACED]

    assert {each["automountServiceAccountToken"] for each in accounts} == {False}
    assert {each["automountServiceAccountToken"] for each in pods} == {True}
    assert {each["serviceAccountName"] for each in pods} == {
        each["metadata"]["name"] for each in accounts
    }


@pytest.mark.parametrize("user", [{}, {"podSecurityContext": None}], ids=["ours", "the cluster's"])
def test_pods_are_restricted_whoever_chooses_their_user(user: dict[str, Any]) -> None:
    pods = [_pod(each) for each in objects(render(user)) if each["kind"] in PLACED]

    assert len(pods) == 6
    for pod in pods:
        assert ("securityContext" in pod) == (not user)
        (container,) = pod["containers"]
        held = container["securityContext"]
        assert held["runAsNonRoot"] is True
        assert held["allowPrivilegeEscalation"] is False
        assert held["readOnlyRootFilesystem"] is True
        assert held["capabilities"] == {"drop": ["ALL"]}
        assert held["seccompProfile"] == {"type": "RuntimeDefault"}


def test_pods_of_a_kind_are_spread_over_the_nodes_that_take_them() -> None:
    for pod in (_pod(each) for each in objects(render()) if each["kind"] in PLACED):
        (spread,) = pod["topologySpreadConstraints"]
        assert spread["nodeTaintsPolicy"] == "Honor"


def test_a_budget_for_disruptions_selects_the_pods_of_its_kind() -> None:
    rendered = objects(render())
    selected = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in rendered
        if each["kind"] == "PodDisruptionBudget"
    }

    assert selected == {"coordinator", "sync", "agent", "operator"}


def test_each_rule_is_shipped_as_it_was_built() -> None:
    rendered = objects(render({"monitoring": {"rules": {"enabled": True}}}))
    shipped = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered
        if each["kind"] == "PrometheusRule"
    }

    files = sorted((chart_files.FLEET / "rules").glob("*.yaml"))
    assert files
    assert shipped == {
        f"{renders.RELEASE}-{file.stem}": yaml.safe_load(file.read_text("utf-8")) for file in files
    }


def test_each_dashboard_is_shipped_as_it_was_built_where_the_sidecar_looks() -> None:
    rendered = objects(render({"monitoring": {"dashboards": {"enabled": True}}}))
    shipped = [each for each in rendered if "-dashboard-" in each["metadata"]["name"]]

    files = sorted((chart_files.FLEET / "dashboards").glob("*.json"))
    assert files
    assert {key: text for each in shipped for key, text in each["data"].items()} == {
        f"midstreamer-{file.name}": file.read_text("utf-8") for file in files
    }
    for each in shipped:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Midstreamer"}
        assert len(json.dumps(each)) < CONFIG_MAP_BYTES_MAX


def test_a_release_with_all_dashboards_and_rules_fits_into_its_secret() -> None:
    # Helm stores manifest and files of the chart in one Secret, as gzip and base64. So the size
    # limit of a Secret limits them.
    values = {"monitoring": {kind: {"enabled": True} for kind in ("rules", "dashboards")}}
    files = [file.read_text("utf-8") for file in chart_files.FLEET.rglob("*") if file.is_file()]

    packed = gzip.compress("".join([render(values), *files]).encode())

    assert len(packed) * 4 / 3 < CONFIG_MAP_BYTES_MAX * 0.8


@pytest.mark.parametrize("kind", ["podMonitor", "serviceMonitor"])
def test_a_target_is_called_the_same_whichever_way_it_is_found(kind: str) -> None:
    rendered = objects(render({"monitoring": {kind: {"enabled": True}}}))
    (monitor,) = (each for each in rendered if each["kind"].lower() == kind.lower())

    (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert endpoint["port"] == "health"
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["component"]


def test_a_digest_wins_over_the_tag() -> None:
    digest = f"sha256:{'c' * 64}"

    text = render({"image": {"tag": "x", "digests": {"agent": digest}}})

    assert f"midstreamer-agent@{digest}" in text
    assert "midstreamer-agent:x" not in text
    assert "localhost/midstreamer:x" in text


def _settings(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values for the settings of the configuration file: {section: {setting: value}}.

    Each boolean, and each number with a default, gets a value other than its default.
    """
    shared = SCHEMA["$defs"]
    values: dict[str, dict[str, Any]] = {}
    for section, section_schema in schema["properties"].items():
        named = section_schema.get("$ref", "").rpartition("/")[2]
        properties = (shared[named] if named else section_schema)["properties"]
        values[section] = {
            name: _other(one) for name, one in properties.items() if _other(one) is not None
        }
    return {section: settings for section, settings in values.items() if settings}


def _other(schema: dict[str, Any]) -> Any:
    match schema.get("type"):
        case "boolean":
            return not schema.get("default", False)
        case "integer" if "default" in schema:
            return schema["default"] + (1 if schema["default"] < schema["maximum"] else -1)
        case "number" if "default" in schema:
            half = schema["default"] / 2
            return half + 1 if half + 1 <= schema.get("maximum", math.inf) else half
    return None


def _pod(owner: dict[str, Any]) -> dict[str, Any]:
    if owner["kind"] == "Pod":
        return dict(owner["spec"])
    template = owner["template"] if owner["kind"] == "PodTemplate" else owner["spec"]["template"]
    return dict(template["spec"])


def _wide(text: str) -> dict[tuple[str, str], Any]:
    """Return the rules or subjects of all cluster-wide roles and bindings, by kind and name."""
    return {
        (each["kind"], each["metadata"]["name"]): each.get("rules", each.get("subjects"))
        for each in objects(text)
        if each["kind"] in {"ClusterRole", "ClusterRoleBinding"}
    }


def _wide_names(text: str) -> set[str]:
    return {name for _, name in _wide(text)}
