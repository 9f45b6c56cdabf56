"""Manage the control groups of a cluster, by which all its processes are found and ended.

    /LABEL/control            control plane, DNS, relay
    /LABEL/node-N/system      containerd, kubelet, kube-proxy of a node, and their child processes
    /LABEL/node-N/kubepods    the pods of a node; the kubelet makes this group

With cgroup v1, every hierarchy has such a tree.  The processes that `tests.cluster` (the kit)
itself starts, such as etcd and the kubelets, join the group of the hierarchy "pids" only.  In the
other hierarchies they stay in the group of the kit's caller, so that their memory still counts
there.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.cluster import commands_here

ROOT = Path("/sys/fs/cgroup")
CONTROL = "control"
SYSTEM = "system"
SHARES = {"cpu.shares": "8192", "cpu.weight": "800"}
"""The CPU weight of a cluster's groups, for cgroup v1 and v2: eight times the default weight.

With the default weight, a whole group of processes would get no more CPU than a single process
outside, such as one of the tests.
"""
END_S_MAX = 20.0
REMOVE_S_MAX = 10.0


def mode() -> str:
    """Return the machine's version of cgroups: "v1" (also for a hybrid of both) or "v2"."""
    return "v2" if (ROOT / "cgroup.controllers").exists() else "v1"


def controllers() -> set[str]:
    """Return the names of the cgroup controllers that the machine offers."""
    if mode() == "v2":
        return set((ROOT / "cgroup.controllers").read_text(encoding="ascii").split())
    return {path.name for path in ROOT.iterdir()} if ROOT.is_dir() else set()


def hierarchies(mounts: str) -> list[Path]:
    """Return the mount points of cgroup file systems, from the text of /proc/mounts."""
    rows = [line.split() for line in mounts.splitlines()]
    return [Path(row[1]) for row in rows if row[2] in ("cgroup", "cgroup2")]


def trees(path: str) -> list[Path]:
    """Return the directories of a cgroup, one for each hierarchy, whether they exist or not."""
    if mode() == "v2":
        return [ROOT / path]
    return [at / path for at in hierarchies(Path("/proc/mounts").read_text(encoding="utf-8"))]


def membership(path: str) -> Path:
    """Return the directory of a cgroup, in the hierarchy where processes of the kit join cgroups.

    With cgroup v1, this is the hierarchy "pids"; cgroup v2 has one hierarchy only.
    """
    return ROOT / path if mode() == "v2" else ROOT / "pids" / path


def exists(path: str) -> bool:
    """Whether any hierarchy has this cgroup."""
    return any(tree.exists() for tree in trees(path))


def make(path: str, leaf: str) -> None:
    """Make a cgroup in every hierarchy, with a leaf for the kit's own processes.

    The leaf is needed because in cgroup v2, a group cannot both have processes and enable
    controllers for its children.
    """
    if mode() == "v2":
        _make_v2(path, leaf)
        return
    for tree in trees(path):
        tree.mkdir(parents=True, exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # must be set before a process joins the group
            for place in reversed([tree, *_between(tree, path)]):
                if (place / name).exists():
                    inherited = (place.parent / name).read_text(encoding="ascii")
                    (place / name).write_text(inherited, encoding="ascii")
        for place in [tree, *_between(tree, path)]:
            _weigh(place)
    (membership(path) / leaf).mkdir(parents=True, exist_ok=True)


def _weigh(place: Path) -> None:
    for name, share in SHARES.items():
        if (place / name).exists():
            (place / name).write_text(share, encoding="ascii")


def _between(tree: Path, path: str) -> list[Path]:
    return list(tree.parents)[: path.count("/")]


def _make_v2(path: str, leaf: str) -> None:
    place = ROOT
    _hand_down(place)
    for part in path.split("/"):
        place = place / part
        place.mkdir(exist_ok=True)
        _hand_down(place)
        _weigh(place)
    (place / leaf).mkdir(exist_ok=True)


def _hand_down(place: Path) -> None:
    for name in (place / "cgroup.controllers").read_text(encoding="ascii").split():
        control = place / "cgroup.subtree_control"
        try:
            control.write_text(f"+{name}", encoding="ascii")
        except OSError:
            # The root group of a container has processes. They must move to a leaf before a
            # controller can be enabled.
            if place == ROOT and _vacated(place):
                control.write_text(f"+{name}", encoding="ascii")


def _vacated(place: Path) -> bool:
    leaf = place / "init"
    leaf.mkdir(exist_ok=True)
    for process in _read(place / "cgroup.procs"):
        try:
            (leaf / "cgroup.procs").write_text(str(process), encoding="ascii")
        except OSError:
            pass  # a kernel thread cannot be moved
    return True


def processes(path: str) -> list[int]:
    """Return the ids of all processes in a cgroup and below it, sorted."""
    found: set[int] = set()
    for place, _, files in os.walk(membership(path)):
        if "cgroup.procs" in files:
            found |= set(_read(Path(place) / "cgroup.procs"))
    return sorted(found)


def processes_of(path: str, groups: frozenset[str]) -> list[int]:
    """Return the ids of all processes of some groups below a cgroup.

    `groups` has the names of these groups, which may be at any depth below the cgroup `path`.
    """
    found: set[int] = set()
    for place, _, files in os.walk(membership(path)):
        if groups.intersection(Path(place).parts) and "cgroup.procs" in files:
            found |= set(_read(Path(place) / "cgroup.procs"))
    return sorted(found)


def _read(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text(encoding="ascii").split()]
    except OSError:
        return []  # the group has just been removed


def send(path: str, number: signal.Signals) -> None:
    """Send a signal to every process in a cgroup and below it."""
    for process in processes(path):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass  # the process has just ended


def kill(path: str) -> None:
    """Send SIGKILL repeatedly until the cgroup is empty.

    It is repeated because kubelet and containerd may start processes meanwhile.  Raises KitError
    when processes are left after `END_S_MAX` seconds.
    """
    deadline_s = time.monotonic() + END_S_MAX
    while processes(path):
        if time.monotonic() > deadline_s:
            raise commands_here.KitError(
                f"cgroup {path}: these processes do not end: {processes(path)}"
            )
        send(path, signal.SIGKILL)
        time.sleep(0.02)


def remove(path: str) -> None:
    """Remove a cgroup in every hierarchy; raises KitError when it stays.

    Removal is retried, because a group is busy for some milliseconds after its last process ended.
    """
    commands_here.until(
        f"cgroup {path} is removed", lambda: not _left(path), timeout_s=REMOVE_S_MAX
    )


def _left(path: str) -> bool:
    for tree in trees(path):
        for place, _, _ in os.walk(tree, topdown=False):
            try:
                Path(place).rmdir()
            except OSError:
                pass  # still busy, or already removed
    return exists(path)
