"""Tests of the translation of NetworkPolicies into iptables rules, which need no cluster."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import commands_here, names, network_policies, policy_iptables
from tests.cluster.policy_iptables import Pod, Port, World

HERE, THERE = "here", "there"
WEB = Pod(HERE, "web", "198.18.0.2", {"app": "web"}, (Port("http", "TCP", 80),))
OTHER = Pod(HERE, "other", "198.18.0.3", {"app": "other"}, (Port("http", "TCP", 81),))
FAR = Pod(THERE, "far", "198.18.1.2", {"app": "web"})
OUTSIDE, NODE = "198.19.255.254", "198.19.255.1"
WORLD = World(
    (WEB, OTHER, FAR),
    {HERE: {"kubernetes.io/metadata.name": HERE}, THERE: {"team": "desk"}},
    ("198.18.0.0/16",),
    ("198.18.0.1", "198.18.1.1"),
)
Rule = dict[str, Any]


def a_policy(
    *,
    ingress: list[Rule] | None = None,
    egress: list[Rule] | None = None,
    selector: Rule | None = None,
    **spec: Any,
) -> dict[str, Any]:
    rules = {"ingress": ingress, "egress": egress}
    kinds = [name.capitalize() for name, given in rules.items() if given is not None]
    chosen = {"podSelector": {"matchLabels": {"app": "web"}} if selector is None else selector}
    given_rules = {name: given for name, given in rules.items() if given is not None}
    return {
        "metadata": {"namespace": HERE, "name": "under-test"},
        "spec": {"policyTypes": kinds, **chosen, **given_rules, **spec},
    }


def passes(
    policy: dict[str, Any], source: str, target: str, port: int = 80, protocol: str = "tcp"
) -> bool:
    """Whether the rules let a connection's first packet pass; evaluates the rules as Linux does."""
    chains = policy_iptables.translate([policy], WORLD).chains
    return _walk(chains, policy_iptables.CHAIN, (source, target, protocol, port)) != "DROP"


def _walk(chains: Any, chain: str, packet: tuple[str, str, str, int]) -> str:
    for rule in chains[chain]:
        words = rule.split()
        how, target = words[-2:]
        if not _matches(words[:-2], packet):
            continue
        if target in ("DROP", "RETURN"):
            return str(target)
        verdict = _walk(chains, target, packet)
        if verdict == "DROP" or how == "-g":
            return verdict
    return "RETURN"


def _matches(words: Sequence[str], packet: tuple[str, str, str, int]) -> bool:
    source, target, protocol, port = packet
    match = dict(zip(words[::2], words[1::2], strict=True))
    first, _, last = match.get("--dport", f"{port}").partition(":")
    # The only option "-m" in the rules is "-m conntrack". A rule with it matches replies and ICMP
    # errors, but never the first packet of a connection.
    return (
        "-m" not in match
        and _within(source, match.get("-s", source))
        and _within(target, match.get("-d", target))
        and match.get("-p", protocol) == protocol
        and int(first) <= port <= int(last or first)
    )


def _within(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)


def from_pods(**labels: str) -> Rule:
    return {"podSelector": {"matchLabels": labels}}


# --- isolation


def test_what_no_policy_selects_is_open() -> None:
    policy = a_policy(ingress=[], egress=[])

    assert passes(policy, OTHER.address, FAR.address)
    assert passes(policy, OUTSIDE, OTHER.address)


def test_a_selected_pod_is_closed_in_the_named_direction_only() -> None:
    ingress, egress = a_policy(ingress=[]), a_policy(egress=[])

    assert not passes(ingress, OTHER.address, WEB.address)
    assert not passes(ingress, OUTSIDE, WEB.address)
    assert passes(ingress, WEB.address, OTHER.address)
    assert not passes(egress, WEB.address, OTHER.address)
    assert not passes(egress, WEB.address, NODE, 53, "udp")
    assert passes(egress, OTHER.address, WEB.address)


def test_an_empty_selector_takes_every_pod_of_the_namespace_and_none_of_another() -> None:
    policy = a_policy(ingress=[], selector={})

    assert not passes(policy, FAR.address, OTHER.address)
    assert passes(policy, OTHER.address, FAR.address)


def test_both_ends_of_a_flow_must_allow_it() -> None:
    closed = a_policy(ingress=[], selector={"matchLabels": {"app": "other"}})
    open_way = a_policy(egress=[{}])

    rules = policy_iptables.translate([closed, open_way], WORLD).chains

    packet = (WEB.address, OTHER.address, "tcp", 80)
    assert _walk(rules, policy_iptables.CHAIN, packet) == "DROP"


