"""Start a cluster step by step, after removing what an earlier run of the same name left."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from platform import machine as architecture

from tests.cluster import (
    api_server_relay,
    certificates,
    cgroups,
    cluster_guard,
    commands_here,
    component_commands,
    component_configs,
    component_processes,
    image_archives,
    leftovers,
    names,
    network_namespaces,
    network_policies,
    nodes,
    state_files,
)
from tests.cluster.component_configs import Smaller, Timing

RELAY = "relay"
ENFORCER = "policies"
API_S_MAX = 90.0
DNS_S_MAX = 60.0
ACCOUNT_S_MAX = 60.0
POLICIES_S_MAX = 20.0
DIRECTORIES = ("bin", "etcd", "log", "nodes", "pids", "pki")
# Python code that requests a URL and ends with 0 on success; it ignores HTTP proxies that the
# environment sets.
ASK = (
    "import sys, urllib.request as request\n"
    "opener = request.build_opener(request.ProxyHandler({}))\n"
    "opener.open(sys.argv[1], timeout=2)\n"
)
REPOSITORY = Path(__file__).parents[2]


def is_up(cluster: names.Cluster) -> bool:
    """Whether the cluster has started completely, and its API server and node-0 still run."""
    needed = [*component_commands.FIRST, *component_commands.REST, RELAY]
    if state_files.complete(cluster) and state_files.read(cluster).filters_bridges:
        needed.append(ENFORCER)
    needed += [f"{cluster.node(0).name}-{name}" for name in nodes.PROCESSES]
    return (
        state_files.complete(cluster)
        and all(component_processes.running(cluster, name) for name in needed)
        and state_files.answers(cluster)
    )


def bring_up(
    cluster: names.Cluster, programs: dict[str, Path], *, count: int, timing: Timing
) -> None:
    """Start a cluster with `count` nodes; raises KitError with the last lines of the logs."""
    started_s = time.monotonic()
    if left := leftovers.found(cluster):
        commands_here.say(
            f"removing {len(left)} thing(s) that an earlier run of {cluster.name} left"
        )
        leftovers.clear(cluster)
    try:
        _prepare(cluster, programs, timing)
        _start_control_plane(cluster, timing)
        commands_here.say(f"API server ready after {time.monotonic() - started_s:.1f} s")
        _start_enforcer(cluster)
        _start_dns(cluster)
        first = cluster.node(0)
        nodes.start_agents(first)
        nodes.wait_ready(first, "")
        for index in range(1, count):
            nodes.add(cluster.node(index))
        _wait_until_pods_are_taken(cluster)
        _wait_until_policies_hold(cluster)
        state_files.set_complete(cluster)
    except commands_here.KitError as error:
        raise commands_here.KitError(
            f"{error}\n{component_processes.complaints(cluster)}"
        ) from error
    commands_here.say(f"{count} node(s) ready after {time.monotonic() - started_s:.1f} s")


def _prepare(cluster: names.Cluster, programs: dict[str, Path], timing: Timing) -> None:
    for name in DIRECTORIES:
        (cluster.state / name).mkdir(parents=True)
    for name, path in programs.items():
        (cluster.state / "bin" / name).symlink_to(path)
    (cluster.state / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="ascii")
    image = image_archives.archive(
        component_configs.PROBE_IMAGE,
        programs["probe"].read_bytes(),
        name="probe",
        architecture=architecture(),
    )
    (cluster.state / "probe.tar").write_bytes(image)
    first = cluster.node(0)
    network_namespaces.make(first)
    filters = network_namespaces.bridged_traffic_is_filtered(cluster)
    state_files.write(cluster, state_files.Remembered(timing, programs, filters))
    cgroups.make(cluster.label, cgroups.CONTROL)
    _write_identities(cluster)
    (cluster.state / "Corefile").write_text(component_configs.corefile(cluster), encoding="ascii")
    nodes.configure(first, zone="", smaller=Smaller())
    nodes.start_runtime(first)


def _write_identities(cluster: names.Cluster) -> None:
    pki = cluster.state / "pki"
    issuer = certificates.authority(pki, "ca")
    front = certificates.authority(pki, "front-proxy-ca")
    certificates.leaf(pki, front, "front-proxy-client", "front-proxy-client")
    certificates.service_account_key(pki)
    service = "kubernetes.default.svc"
    certificates.leaf(
        pki,
        issuer,
        "apiserver",
        "kube-apiserver",
        addresses=(names.API_ADDRESS, names.API_SERVICE_ADDRESS, "127.0.0.1"),
        dns_names=("kubernetes", "kubernetes.default", service, f"{service}.cluster.local"),
    )
    masters = ("system:masters",)
    certificates.leaf(pki, issuer, "apiserver-kubelet", "apiserver-kubelet", organizations=masters)
    state_files.write_user(cluster, issuer, "admin", "admin", *masters)
    state_files.write_user(cluster, issuer, "coredns", "midstreamer-test-dns")
    state_files.write_user(cluster, issuer, "proxy", "system:kube-proxy")
    for user in ("controller-manager", "scheduler"):
        state_files.write_user(cluster, issuer, user, f"system:kube-{user}")


def _start_control_plane(cluster: names.Cluster, timing: Timing) -> None:
    lines = component_commands.control(cluster, state_files.read(cluster).programs, timing)
    for name in component_commands.FIRST:
        _start(cluster, name, lines[name])
    _start_relay(cluster)
    _wait_until_it_answers(cluster)
    for name in component_commands.REST:
        _start(cluster, name, lines[name])


def _wait_until_it_answers(cluster: names.Cluster) -> None:
    def ready() -> bool:
        for name in component_commands.FIRST:
            if not component_processes.running(cluster, name):
                raise commands_here.KitError(f"the process {name} ended during its start")
        return state_files.answers(cluster)

    commands_here.until("the API server is ready", ready, timeout_s=API_S_MAX)


def _start(
    cluster: names.Cluster, name: str, command: list[str], inherited: tuple[int, ...] = ()
) -> None:
    component_processes.start(
        cluster,
        name,
        command,
        namespace=cluster.label,
        cgroup=f"{cluster.label}/{cgroups.CONTROL}",
        inherited=inherited,
    )


def _start_relay(cluster: names.Cluster, port: int = 0) -> None:
    with api_server_relay.listen(port) as listener:
        port = listener.getsockname()[1]
        # PYTHONPATH makes Python find the package from any working directory.
        way = [
            "env",
            f"PYTHONPATH={REPOSITORY}",
            sys.executable,
            "-m",
            "tests.cluster.api_server_relay",
        ]
        file = listener.fileno()
        _start(cluster, RELAY, [*way, str(file)], inherited=(file,))
    (cluster.state / "relay-port").write_text(str(port), encoding="ascii")
    state_files.write_kubeconfig(cluster, "kubeconfig", "admin", f"https://127.0.0.1:{port}")


def _start_enforcer(cluster: names.Cluster) -> None:
    """Start the enforcer of NetworkPolicies.

    It must start before any pod, so that each pod is isolated from its first moment.
    """
    if state_files.read(cluster).filters_bridges:
        way = [
            "env",
            f"PYTHONPATH={REPOSITORY}",
            sys.executable,
            "-m",
            "tests.cluster.network_policies",
        ]
        _start(cluster, ENFORCER, [*way, cluster.name])


def _wait_until_policies_hold(cluster: names.Cluster) -> None:
    if state_files.read(cluster).filters_bridges:
        wanted = [node.name for node in state_files.nodes(cluster)]
        commands_here.until(
            "NetworkPolicies are enforced on every node",
            lambda: network_policies.enforced_on(cluster) == wanted,
            timeout_s=POLICIES_S_MAX,
        )


def restart(cluster: names.Cluster, name: str, number: signal.Signals) -> None:
    """End a process with a signal and start it again with the same command; raises KitError.

    The new process starts only when the old one is gone, because until then its port is taken.
    After a restart of etcd or of the API server, return only when the API server answers again.
    This function restarts no other process.
    """
    component_processes.end(cluster, name, number)
    # To start the relay, its command is not enough: the relay must also inherit an open socket.
    if name == RELAY:
        _start_relay(cluster, int((cluster.state / "relay-port").read_text(encoding="ascii")))
    else:
        component_processes.start_again(cluster, name)
    if name in component_commands.FIRST:
        _wait_until_it_answers(cluster)


def _start_dns(cluster: names.Cluster) -> None:
    state_files.kubectl(cluster, "apply", "-f", "-", stdin=component_configs.dns_objects())
    url = f"http://127.0.0.1:{component_configs.DNS_READY_PORT}/ready"
    asked = component_commands.inside(cluster.label, [sys.executable, "-c", ASK, url])
    commands_here.until("DNS is ready", lambda: commands_here.succeeds(asked), timeout_s=DNS_S_MAX)


def _wait_until_pods_are_taken(cluster: names.Cluster) -> None:
    def account() -> bool:
        try:
            state_files.kubectl(
                cluster, "get", "serviceaccount/default"
            )  # every pod needs this ServiceAccount
        except commands_here.KitError:
            return False
        return True

    commands_here.until("the default ServiceAccount exists", account, timeout_s=ACCOUNT_S_MAX)
    state_files.kubectl(cluster, "apply", "-f", "-", stdin=cluster_guard.manifest())
