"""Find and remove what a cluster or a node leaves behind; also for one that crashed.

Only what carries the cluster's label or lies below its state directory is touched.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import cgroups, host, names, network, state

MOUNTS = Path("/proc/self/mountinfo")
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
RUNC_STATES = Path("/run/containerd/runc/k8s.io")
SHIM_SOCKETS = Path("/run/containerd/s")
SHIMS = "run/containerd/io.containerd.runtime.v2.task/k8s.io/*/address"
UNMOUNT_ROUNDS = 20


def found(cluster: names.Cluster) -> list[str]:
    """Everything of a cluster that the machine has, a line each; empty when nothing is left."""
    label = cluster.label
    left = [f"process {process}" for process in cgroups.processes(label)]
    left += [f"cgroup {tree}" for tree in cgroups.trees(label) if tree.exists()]
    left += [f"network namespace {name}" for name in network.of_cluster(cluster)]
    left += [f"mount {point}" for point in mounts_below(cluster.state, _mounts())]
    left += [f"CNI result {name}" for name in _cni_results(cluster)]
    left += [f"log {path}" for path in _container_logs(cluster.state)]
    return left + ([f"state {cluster.state}"] if cluster.state.exists() else [])


def mounts_below(directory: Path, mountinfo: str) -> list[str]:
    """Mount points below a directory, the deepest first, from the text of mountinfo."""
    points = [line.split()[4] for line in mountinfo.splitlines()]
    plain = [point.encode().decode("unicode_escape") for point in points]
    return sorted((point for point in plain if point.startswith(f"{directory}/")), reverse=True)


def clear_boot(node: names.Node) -> None:
    """Remove what a node would lose with its power; its processes have ended before."""
    _remove_shim_sockets(node)
    unmount_below(node.directory)
    network.unplug(node)
    network.remove(node.namespace)
    cgroups.remove(f"{node.cluster.label}/{node.name}")
    state.remove(node.directory / "run")
    (node.directory / "run").mkdir(exist_ok=True)


def clear_outside(cluster: names.Cluster) -> None:
    """Remove what lies outside the state directory of pods that were killed, not deleted."""
    for name in _cni_results(cluster):
        (CNI_RESULTS / name).unlink(missing_ok=True)
    for path in _container_logs(cluster.state):
        path.unlink(missing_ok=True)


def clear(cluster: names.Cluster) -> None:
    """End a cluster and remove all of it.  Nobody needs to end politely: the state goes too."""
    cgroups.kill(cluster.label)
    for node in state.nodes(cluster):
        _remove_shim_sockets(node)
    unmount_below(cluster.state)
    for namespace in network.of_cluster(cluster):
        network.remove(namespace)
    clear_outside(cluster)
    cgroups.remove(cluster.label)
    state.remove(cluster.state)


def unmount_below(directory: Path) -> None:
    """Unmount everything below a directory; raises KitError when something stays mounted."""
    for _ in range(UNMOUNT_ROUNDS):
        points = mounts_below(directory, _mounts())
        if not points:
            return
        for point in points:
            if not host.succeeds(["umount", point]):
                host.succeeds(["umount", "--lazy", point])
    raise host.KitError(f"still mounted: {', '.join(mounts_below(directory, _mounts()))}")


def _mounts() -> str:
    return MOUNTS.read_text(encoding="utf-8")


def _cni_results(cluster: names.Cluster) -> list[str]:
    there = [path.name for path in CNI_RESULTS.iterdir()] if CNI_RESULTS.is_dir() else []
    return names.cni_results(cluster, there)


def _container_logs(directory: Path) -> list[Path]:
    links = CONTAINER_LOGS.glob("*.log") if CONTAINER_LOGS.is_dir() else []
    return [link for link in links if link.is_symlink() and _points_below(link, directory)]


def _points_below(link: Path, directory: Path) -> bool:
    return str(link.readlink()).startswith(f"{directory}/")


def _remove_shim_sockets(node: names.Node) -> None:
    # containerd's shims have their sockets outside the state directory, by a hash of it.
    for address in node.directory.glob(SHIMS):
        Path(address.read_text(encoding="utf-8").removeprefix("unix://")).unlink(missing_ok=True)