def test_what_one_of_several_policies_allows_passes() -> None:
    first = a_policy(ingress=[{"from": [from_pods(app="nobody")]}])
    second = a_policy(ingress=[{"from": [from_pods(app="other")]}])

    rules = policy_iptables.translate([first, second], WORLD).chains

    assert _walk(rules, policy_iptables.CHAIN, (OTHER.address, WEB.address, "tcp", 80)) == "RETURN"


def test_an_address_of_pods_that_no_known_pod_has_reaches_nobody() -> None:
    policy = a_policy(selector={"matchLabels": {"app": "nobody"}})

    assert not passes(policy, "198.18.0.77", FAR.address)
    assert not passes(policy, OUTSIDE, "198.18.0.77")
    assert passes(policy, FAR.address, "198.18.1.1")


# --- peers


@pytest.mark.parametrize(
    ("peer", "sources"),
    [
        ({"podSelector": {}}, {WEB.address, OTHER.address}),
        (from_pods(app="other"), {OTHER.address}),
        ({"namespaceSelector": {}}, {WEB.address, OTHER.address, FAR.address}),
        ({"namespaceSelector": {"matchLabels": {"team": "desk"}}}, {FAR.address}),
        ({"namespaceSelector": {}, **from_pods(app="web")}, {WEB.address, FAR.address}),
        ({"ipBlock": {"cidr": "198.18.0.0/23"}}, {WEB.address, OTHER.address, FAR.address}),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.18.0.0/16"]}}, {OUTSIDE, NODE}),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["0.0.0.0/0"]}}, set()),
        ({"ipBlock": {"cidr": "::/0"}}, set()),
    ],
)
def test_a_peer_is_whom_it_names(peer: Rule, sources: set[str]) -> None:
    policy = a_policy(ingress=[{"from": [peer]}])
    everybody = [WEB.address, OTHER.address, FAR.address, OUTSIDE, NODE]

    through = {source for source in everybody if passes(policy, source, WEB.address)}

    assert through == sources


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["web", "x"], True),
        ("In", ["x"], False),
        ("NotIn", ["x"], True),
        ("NotIn", ["web"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_an_expression_selects_as_kubernetes_says(
    operator: str, values: list[str] | None, holds: bool
) -> None:
    expression = {"key": "app", "operator": operator, "values": values}

    assert policy_iptables.selected({"matchExpressions": [expression]}, {"app": "web"}) is holds


# --- ports


@pytest.mark.parametrize(
    ("ports", "through"),
    [
        ([{"port": 80}], {("tcp", 80)}),
        ([{"protocol": "UDP", "port": 80}], {("udp", 80)}),
        ([{"port": 80, "endPort": 81}], {("tcp", 80), ("tcp", 81)}),
        ([{"protocol": "UDP"}], {("udp", 80), ("udp", 81)}),
        ([{"port": 80}, {"protocol": "UDP", "port": 81}], {("tcp", 80), ("udp", 81)}),
        ([{"port": "http"}], {("tcp", 80)}),
        ([{"port": "http", "protocol": "UDP"}], set()),
        ([{"port": "nobody"}], set()),
        ([], {("tcp", 80), ("tcp", 81), ("udp", 80), ("udp", 81)}),
    ],
)
def test_a_port_is_the_one_that_is_named(ports: list[Rule], through: set[tuple[str, int]]) -> None:
    policy = a_policy(ingress=[{"ports": ports}])
    every = [(protocol, port) for protocol in ("tcp", "udp") for port in (80, 81)]

    assert {
        (protocol, port)
        for protocol, port in every
        if passes(policy, OTHER.address, WEB.address, port, protocol)
    } == through


def test_the_name_of_a_port_is_looked_up_in_the_pod_that_is_dialled() -> None:
    policy = a_policy(egress=[{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}])

    assert passes(policy, WEB.address, OTHER.address, 81)
    assert not passes(policy, WEB.address, OTHER.address, 80)
    assert not passes(policy, WEB.address, OUTSIDE, 80)


# --- tests of policies that cannot be translated


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"ingress": [{"ports": [{"protocol": "SCTP", "port": 1}]}]}, "protocol SCTP"),
        ({"ingress": [{"from": [{"serviceSelector": {}}]}]}, "peer with serviceSelector"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}, "ipBlock: 'x'"),
        ({"ingress": [{"from": [], "until": 1}]}, "rule with until"),
        ({"ingress": [{"ports": [{"port": "a", "endPort": 2}]}]}, "endPort"),
        ({"ingress": [{}], "order": 1}, "spec with order"),
        ({"ingress": [{}], "policyTypes": ["Ingress", "Between"]}, "policyTypes with Between"),
        ({"ingress": [{}], "podSelector": {"matchFields": {}}}, "selector with matchFields"),
        (
            {"ingress": [{"from": [{"podSelector": {"matchExpressions": [
                {"key": "a", "operator": "Gt", "values": ["1"]}]}}]}]},
            "operator 'Gt'",
        ),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_held_closes_its_pods_and_is_told(
    spec: dict[str, Any], why: str
) -> None:
    policy = a_policy(ingress=[])
    policy["spec"] |= spec

    (complaint,) = policy_iptables.translate([policy], WORLD).complaints

    assert f"NetworkPolicy here/under-test: {why}" in complaint
    assert not passes(policy, OTHER.address, WEB.address)
    assert passes(policy, FAR.address, OUTSIDE)


