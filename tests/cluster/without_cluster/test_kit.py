"""Tests of the kit's pure modules and of its small parts, without a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import re
import socket
import tarfile
import threading
import tomllib
from pathlib import Path

import pytest

from tests.cluster import (
    __main__,
    api_server_relay,
    cgroups,
    cluster_guard,
    commands_here,
    component_commands,
    component_configs,
    crashes,
    image_archives,
    leftovers,
    names,
    network_namespaces,
    preflight,
    programs,
)

GOOD = preflight.Machine(
    root=True,
    commands=frozenset(preflight.COMMANDS),
    plugins=frozenset(preflight.CNI_PLUGINS),
    kernel=frozenset(preflight.KERNEL),
    controllers=frozenset(preflight.CONTROLLERS),
    cgroup="v2",
    memory_mb=8000,
    state_disk_gb=100.0,
    cache_disk_gb=100.0,
    cores=2,
    go="go1.26.8",
)
COLD = preflight.Wanted(go="1.26.0", building=("kubernetes", "etcd"))
WARM = preflight.Wanted(go="1.26.0")
INSTALLED = {name: Path("/programs") / name for c in programs.COMPONENTS for name in c.binaries}


def a_cluster(name: str = "test") -> names.Cluster:
    return names.cluster(name)


# --- names


@pytest.mark.parametrize("name", ["", "Test", "a.b", "a/b", "-a", "a" * 21, "..", "a b", "a\n"])
def test_a_name_that_could_be_a_path_or_another_name_is_refused(name: str) -> None:
    with pytest.raises(names.NameRefused, match=re.escape(repr(name))):
        names.cluster(name)


@pytest.mark.parametrize("name", ["node-100", "node-01", "node-", "node--1", "test"])
def test_a_node_has_a_number_from_0_to_99(name: str) -> None:
    with pytest.raises(names.NameRefused, match="node-0 to node-99"):
        names.node_index(name)


def test_a_cluster_owns_no_namespace_of_one_whose_name_begins_like_its_own() -> None:
    mine, other = a_cluster("a"), a_cluster("a-b")

    foreign = [other.label, other.switch, other.node(1).namespace, "a", "docker"]

    assert [name for name in foreign if mine.owns_namespace(name)] == []
    assert all(map(mine.owns_namespace, (mine.label, mine.switch, mine.node(1).namespace)))


def test_nodes_share_no_name_address_or_directory() -> None:
    nodes = [a_cluster().node(index) for index in range(names.NODES_MAX)]

    for what in ("name", "address", "pods", "directory", "namespace", "network", "port", "socket"):
        assert len({getattr(node, what) for node in nodes}) == len(nodes), what


def test_the_longest_name_leaves_room_for_the_sockets_of_the_kubelet() -> None:
    node = a_cluster("a" * names.NAME_LENGTH_MAX).node(99)
    longest = node.directory / "kubelet/device-plugins" / "kubelet.sock"

    assert len(str(longest)) <= 107


def test_results_of_the_plugins_are_told_apart_by_the_whole_name() -> None:
    pod, other = "1" * 64, "2" * 64
    files = [
        f"midstreamer-a.node-0-{pod}-eth0",
        f"cni-loopback-{pod}-lo",
        f"midstreamer-a-b.node-0-{other}-eth0",
        f"cni-loopback-{other}-lo",
    ]

    assert names.cni_results(a_cluster("a"), files) == files[:2]


# --- preflight


def test_a_good_machine_lacks_nothing() -> None:
    assert preflight.problems(GOOD, COLD) == []


def test_everything_that_is_missing_is_said_at_once() -> None:
    bare = preflight.Machine(
        root=False,
        commands=frozenset({"ip"}),
        plugins=frozenset(),
        kernel=frozenset(),
        controllers=frozenset({"cpu"}),
        cgroup="v1",
        memory_mb=100,
        state_disk_gb=1.0,
        cache_disk_gb=2.0,
        cores=1,
    )

    problems = "\n".join(preflight.problems(bare, COLD))

    for word in ("root", "apt-get", "Go 1.26.0", "etcd", "state", "cache", "100 MB", "overlayfs"):
        assert word in problems
    assert "cgroup v1: controllers cpuset, memory, pids" in problems


@pytest.mark.parametrize("word", list(preflight.KERNEL))
def test_each_thing_that_the_kernel_lacks_is_named(word: str) -> None:
    machine = dataclasses.replace(GOOD, kernel=GOOD.kernel - {word})

    assert preflight.problems(machine, WARM) == [f"kernel: {preflight.KERNEL[word]}"]


def test_the_kernel_is_not_blamed_for_what_could_not_be_tried() -> None:
    machine = dataclasses.replace(
        GOOD, commands=GOOD.commands - {"iptables"}, kernel=GOOD.kernel - {"iptables"}
    )

    (only,) = preflight.problems(machine, WARM)

    assert only.endswith("--no-install-recommends iptables")


def test_packages_are_in_one_line_and_each_once() -> None:
    machine = dataclasses.replace(
        GOOD,
        commands=GOOD.commands - {"containerd", "ctr", "runc"},
        plugins=GOOD.plugins - {"bridge"},
    )

    line = preflight.install_line(preflight.packages(machine))

    assert line.split()[3:] == ["containerd", "containernetworking-plugins", "runc"]


@pytest.mark.parametrize("go", ["", "go1.9.7", "go1.25.10"])
def test_an_older_go_is_refused_only_when_something_must_be_built(go: str) -> None:
    machine = dataclasses.replace(GOOD, go=go, cache_disk_gb=0.0)

    assert preflight.problems(machine, WARM) == []
    assert preflight.problems(machine, COLD)[0].startswith("Go 1.26.0 or newer")


def test_go_versions_compare_as_numbers() -> None:
    assert preflight.version("go1.26") == preflight.version("1.26.0")
    assert preflight.version("go1.9") < preflight.version("go1.26rc1")


# --- tests of configuration files and command lines


def test_every_path_that_a_component_is_given_is_its_clusters() -> None:
    cluster = a_cluster()
    node = cluster.node(3)
    lines = [
        *component_commands.control(cluster, INSTALLED, component_configs.QUICK).values(),
        *component_commands.agents(node, INSTALLED, "zone-3").values(),
        component_commands.runtime(node),
    ]

    words = [word.rpartition("=")[2] for line in lines for word in line]
    paths = [word for word in words if word.startswith("/")]

    allowed = (f"{cluster.state}/", "/programs/")
    assert [path for path in paths if not path.startswith(allowed)] == []
    assert len(paths) > 20


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_a_lost_node_is_noticed_soon_only_where_pods_have_somewhere_to_go(nodes: int) -> None:
    chosen = component_configs.timing(nodes)

    line = component_commands.control(a_cluster(), INSTALLED, chosen)["kube-controller-manager"]

    wanted = "--node-monitor-grace-period=50s" if nodes == 1 else "--node-monitor-grace-period=8s"
    assert wanted in line


def test_a_nodes_lease_is_renewed_within_its_grace() -> None:
    smaller = component_configs.Smaller(cpu_millis=500, memory_mb=1000)
    text = component_configs.kubelet(a_cluster().node(1), component_configs.QUICK, smaller)

    kubelet = json.loads(text)

    assert kubelet["nodeLeaseDurationSeconds"] < component_configs.QUICK.grace_s
    assert kubelet["systemReserved"] == {"cpu": "500m", "memory": "1000Mi"}
    assert kubelet["cgroupRoot"] == "/midstreamer-test/node-1"


def test_pods_of_a_node_get_its_addresses_and_keep_them_on_the_way() -> None:
    node = a_cluster().node(7)

    bridge, _ = json.loads(component_configs.cni(node))["plugins"]

    assert bridge["ipam"]["ranges"] == [[{"subnet": "198.18.7.0/24"}]]
    assert bridge["ipMasq"] is False


def test_containerd_and_runc_keep_everything_below_the_node() -> None:
    node = a_cluster().node(7)

    config = tomllib.loads(component_configs.containerd(node))
    plugin = config["plugins"]["io.containerd.grpc.v1.cri"]
    runc = plugin["containerd"]["runtimes"]["runc"]["options"]["Root"]

    places = [config["root"], config["state"], config["grpc"]["address"], plugin["cni"]["conf_dir"]]
    assert [p for p in (*places, runc) if not p.startswith(f"{node.directory}/")] == []
    assert plugin["netns_mounts_under_state_dir"] is True


def test_dns_is_where_the_kubelet_sends_pods() -> None:
    kubelet = json.loads(
        component_configs.kubelet(
            a_cluster().node(0), component_configs.PATIENT, component_configs.Smaller()
        )
    )
    objects = json.loads(component_configs.dns_objects())["items"]

    service = next(each for each in objects if each["kind"] == "Service")

    assert kubelet["clusterDNS"] == [service["spec"]["clusterIP"]]


def test_a_command_joins_its_cgroup_before_it_begins(tmp_path: Path) -> None:
    members = tmp_path / "cgroup.procs"

    output = commands_here.run(
        component_commands.joining(members, ["sh", "-c", 'echo $$ "$1"', "sh", "a b $HOME"])
    )

    assert output == members.read_text(encoding="ascii").strip() + " a b $HOME\n"


def test_nothing_inside_a_cluster_asks_the_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    line = component_commands.inside("some", ["env"])

    assert line[:2] == ["nsenter", "--net=/run/netns/some"]
    assert "_proxy" not in commands_here.run(line[2:]).lower()


# --- tests of what the kit reads from the machine


def test_mounts_are_found_deepest_first_with_spaces_and_without_neighbours() -> None:
    points = ["/var/c/test", "/var/c/test/a", r"/var/c/test/a\040b/c", "/var/c/test2/a", "/"]
    text = "\n".join(f"1 2 0:1 / {point} rw - ext4 /dev/x rw" for point in points)

    found = leftovers.mounts_below(Path("/var/c/test"), text)

    assert found == ["/var/c/test/a b/c", "/var/c/test/a"]


def test_hierarchies_of_both_kinds_of_cgroups_are_found() -> None:
    text = (
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )

    found = [str(path) for path in cgroups.hierarchies(text)]

    assert found == ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"]


def test_packets_are_counted_of_the_trials_rule_alone() -> None:
    listing = (
        "Chain FORWARD (policy ACCEPT 9 packets, 900 bytes)\n"
        "    pkts      bytes target     prot opt in     out     source               destination\n"
        "       3       87 ACCEPT     17   --  *      *       0.0.0.0/0            192.0.2.2\n"
        "       5       99 ACCEPT     17   --  *      *       0.0.0.0/0            192.0.2.20\n"
    )

    assert network_namespaces.packets_counted(listing, "192.0.2.2") == 3
    assert network_namespaces.packets_counted("Chain FORWARD", "192.0.2.2") == 0


# --- the rest


def test_an_image_archive_has_what_its_digests_say_and_is_the_same_again() -> None:
    image = image_archives.archive("localhost/x:1", b"program", name="x", architecture="x86_64")
    again = image_archives.archive("localhost/x:1", b"program", name="x", architecture="x86_64")

    with tarfile.open(fileobj=io.BytesIO(image)) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(files["index.json"])["manifests"]
    inner = json.loads(files[f"blobs/sha256/{manifest['digest'][7:]}"])
    config = json.loads(files[f"blobs/sha256/{inner['config']['digest'][7:]}"])
    layer = files[f"blobs/sha256/{inner['layers'][0]['digest'][7:]}"]

    assert image == again
    assert config["architecture"] == "amd64"
    assert config["rootfs"]["diff_ids"] == [inner["layers"][0]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getmember("x").mode == 0o755


def test_of_a_pod_only_the_containers_that_run_are_killed() -> None:
    statuses = [
        {"containerID": "containerd://abc", "state": {"running": {}}},
        {"containerID": "containerd://old", "state": {"terminated": {}}},
        {"state": {"waiting": {}}},
    ]

    assert crashes.containers({"status": {"containerStatuses": statuses}}) == {"abc"}
    assert crashes.containers({}) == frozenset()


FAKE_KUBECTL = """#!/bin/sh
[ "$1" = config ] && echo production
[ "$1" = config ] || echo "$MARK"
"""


@pytest.fixture
def fake_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kubectl"
    program.write_text(FAKE_KUBECTL, encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr(cluster_guard, "kubectl", lambda: program)
    (tmp_path / "kubeconfig").touch()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


@pytest.mark.usefixtures("fake_kubectl")
def test_a_cluster_without_the_mark_is_refused_with_the_way_to_mark_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MARK", "")

    with pytest.raises(
        commands_here.KitError, match="'production' of .*/kubeconfig is not marked"
    ) as refused:
        cluster_guard.check()

    assert str(refused.value).endswith(
        "kubectl -n kube-system create configmap midstreamer-test-cluster"
    )


@pytest.mark.usefixtures("fake_kubectl")
def test_a_cluster_with_the_mark_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "configmap/midstreamer-test-cluster")

    assert cluster_guard.check() == "production"


def test_no_kubeconfig_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)

    with pytest.raises(commands_here.KitError, match="KUBECONFIG is not set"):
        cluster_guard.check()


def test_a_kubeconfig_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))

    with pytest.raises(commands_here.KitError, match="nowhere, which is no file"):
        cluster_guard.check()


def test_who_waits_for_a_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    held, told = threading.Event(), threading.Event()
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        told.set()

    def hold_until_told() -> None:
        with commands_here.locked(lock):
            held.set()
            told.wait(60)

    monkeypatch.setattr(commands_here, "say", say)
    holder = threading.Thread(target=hold_until_told)
    holder.start()
    held.wait(60)

    with commands_here.locked(lock):
        holder.join(60)

    assert lines == [f"waiting for another command that holds {lock}"]


async def test_the_relay_carries_bytes_both_ways_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as far:
        monkeypatch.setattr(names, "API_ADDRESS", "127.0.0.1")
        monkeypatch.setattr(names, "API_PORT", far.sockets[0].getsockname()[1])
        listener = api_server_relay.listen()
        async with await asyncio.start_server(api_server_relay.carry, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"x" * 200_000)
            writer.write_eof()

            assert await reader.read() == b"X" * 200_000
            writer.close()


def test_the_relay_listens_on_this_machine_only() -> None:
    with api_server_relay.listen() as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_command_inside_takes_the_place_of_the_kit_so_that_signals_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda *words: begun.append(words))

    __main__._run_in("some", tmp_path / "admin.conf", ["--", "sleep", "7"])

    ((program, words, environment),) = begun
    assert (program, words[-2:]) == ("nsenter", ["sleep", "7"])
    assert environment["KUBECONFIG"] == str(tmp_path / "admin.conf")
