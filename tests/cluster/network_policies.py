"""The process that enforces NetworkPolicies on all nodes of one cluster.

    python -m tests.cluster.network_policies NAME

`tests.cluster.up` starts the process in the network of node-0.  The process watches policies, pods
and namespaces.  When they change, or a node is new, `tests.cluster.policy_iptables` translates the
policies into iptables rules.  The process then writes these rules into the network namespace of
each node.  It reads a pod's address from the result files of the CNI plugins, because these exist
before the pod's containers run; the API server knows the address later.  The file
STATE/policies.json names the nodes where the rules are in force, and the policies that cannot be
enforced.  When the process ends, the rules stay.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import (
    commands_here,
    component_commands,
    leftovers,
    names,
    network_namespaces,
    policy_iptables,
    state_files,
)
from tests.cluster.policy_iptables import Pod, Port, World

LOOK_S = 0.05
"""Seconds between two searches for new pod addresses and new nodes.

Other changes need no search: a watch reports changed objects at once.
"""
WATCH_S = 240
RETRY_S = 0.3
SILENCE_S_MAX = WATCH_S + 30.0
STATUS = "policies.json"
RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
LIVE = ("Pending", "Running")
FAILURES = (OSError, ValueError, KeyError, commands_here.KitError)

Object = dict[str, Any]


def complaints(cluster: names.Cluster) -> list[str]:
    """Return a line for each NetworkPolicy that cannot be enforced in a cluster.

    Raises KitError when the enforcing process has not yet enforced any policy.
    """
    return list(_status(cluster)["complaints"])


def enforced_on(cluster: names.Cluster) -> list[str]:
    """Return the names of the nodes with the rules in force; empty before the first rules."""
    try:
        return list(_status(cluster)["nodes"])
    except commands_here.KitError:
        return []


def _status(cluster: names.Cluster) -> Object:
    try:
        status: Object = json.loads((cluster.state / STATUS).read_text(encoding="utf-8"))
    except OSError as error:
        raise commands_here.KitError(
            f"no NetworkPolicy is enforced in {cluster.name!r} yet: {error}; the log of the"
            f" process is {cluster.state}/log/policies.log"
        ) from error
    return status


def world(
    objects: dict[str, dict[str, Object]], results: dict[str, str], nodes: list[names.Node]
) -> World:
    """Return the pods and namespaces to which NetworkPolicies apply.

    `objects` has a dictionary for each key of RESOURCES, such as "pods": the API objects of that
    kind by uid. `results` has the addresses of pods by the pods' uid.
    """
    pods = []
    for uid, each in objects["pods"].items():
        status = each.get("status", {})
        address = results.get(uid) or status.get("podIP")
        alive = status.get("phase", "Pending") in LIVE
        if address and alive and not each["spec"].get("hostNetwork"):
            pods.append(_pod(each, address))
    labels = {
        each["metadata"]["name"]: each["metadata"].get("labels", {})
        for each in objects["namespaces"].values()
    }
    gateways = tuple(node.pods.replace(".0/24", ".1") for node in nodes)
    return World(tuple(pods), labels, (names.PODS,), gateways)


def _pod(each: Object, address: str) -> Pod:
    spec, metadata = each["spec"], each["metadata"]
    ports = tuple(
        Port(port["name"], port.get("protocol", "TCP"), port["containerPort"])
        for container in [*spec.get("initContainers", []), *spec["containers"]]
        for port in container.get("ports", [])
        if "name" in port
    )
    labels = metadata.get("labels", {})
    return Pod(metadata["namespace"], metadata["name"], address, labels, ports)


def addresses(texts: list[str]) -> dict[str, str]:
    """Return the addresses of pods by uid, from the texts of the CNI plugins' result files."""
    found = {}
    for text in texts:
        result = json.loads(text)
        words = dict(result.get("cniArgs") or [])
        for ip in (result.get("result") or {}).get("ips") or []:
            if uid := words.get("K8S_POD_UID"):
                found[uid] = ip["address"].partition("/")[0]
    return found