def test_a_policy_that_can_be_held_is_not_told_of() -> None:
    policy = a_policy(ingress=[{"from": [from_pods(app="other")], "ports": [{"port": "http"}]}])

    assert policy_iptables.translate([policy], WORLD).complaints == ()


# --- the transaction


def test_chains_of_pods_that_are_gone_are_removed_and_those_in_use_are_kept() -> None:
    translated = policy_iptables.translate([a_policy(ingress=[])], WORLD)
    mine = next(chain for chain in translated.chains if chain.startswith("MID-") and "-g" in str(
        [rule for rule in translated.chains[policy_iptables.TO] if chain in rule]))  # fmt: skip

    lines = translated.transaction(["MID-old", mine, policy_iptables.CHAIN]).splitlines()

    assert [line for line in lines if line.startswith("-X")] == ["-X MID-old"]
    assert lines[0] == "*mangle"
    assert lines[-1] == "COMMIT"
    assert f":{mine} - [0:0]" in lines
    assert all(len(chain) <= 28 for chain in translated.chains)


# --- tests of the pods that the enforcing process sees


def an_object(**spec: Any) -> dict[str, Any]:
    metadata = {"namespace": HERE, "name": "web", "labels": {"app": "web"}}
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 81}]
    pod = {"containers": [{"ports": ports}], **spec}
    return {"metadata": metadata, "spec": pod, "status": {"phase": "Running"}}


def seen(pod: dict[str, Any], results: dict[str, str]) -> tuple[Pod, ...]:
    objects = {"pods": {"uid-1": pod}, "namespaces": {}, "policies": {}}
    return network_policies.world(objects, results, [names.cluster("test").node(1)]).pods


def test_a_pods_address_is_known_from_the_plugins_before_the_api_tells_it() -> None:
    result = {
        "cniArgs": [["K8S_POD_NAME", "web"], ["K8S_POD_UID", "uid-1"]],
        "result": {"ips": [{"address": "198.18.0.2/24"}]},
    }

    assert seen(an_object(), network_policies.addresses([json.dumps(result)])) == (WEB,)
    assert seen(an_object(), {}) == ()


def test_a_pod_that_has_ended_or_has_its_nodes_address_is_in_no_policy() -> None:
    ended = an_object() | {"status": {"phase": "Succeeded", "podIP": WEB.address}}

    assert seen(ended, {}) == ()
    assert seen(an_object(hostNetwork=True), {"uid-1": NODE}) == ()


def test_the_gateways_of_nodes_are_no_pods() -> None:
    objects: dict[str, Any] = {"pods": {}, "namespaces": {}, "policies": {}}

    world = network_policies.world(objects, {}, [names.cluster("test").node(n) for n in (0, 10)])

    assert world.gateways == ("198.18.0.1", "198.18.10.1")


def test_before_the_process_has_begun_nothing_is_said_to_be_enforced(tmp_path: Path) -> None:
    cluster = names.cluster("test", tmp_path)
    cluster.state.mkdir()

    with pytest.raises(commands_here.KitError, match="no NetworkPolicy is enforced in 'test' yet"):
        network_policies.complaints(cluster)

    assert network_policies.enforced_on(cluster) == []


def test_what_the_process_says_is_read_again(tmp_path: Path) -> None:
    cluster = names.cluster("test", tmp_path)
    cluster.state.mkdir()
    status = {"nodes": ["node-0"], "complaints": ["NetworkPolicy a/b"]}
    (cluster.state / network_policies.STATUS).write_text(json.dumps(status))

    assert network_policies.enforced_on(cluster) == ["node-0"]
    assert network_policies.complaints(cluster) == ["NetworkPolicy a/b"]
