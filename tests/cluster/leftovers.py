"""Find and remove everything that a cluster or a node leaves behind, even after a crash.

Only objects whose name has the cluster's label, or that lie below its state directory, are removed.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import cgroups, commands_here, names, network_namespaces, state_files

MOUNTS = Path("/proc/self/mountinfo")
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
RUNC_STATES = Path("/run/containerd/runc/k8s.io")
SHIM_SOCKETS = Path("/run/containerd/s")
SHIMS = "run/containerd/io.containerd.runtime.v2.task/k8s.io/*/address"
UNMOUNT_ROUNDS = 20


def found(cluster: names.Cluster) -> list[str]:
    """Return a line for each thing of a cluster on this machine; empty when nothing is left."""
    label = cluster.label
    left = [f"process {process}" for process in cgroups.processes(label)]
    left += [f"cgroup {tree}" for tree in cgroups.trees(label) if tree.exists()]
    left += [f"network namespace {name}" for name in network_namespaces.of_cluster(cluster)]
    left += [f"mount {point}" for point in mounts_below(cluster.state, _mounts())]
    left += [f"CNI result {name}" for name in _cni_results(cluster)]
    left += [f"log {path}" for path in _container_logs(cluster.state)]
    return left + ([f"state {cluster.state}"] if cluster.state.exists() else [])


def mounts_below(directory: Path, mountinfo: str) -> list[str]:
    """Return the mount points below a directory, the deepest first.

    `mountinfo` is the text of /proc/self/mountinfo.
    """
    points = [line.split()[4] for line in mountinfo.splitlines()]
    plain = [point.encode().decode("unicode_escape") for point in points]
    return sorted((point for point in plain if point.startswith(f"{directory}/")), reverse=True)


def clear_boot(node: names.Node) -> None:
    """Remove what a node loses in a power cut; its processes must have ended before."""
    _remove_shim_sockets(node)
    unmount_below(node.directory)
    network_namespaces.unplug(node)
    network_namespaces.remove(node.namespace)
    cgroups.remove(f"{node.cluster.label}/{node.name}")
    state_files.remove(node.directory / "run")
    (node.directory / "run").mkdir(exist_ok=True)


def clear_outside(cluster: names.Cluster) -> None:
    """Remove files outside the state directory that killed pods left: CNI results and log links."""
    for name in _cni_results(cluster):
        (CNI_RESULTS / name).unlink(missing_ok=True)
    for path in _container_logs(cluster.state):
        path.unlink(missing_ok=True)


def clear(cluster: names.Cluster) -> None:
    """Kill all processes of a cluster and remove everything that it made.

    SIGKILL is enough, because the state of the processes is removed too.
    """
    cgroups.kill(cluster.label)
    for node in state_files.nodes(cluster):
        _remove_shim_sockets(node)
    unmount_below(cluster.state)
    for namespace in network_namespaces.of_cluster(cluster):
        network_namespaces.remove(namespace)
    clear_outside(cluster)
    cgroups.remove(cluster.label)
    state_files.remove(cluster.state)


def unmount_below(directory: Path) -> None:
    """Unmount everything below a directory; raises KitError when something stays mounted."""
    for _ in range(UNMOUNT_ROUNDS):
        points = mounts_below(directory, _mounts())
        if not points:
            return
        for point in points:
            if not commands_here.succeeds(["umount", point]):
                commands_here.succeeds(["umount", "--lazy", point])
    raise commands_here.KitError(f"still mounted: {', '.join(mounts_below(directory, _mounts()))}")


def _mounts() -> str:
    return MOUNTS.read_text(encoding="utf-8")


def _cni_results(cluster: names.Cluster) -> list[str]:
    existing = [path.name for path in CNI_RESULTS.iterdir()] if CNI_RESULTS.is_dir() else []
    return names.cni_results(cluster, existing)


def _container_logs(directory: Path) -> list[Path]:
    links = CONTAINER_LOGS.glob("*.log") if CONTAINER_LOGS.is_dir() else []
    return [link for link in links if link.is_symlink() and _points_below(link, directory)]


def _points_below(link: Path, directory: Path) -> bool:
    return str(link.readlink()).startswith(f"{directory}/")


def _remove_shim_sockets(node: names.Node) -> None:
    # A shim of containerd makes a socket outside the state directory. A file in the state
    # directory contains the path of the socket.
    for address in node.directory.glob(SHIMS):
        Path(address.read_text(encoding="utf-8").removeprefix("unix://")).unlink(missing_ok=True)