class Watched:
    """A copy of the API server's objects of one kind, which a thread keeps up to date.

    `changed` is called after each change; the event `known` is set after the first listing.
    """

    def __init__(self, cluster: names.Cluster, path: str, changed: Callable[[], None]) -> None:
        self._cluster, self._path, self._changed = cluster, path, changed
        self._objects: dict[str, Object] = {}
        self._lock = threading.Lock()
        self.known = threading.Event()
        self._thread = threading.Thread(target=self._run, name=path, daemon=True)
        self._thread.start()

    def objects(self) -> dict[str, Object]:
        """Return the objects by uid."""
        with self._lock:
            return dict(self._objects)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._follow(self._list())
            except (*FAILURES, http.client.HTTPException) as error:
                commands_here.say(f"{self._path}: {error!r}; retrying")
            pause.wait(RETRY_S)

    def _list(self) -> str:
        with self._asked("") as answer:
            listing = json.loads(answer.read())
        with self._lock:
            self._objects = {each["metadata"]["uid"]: each for each in listing["items"]}
        self.known.set()
        self._changed()
        return str(listing["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        words = f"?watch=true&timeoutSeconds={WATCH_S}&resourceVersion={version}"
        with self._asked(words) as answer:
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return  # the watch's resource version is too old: list again
                self._take(event["type"], event["object"])

    def _take(self, kind: str, each: Object) -> None:
        uid = each["metadata"]["uid"]
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(uid, None)
            else:
                self._objects[uid] = each
        self._changed()

    @contextmanager
    def _asked(self, words: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            names.API_ADDRESS, names.API_PORT, context=_tls(self._cluster), timeout=SILENCE_S_MAX
        )
        try:
            connection.request("GET", self._path + words)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise commands_here.KitError(f"{answer.status} {answer.read(300)!r}")
            yield answer
        finally:
            connection.close()


class Enforcer:
    """Keeps the iptables rules of all nodes up to date; `run` calls `look` again and again."""

    def __init__(self, cluster: names.Cluster) -> None:
        self._cluster = cluster
        self._news = threading.Event()
        self._watched = {
            name: Watched(cluster, path, self._news.set) for name, path in RESOURCES.items()
        }
        self._seen: Any = None
        self._wanted: policy_iptables.Translated | None = None
        self._held: dict[tuple[str, int], policy_iptables.Translated] = {}

    def run(self) -> None:
        """Enforce the NetworkPolicies until this process ends."""
        last_error = ""
        while True:
            self._news.wait(LOOK_S)
            try:
                self.look()
            except FAILURES as error:
                if repr(error) != last_error:
                    commands_here.say(f"policies could not be enforced, retrying: {error!r}")
                last_error = repr(error)
                self._held.clear()
                self._seen = None

    def look(self) -> None:
        """Translate the policies if anything changed; write the rules to nodes that lack them."""
        if not all(each.known.is_set() for each in self._watched.values()):
            return
        files = _results(self._cluster)
        places = self._places()
        if self._news.is_set() or (files, places) != self._seen:
            self._news.clear()
            self._seen = (files, places)
            objects = {name: each.objects() for name, each in self._watched.items()}
            found = addresses([text for path in files if (text := _read(path))])
            seen = world(objects, found, state_files.nodes(self._cluster))
            self._wanted = policy_iptables.translate(list(objects["policies"].values()), seen)
        if self._wanted is None:
            return
        behind = [place for place in places if self._held.get(place) != self._wanted]
        for place in behind:
            _hold(place[0], self._wanted)
            self._held[place] = self._wanted
        if behind:
            self._held = {place: held for place, held in self._held.items() if place in places}
            self._tell(places)

    def _places(self) -> list[tuple[str, int]]:
        """Return the network namespace of each node with its inode.

        The inode shows that a node has booted, because a boot makes a new namespace.
        """
        found = []
        for node in state_files.nodes(self._cluster):
            path = network_namespaces.NAMESPACES / node.namespace
            if path.exists():
                found.append((node.namespace, path.stat().st_ino))
        return found

    def _tell(self, places: list[tuple[str, int]]) -> None:
        assert self._wanted is not None
        by_namespace = {node.namespace: node.name for node in state_files.nodes(self._cluster)}
        status = {
            "nodes": [by_namespace[namespace] for namespace, _ in places],
            "complaints": list(self._wanted.complaints),
        }
        file = self._cluster.state / STATUS
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(status, indent=1), encoding="utf-8")
        beside.rename(file)
        for line in self._wanted.complaints:
            commands_here.say(line)


def _hold(namespace: str, wanted: policy_iptables.Translated) -> None:
    """Replace all chains of our rules in a network namespace at once; raises KitError.

    Afterwards add the rules that jump to these chains, if they are missing.
    """
    table = ["iptables", "-w", "-t", policy_iptables.TABLE]
    listed = commands_here.run(component_commands.inside(namespace, [*table, "-S"])).splitlines()
    chains = [line.split()[1] for line in listed if line.startswith("-N MID-")]
    restore = component_commands.inside(namespace, ["iptables-restore", "-w", "--noflush"])
    commands_here.run(restore, stdin=wanted.transaction(chains))
    for hook in policy_iptables.HOOKS:
        rule = f"{hook} -j {policy_iptables.CHAIN}"
        if f"-A {rule}" not in listed:
            commands_here.run(component_commands.inside(namespace, [*table, *f"-A {rule}".split()]))


def _results(cluster: names.Cluster) -> list[Path]:
    place = leftovers.CNI_RESULTS
    known = [path.name for path in place.iterdir()] if place.is_dir() else []
    mine = names.cni_results(cluster, known)
    return sorted(place / name for name in mine if name.endswith("-eth0"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # the file is gone: the pod was deleted
        return ""


def _tls(cluster: names.Cluster) -> ssl.SSLContext:
    pki = cluster.state / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


def main() -> None:
    """Enforce the policies of the cluster that the first argument names."""
    Enforcer(names.cluster(sys.argv[1])).run()


if __name__ == "__main__":
    main()
