"""Translate NetworkPolicies of networking.k8s.io/v1 into iptables rules.  Pure.

A pod is isolated in a direction (ingress or egress) when a policy selects the pod for that
direction; then only packets that some policy allows pass.  See the Kubernetes documentation.  Where
the API leaves a choice, this module behaves as follows:

* Every packet is checked, not only the first of a connection, so that deleting a policy also
  interrupts open connections.  Reply packets and ICMP errors pass.
* A node reaches its own pods, because the rules do not see packets of the node's own processes.
* Packets from or to an address of the pods' range that belongs to no known pod are dropped.
* A policy that cannot be translated isolates the pods that it selects and allows nothing.  When
  its selector cannot be translated either, it isolates all pods of its namespace.
  `Translated.complaints` has a line for each such policy.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]
Object = Mapping[str, Any]
Match = tuple[str, ...]
"""Arguments of an iptables rule that select packets; an empty tuple selects every packet."""

TABLE = "mangle"
"""The iptables table of the rules.

Packets pass the table "mangle" before the table "filter", where kube-proxy accepts some packets
without more checks.
"""
HOOKS = ("FORWARD", "INPUT")
CHAIN = "MID-POLICIES"
FROM, TO = "MID-FROM", "MID-TO"
PROTOCOLS = ("TCP", "UDP")
DIRECTIONS = ("Egress", "Ingress")
PEER_KEYS = {"Egress": "to", "Ingress": "from"}


class Untranslatable(Exception):
    """A policy has a part that cannot be translated into iptables rules; the message names it."""


@dataclass(frozen=True)
class Port:
    """A named port of a container."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """A pod with its own IP address, which means a pod without hostNetwork."""

    namespace: str
    name: str
    address: str
    labels: Labels
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class World:
    """The pods and namespaces to which policies apply.

    `namespaces` has the labels of each namespace by name, `ranges` the IP ranges of pods, and
    `gateways` the addresses within these ranges that belong to nodes.
    """

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Labels]
    ranges: tuple[str, ...]
    gateways: tuple[str, ...]


@dataclass(frozen=True)
class Translated:
    """The iptables rules, by chain, into which policies were translated.

    `complaints` has a line for each policy that cannot be translated.
    """

    chains: Mapping[str, tuple[str, ...]]
    complaints: tuple[str, ...]

    def transaction(self, stale: Sequence[str] = ()) -> str:
        """Return the input of `iptables-restore --noflush` that replaces all chains at once.

        Chains of `stale` that are no longer needed are deleted.
        """
        gone = [chain for chain in stale if chain not in self.chains]
        declared = [f":{chain} - [0:0]" for chain in [*self.chains, *gone]]
        rules = [f"-A {chain} {rule}" for chain, rules in self.chains.items() for rule in rules]
        removed = [f"-X {chain}" for chain in gone]
        return "\n".join([f"*{TABLE}", *declared, *rules, *removed, "COMMIT", ""])


def translate(policies: Sequence[Object], world: World) -> Translated:
    """Translate all policies into one set of rules, which is the same on every node."""
    chains: dict[str, tuple[str, ...]] = {
        CHAIN: (
            "-m conntrack --ctdir REPLY -j RETURN",
            "-m conntrack --ctstate RELATED -j RETURN",
            f"-j {FROM}",
            f"-j {TO}",
        )
    }
    for direction in DIRECTIONS:
        side = _Side(direction)
        entries = [f"{side.here} {address} -j RETURN" for address in world.gateways]
        for pod in sorted(world.pods, key=lambda each: each.address):
            applying = [p for p in policies if _applies(p, pod, direction)]
            target = "-j RETURN"
            if applying:
                chain = _chain(direction, pod)
                target = f"-g {chain}"
                allowed = [
                    " ".join([*match, "-j RETURN"])
                    for policy in applying
                    for match in _let_through(policy, pod, side, world)
                ]
                chains[chain] = (*dict.fromkeys(allowed), "-j DROP")
            entries.append(f"{side.here} {pod.address} {target}")
        entries += [f"{side.here} {each} -j DROP" for each in world.ranges]
        chains[side.entry] = tuple(entries)
    return Translated(chains, tuple(sorted(_complaints(policies, world))))


def selected(selector: Object, labels: Labels) -> bool:
    """Whether a label selector matches labels; an empty selector matches all.

    Raises Untranslatable.
    """
    _known(selector, {"matchLabels", "matchExpressions"}, "selector")
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Object, labels: Labels) -> bool:
    _known(expression, {"key", "operator", "values"}, "expression")
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise Untranslatable(f"operator {expression['operator']!r} of a selector")


@dataclass(frozen=True)
class _Side:
    """The options of iptables for addresses in one direction of traffic, ingress or egress.

    `here` is the option for the pod that a policy selects, `there` the option for its peer. For
    example, in ingress `here` is "-d", because the pod is the destination.
    """

    direction: str

    @property
    def here(self) -> str:
        return "-s" if self.direction == "Egress" else "-d"

    @property
    def there(self) -> str:
        return "-d" if self.direction == "Egress" else "-s"

    @property
    def entry(self) -> str:
        return FROM if self.direction == "Egress" else TO


def _applies(policy: Object, pod: Pod, direction: str) -> bool:
    if policy["metadata"]["namespace"] != pod.namespace:
        return False
    try:
        kinds = _directions(policy)
        return selected(policy["spec"]["podSelector"], pod.labels) and direction in kinds
    except Untranslatable:
        # The policy cannot be translated: isolate the pod, so that no packet passes by mistake.
        return True


def _directions(policy: Object) -> set[str]:
    spec = policy["spec"]
    _known(spec, {"podSelector", "policyTypes", "ingress", "egress"}, "spec")
    kinds = set(spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])])
    if strange := sorted(kinds - set(DIRECTIONS)):
        raise Untranslatable(f"policyTypes with {', '.join(strange)}")
    return kinds


def _let_through(policy: Object, pod: Pod, side: _Side, world: World) -> list[Match]:
    try:
        _directions(policy)
        return list(_allowed(policy, pod, side, world))
    except Untranslatable:
        return []


def _complaints(policies: Sequence[Object], world: World) -> Iterator[str]:
    """Yield a line for each policy that cannot be translated, even if it selects no pod."""
    for policy in policies:
        metadata = policy["metadata"]
        namespace = metadata["namespace"]
        nobody = Pod(namespace, "", "", {})
        try:
            _directions(policy)
            selected(policy["spec"]["podSelector"], {})
            for direction in DIRECTIONS:
                list(_allowed(policy, nobody, _Side(direction), world))
        except Untranslatable as error:
            yield (
                f"NetworkPolicy {namespace}/{metadata['name']}: {error} cannot be enforced here:"
                " the policy isolates its pods and allows nothing"
            )


def _allowed(policy: Object, pod: Pod, side: _Side, world: World) -> Iterator[Match]:
    """Yield the iptables arguments that select the packets which a policy allows to or from a pod.

    Raises Untranslatable.
    """
    key = PEER_KEYS[side.direction]
    for rule in policy["spec"].get(side.direction.lower()) or []:
        _known(rule, {key, "ports"}, "rule")
        sides = list(_peers(rule.get(key) or [], policy["metadata"]["namespace"], world))
        for port in rule.get("ports") or [{}]:
            if isinstance(port.get("port"), str):
                yield from _by_name(port, pod, sides, side, world)
            else:
                numbers = _numbers(port)
                yield from ((*_address(each, side), *numbers) for each in sides)


def _by_name(
    port: Object, pod: Pod, sides: list[str], side: _Side, world: World
) -> Iterator[Match]:
    """Yield the iptables arguments for a port that a policy gives by name.

    The number behind the name may differ in each destination pod.
    """
    if "endPort" in port:
        raise Untranslatable(f"endPort beside the named port {port['port']!r}")
    if side.direction == "Ingress":
        for numbers in _named(port, pod):
            yield from ((*_address(each, side), *numbers) for each in sides)
        return
    for each in world.pods:
        if any(not block or _inside(each.address, block) for block in sides):
            yield from ((side.there, each.address, *numbers) for numbers in _named(port, each))


def _named(port: Object, pod: Pod) -> list[Match]:
    protocol = _protocol(port)
    numbers = {p.number for p in pod.ports if (p.name, p.protocol) == (port["port"], protocol)}
    return [("-p", protocol.lower(), "--dport", str(number)) for number in sorted(numbers)]


def _numbers(port: Object) -> Match:
    """Return the iptables arguments for a port that a policy does not give by name.

    The policy gives a number, a range or only a protocol.  If it gives nothing, every port is
    meant: return no arguments.
    """
    if not port:
        return ()
    _known(port, {"port", "protocol", "endPort"}, "port")
    protocol = ("-p", _protocol(port).lower())
    if "port" not in port:
        return protocol
    last = f":{port['endPort']}" if "endPort" in port else ""
    return (*protocol, "--dport", f"{port['port']}{last}")


def _protocol(port: Object) -> str:
    protocol = str(port.get("protocol", "TCP"))
    if protocol not in PROTOCOLS:
        raise Untranslatable(f"protocol {protocol}")
    return protocol


def _peers(peers: Sequence[Object], namespace: str, world: World) -> Iterator[str]:
    """Yield the addresses and IP ranges of the peers that a rule of a policy names.

    A rule without peers means every address: yield "".
    """
    if not peers:
        yield ""
    for peer in peers:
        _known(peer, {"ipBlock", "namespaceSelector", "podSelector"}, "peer")
        if "ipBlock" in peer:
            yield from _block(peer["ipBlock"])
            continue
        namespaces = {namespace}
        if "namespaceSelector" in peer:
            chosen = peer["namespaceSelector"]
            namespaces = {
                name for name, labels in world.namespaces.items() if selected(chosen, labels)
            }
        chosen = peer.get("podSelector") or {}
        selected(chosen, {})  # raises for a bad selector, even if there is no pod
        for pod in world.pods:
            if pod.namespace in namespaces and selected(chosen, pod.labels):
                yield pod.address


def _block(block: Object) -> Iterator[str]:
    _known(block, {"cidr", "except"}, "ipBlock")
    try:
        block_range = ipaddress.ip_network(block["cidr"], strict=False)
        holes = [ipaddress.ip_network(each, strict=False) for each in block.get("except") or []]
    except ValueError as error:
        raise Untranslatable(f"ipBlock: {error}") from error
    if block_range.version == 6:
        return  # the clusters that `tests.cluster` makes have no IPv6 addresses
    parts = [block_range]
    for hole in holes:
        parts = [left for part in parts for left in _without(part, hole)]
    yield from map(str, parts)


def _without(part: Any, hole: Any) -> list[Any]:
    if part.version != hole.version or not part.overlaps(hole):
        return [part]
    return list(part.address_exclude(hole)) if hole.subnet_of(part) else []


def _inside(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)


def _address(peer: str, side: _Side) -> Match:
    return (side.there, peer) if peer else ()


def _chain(direction: str, pod: Pod) -> str:
    digest = hashlib.sha256(f"{direction} {pod.address}".encode()).hexdigest()
    return f"MID-{digest[:20]}"  # the name of a chain has at most 28 characters


def _known(value: Object, keys: set[str], what: str) -> None:
    if strange := sorted(set(value) - keys):
        raise Untranslatable(f"{what} with {', '.join(strange)}")
