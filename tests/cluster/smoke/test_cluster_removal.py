"""`down` leaves nothing of a cluster on the machine, whatever the cluster was doing.

The tests need root and the programs of `make cluster`.  They start a cluster of their own, beside
the cluster of KUBECONFIG.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import (
    cgroups,
    commands_here,
    component_commands,
    component_processes,
    leftovers,
    names,
    network_namespaces,
    nodes,
    program_builds,
    state_files,
)
from tests.cluster import pods as pods_of
from tests.cluster.component_configs import Smaller

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "smoke-down"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.cluster", "--name", NAME, *words]


def traces() -> dict[str, set[str]]:
    """Return all that exists now in the places of this machine where a cluster may leave things."""
    listings = (
        network_namespaces.NAMESPACES,
        leftovers.CNI_RESULTS,
        leftovers.CONTAINER_LOGS,
        leftovers.RUNC_STATES,
        leftovers.SHIM_SOCKETS,
        names.STATE_ROOT,
    )
    found = {str(place): _listing(place) for place in listings}
    mounts = leftovers.MOUNTS.read_text(encoding="utf-8").splitlines()
    found["mounts"] = {line.split()[4] for line in mounts}
    found["cgroups"] = {
        str(path)
        for root in cgroups.trees("")
        for path in root.glob("*")
        if path.name.startswith(names.PREFIX)
    }
    rules = commands_here.run(["iptables-save"]).splitlines()
    found["iptables"] = {line for line in rules if not line.startswith(("#", ":"))}
    found["links"] = set(commands_here.run(["ip", "-o", "link"]).splitlines())
    found["processes"] = _command_lines()
    return found


def left_since(before: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what is new: `traces` finds it now, but it is not in `before`.

    `before` is an earlier result of `traces`. As in `traces`, the keys are places such as "mounts".
    Places without anything new are left out.
    """
    new = {what: present - before[what] for what, present in traces().items()}
    return {what: present for what, present in new.items() if present}


def _listing(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def _command_lines() -> set[str]:
    """Return the command lines of processes that contain this test's state directory."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # the process has just ended
        if f"{names.STATE_ROOT}/{NAME}/" in line:
            found.add(line)
    return found


@pytest.fixture
def cluster() -> Iterator[names.Cluster]:
    if os.geteuid() != 0 or program_builds.missing(program_builds.cache_directory()):
        pytest.skip("needs root, and the programs that `make cluster` builds")
    subprocess.run(command("down"), check=True)
    yield names.cluster(NAME)
    subprocess.run(command("down"), check=True)


def running_pods(cluster: names.Cluster) -> None:
    state_files.kubectl(cluster, "apply", "-f", "-", stdin=pods_of.manifest("one", "two", "three"))
    ready = ("--for=condition=Ready", "pod/one", "pod/two", "pod/three", "--timeout=60s")
    state_files.kubectl(cluster, "wait", *ready)


def test_a_cluster_of_two_nodes_with_pods_leaves_nothing(cluster: names.Cluster) -> None:
    before = traces()

    for _ in range(2):
        subprocess.run(command("up", "--nodes", "2"), check=True)
        running_pods(cluster)
        subprocess.run(command("down"), check=True)

        assert left_since(before) == {}
        assert leftovers.found(cluster) == []


@pytest.mark.long
def test_what_a_crash_left_is_cleared_by_the_next_start(cluster: names.Cluster) -> None:
    before = traces()
    subprocess.run(command("up"), check=True)
    running_pods(cluster)
    for name in ("node-0-kubelet", "node-0-containerd", "etcd"):
        component_processes.end(cluster, name, signal.SIGKILL)

    subprocess.run(command("up"), check=True)

    running_pods(cluster)
    subprocess.run(command("down"), check=True)
    assert left_since(before) == {}


@pytest.mark.long
def test_a_start_that_was_killed_is_not_taken_for_a_cluster(cluster: names.Cluster) -> None:
    starting = subprocess.Popen(command("up"))
    # This process starts after the API server and before the nodes: the start is half done.
    last = component_commands.REST[-1]
    commands_here.until(
        f"{last} runs", lambda: component_processes.running(cluster, last), timeout_s=60
    )
    starting.kill()
    starting.wait()

    subprocess.run(command("up"), check=True)

    running_pods(cluster)


def test_kubectl_works_again_after_any_process_was_killed(cluster: names.Cluster) -> None:
    subprocess.run(command("up", "--nodes", "2"), check=True)
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    asked = [str(cluster.state / "bin/kubectl"), "get", "nodes"]

    for name in sorted(path.stem for path in (cluster.state / "pids").iterdir()):
        subprocess.run(command("restart", name), check=True)

    commands_here.until(
        "kubectl answers",
        lambda: subprocess.run(asked, env=environment, capture_output=True).returncode == 0,
        timeout_s=60,
    )
    running_pods(cluster)


@pytest.mark.long
def test_a_client_outside_reaches_node_ports_and_no_pod(cluster: names.Cluster) -> None:
    subprocess.run(command("up", "--nodes", "2"), check=True)
    running_pods(cluster)
    wanted = pods_of.service("one", "udp", 9000, type="NodePort")
    applied = state_files.kubectl(
        cluster, "apply", "-f", "-", "-o", "json", stdin=json.dumps(wanted)
    )
    port = json.loads(applied)["spec"]["ports"][0]["nodePort"]
    address = state_files.kubectl(cluster, "get", "pod/one", "-o", "jsonpath={.status.podIP}")
    probe = str(cluster.state / "bin/probe")

    def answer(protocol: str, target: str) -> str:
        asked = command("outside", probe, "ask", protocol, target)
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    targets = [f"{cluster.node(index).address}:{port}" for index in (0, 1)]
    commands_here.until(
        "both nodes answer", lambda: all(answer("udp", each) for each in targets), timeout_s=20
    )
    assert [answer("udp", each).split()[0] for each in targets] == ["one", "one"]
    assert answer("tcp", f"{address}:8080") == ""
    assert answer("udp", f"{address}:9000") == ""


@pytest.mark.long
def test_a_killed_pod_is_started_again_and_its_neighbours_go_on(cluster: names.Cluster) -> None:
    subprocess.run(command("up"), check=True)
    running_pods(cluster)

    subprocess.run(command("kill-pod", "default/one"), check=True)

    def restarts() -> list[int]:
        listed = json.loads(state_files.kubectl(cluster, "get", "pods", "-o", "json"))["items"]
        return [each["status"]["containerStatuses"][0]["restartCount"] for each in listed]

    commands_here.until("the killed pod has restarted", lambda: sum(restarts()) > 0, timeout_s=30)
    running_pods(cluster)
    assert restarts() == [1, 0, 0]


@pytest.mark.long
def test_a_node_comes_and_goes_and_leaves_nothing(cluster: names.Cluster) -> None:
    subprocess.run(command("up"), check=True)
    node = cluster.node(1)

    for _ in range(2):
        nodes.add(node, smaller=Smaller(memory_mb=1000))
        nodes.kill(node)
        nodes.start(node)
        nodes.remove(node)

    mine = (str(node.directory), node.namespace)
    assert [at for at in traces()["mounts"] if any(name in at for name in mine)] == []
    assert not network_namespaces.exists(node.namespace)
    assert not cgroups.exists(f"{cluster.label}/{node.name}")
    assert [each.name for each in state_files.nodes(cluster)] == ["node-0"]
