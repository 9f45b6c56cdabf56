"""Start a cluster step by step, after removing what an earlier run of the same name left."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from platform import machine as architecture

from tests.cluster import (
    archive,
    certificates,
    cgroups,
    cluster_mark,
    commands,
    commands_here,
    configuration,
    leftovers,
    names,
    network,
    nodes,
    policy_enforcer,
    processes,
    relay,
    state,
)
from tests.cluster.configuration import Smaller, Timing

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
    needed = [*commands.FIRST, *commands.REST, RELAY]
    if state.complete(cluster) and state.read(cluster).filters_bridges:
        needed.append(ENFORCER)
    needed += [f"{cluster.node(0).name}-{name}" for name in nodes.PROCESSES]
    return (
        state.complete(cluster)
        and all(processes.running(cluster, name) for name in needed)
        and state.answers(cluster)
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
        state.set_complete(cluster)
    except commands_here.KitError as error:
        raise commands_here.KitError(f"{error}\n{processes.complaints(cluster)}") from error
    commands_here.say(f"{count} node(s) ready after {time.monotonic() - started_s:.1f} s")


def _prepare(cluster: names.Cluster, programs: dict[str, Path], timing: Timing) -> None:
    for name in DIRECTORIES:
        (cluster.state / name).mkdir(parents=True)
    for name, path in programs.items():
        (cluster.state / "bin" / name).symlink_to(path)
    (cluster.state / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="ascii")
    image = archive.archive(
        configuration.PROBE_IMAGE,
        programs["probe"].read_bytes(),
        name="probe",
        architecture=architecture(),
    )
    (cluster.state / "probe.tar").write_bytes(image)
    first = cluster.node(0)
    network.make(first)
    filters = network.bridged_traffic_is_filtered(cluster)
    state.write(cluster, state.Remembered(timing, programs, filters))
    cgroups.make(cluster.label, cgroups.CONTROL)
    _write_identities(cluster)
    (cluster.state / "Corefile").write_text(configuration.corefile(cluster), encoding="ascii")
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
    state.write_user(cluster, issuer, "admin", "admin", *masters)
    state.write_user(cluster, issuer, "coredns", "midstreamer-test-dns")
    state.write_user(cluster, issuer, "proxy", "system:kube-proxy")
    for user in ("controller-manager", "scheduler"):
        state.write_user(cluster, issuer, user, f"system:kube-{user}")


def _start_control_plane(cluster: names.Cluster, timing: Timing) -> None:
    lines = commands.control(cluster, state.read(cluster).programs, timing)
    for name in commands.FIRST:
        _start(cluster, name, lines[name])
    _start_relay(cluster)
    _wait_until_it_answers(cluster)
    for name in commands.REST:
        _start(cluster, name, lines[name])


def _wait_until_it_answers(cluster: names.Cluster) -> None:
    def ready() -> bool:
        for name in commands.FIRST:
            if not processes.running(cluster, name):
                raise commands_here.KitError(f"the process {name} ended during its start")
        return state.answers(cluster)

    commands_here.until("the API server is ready", ready, timeout_s=API_S_MAX)


def _start(
    cluster: names.Cluster, name: str, command: list[str], inherited: tuple[int, ...] = ()
) -> None:
    processes.start(
        cluster,
        name,
        command,
        namespace=cluster.label,
        cgroup=f"{cluster.label}/{cgroups.CONTROL}",
        inherited=inherited,
    )


def _start_relay(cluster: names.Cluster, port: int = 0) -> None:
    with relay.listen(port) as listener:
        port = listener.getsockname()[1]
        # PYTHONPATH makes Python find the package from any working directory.
        way = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "tests.cluster.relay"]
        file = listener.fileno()
        _start(cluster, RELAY, [*way, str(file)], inherited=(file,))
    (cluster.state / "relay-port").write_text(str(port), encoding="ascii")
    state.write_kubeconfig(cluster, "kubeconfig", "admin", f"https://127.0.0.1:{port}")


def _start_enforcer(cluster: names.Cluster) -> None:
    """Start the enforcer of NetworkPolicies.

    It must start before any pod, so that each pod is isolated from its first moment.
    """
    if state.read(cluster).filters_bridges:
        way = [
            "env",
            f"PYTHONPATH={REPOSITORY}",
            sys.executable,
            "-m",
            "tests.cluster.policy_enforcer",
        ]
        _start(cluster, ENFORCER, [*way, cluster.name])


def _wait_until_policies_hold(cluster: names.Cluster) -> None:
    if state.read(cluster).filters_bridges:
        wanted = [node.name for node in state.nodes(cluster)]
        commands_here.until(
            "NetworkPolicies are enforced on every node",
            lambda: policy_enforcer.enforced_on(cluster) == wanted,
            timeout_s=POLICIES_S_MAX,
        )


def restart(cluster: names.Cluster, name: str, number: signal.Signals) -> None:
    """End a process with a signal and start it again with the same command; raises KitError.

    The new process starts only when the old one is gone, because until then its port is taken.
    For etcd and the API server, return only when the API server answers again: the processes that
    need the API server at their own start are not restarted.
    """
    processes.end(cluster, name, number)
    if name == RELAY:  # it needs a new socket outside the namespace
        _start_relay(cluster, int((cluster.state / "relay-port").read_text(encoding="ascii")))
    else:
        processes.start_again(cluster, name)
    if name in commands.FIRST:
        _wait_until_it_answers(cluster)


def _start_dns(cluster: names.Cluster) -> None:
    state.kubectl(cluster, "apply", "-f", "-", stdin=configuration.dns_objects())
    url = f"http://127.0.0.1:{configuration.DNS_READY_PORT}/ready"
    asked = commands.inside(cluster.label, [sys.executable, "-c", ASK, url])
    commands_here.until("DNS is ready", lambda: commands_here.succeeds(asked), timeout_s=DNS_S_MAX)


def _wait_until_pods_are_taken(cluster: names.Cluster) -> None:
    def account() -> bool:
        try:
            state.kubectl(cluster, "get", "serviceaccount/default")  # every pod needs this account
        except commands_here.KitError:
            return False
        return True

    commands_here.until("the default ServiceAccount exists", account, timeout_s=ACCOUNT_S_MAX)
    state.kubectl(cluster, "apply", "-f", "-", stdin=cluster_mark.manifest())
