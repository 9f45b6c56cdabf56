"""List everything that a machine lacks for a test cluster.

Pure: `tests.cluster.machine` makes the observations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Each command that the kit or a component calls, and the Debian package that contains it.
COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
CNI_DIRECTORY = "/usr/lib/cni"
CNI_PLUGINS = ("bridge", "host-local", "portmap", "loopback")
CNI_PACKAGE = "containernetworking-plugins"
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
KERNEL = {
    "overlayfs": "overlayfs (images are unpacked as overlays)",
    "namespace": "network namespaces (`ip netns add` is refused)",
    "bridge": "bridge devices",
    "veth": "veth devices",
    "iptables": "iptables with a nat table",
}

BUILD_DISK_GB = 12.0
STATE_DISK_GB = 3.0
MEMORY_MB = 2500


@dataclass(frozen=True)
class Machine:
    """What a machine offers, as `machine.observe` found it."""

    root: bool
    commands: frozenset[str]
    plugins: frozenset[str]
    kernel: frozenset[str]  # the features that work, as keys of KERNEL
    controllers: frozenset[str]
    cgroup: str  # cgroup version: v1 or v2
    memory_mb: int
    state_disk_gb: float
    cache_disk_gb: float
    cores: int
    go: str = ""  # output of `go env GOVERSION`; empty without Go


@dataclass(frozen=True)
class Wanted:
    """What a command of the kit, such as `up`, needs from the machine.

    `go` is the lowest sufficient version of Go; `building` has the names of the components that the
    command must still build.
    """

    go: str
    building: tuple[str, ...] = field(default=())


def packages(machine: Machine) -> list[str]:
    """Return the names of the missing Debian packages, sorted."""
    missing = {package for name, package in COMMANDS.items() if name not in machine.commands}
    if set(CNI_PLUGINS) - machine.plugins:
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def install_line(names: list[str]) -> str:
    """Return the shell command that installs Debian packages."""
    return f"apt-get install --no-install-recommends {' '.join(names)}"


def problems(machine: Machine, wanted: Wanted) -> list[str]:
    """Return a line for each thing that the machine lacks; empty when the machine is fit."""
    found = []
    if not machine.root:
        found.append("root: namespaces, mounts and cgroups need it (run the same as root)")
    if missing := packages(machine):
        found.append(f"Debian packages: {install_line(missing)}")
    if wanted.building:
        found += _build_problems(machine, wanted)
    if machine.state_disk_gb < STATE_DISK_GB:
        found.append(
            f"disk: {machine.state_disk_gb:.1f} GB free for the cluster's state, "
            f"which needs {STATE_DISK_GB:g} GB"
        )
    if machine.memory_mb < MEMORY_MB:
        found.append(f"memory: {machine.memory_mb} MB available, a cluster needs {MEMORY_MB} MB")
    return found + _kernel_problems(machine)


def _build_problems(machine: Machine, wanted: Wanted) -> list[str]:
    found = []
    what = ", ".join(wanted.building)
    if version(machine.go) < version(wanted.go):
        have = f"installed: {machine.go}" if machine.go else "Go is not installed"
        found.append(f"Go {wanted.go} or newer to build {what} ({have})")
    if machine.cache_disk_gb < BUILD_DISK_GB:
        found.append(
            f"disk: {machine.cache_disk_gb:.1f} GB free in the cache of programs, "
            f"building {what} needs {BUILD_DISK_GB:g} GB (CLUSTER_CACHE can name another directory)"
        )
    return found


def _kernel_problems(machine: Machine) -> list[str]:
    untried = not machine.root or "ip" not in machine.commands
    wanted = ["overlayfs"] if untried else list(KERNEL)
    if "iptables" not in machine.commands and "iptables" in wanted:
        wanted.remove("iptables")
    found = [f"kernel: {KERNEL[word]}" for word in wanted if word not in machine.kernel]
    lacking = [word for word in CONTROLLERS if word not in machine.controllers]
    if lacking:
        found.append(f"cgroup {machine.cgroup}: controllers {', '.join(lacking)}")
    return found


def version(text: str) -> tuple[int, ...]:
    """Return a Go version as comparable numbers: `go1.26.8` is (1, 26, 8), "" is ()."""
    found = re.search(r"\d+(\.\d+)*", text)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
