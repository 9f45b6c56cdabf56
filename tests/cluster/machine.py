"""Observe what this machine offers, for `tests.cluster.preflight`, and install Debian packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster import cgroups, commands_here, component_commands, names, preflight

TRIAL = "midstreamer-.trial"


def observe(state: Path, cache: Path) -> preflight.Machine:
    """Return what this machine offers a cluster.

    Features of the kernel, such as bridges, are tried in a temporary network namespace.
    """
    root = os.geteuid() == 0
    commands = frozenset(name for name in preflight.COMMANDS if shutil.which(name))
    plugins = Path(preflight.CNI_DIRECTORY)
    return preflight.Machine(
        root=root,
        commands=commands,
        plugins=frozenset(name for name in preflight.CNI_PLUGINS if (plugins / name).exists()),
        kernel=frozenset(_kernel(tried=root and "ip" in commands)),
        controllers=frozenset(cgroups.controllers()),
        cgroup=cgroups.mode(),
        memory_mb=_memory_mb(),
        state_disk_gb=_free_gb(state),
        cache_disk_gb=_free_gb(cache),
        cores=os.cpu_count() or 1,
        go=_go_version(),
    )


def install(packages: list[str]) -> None:
    """Install Debian packages with apt-get; raises KitError."""
    if not shutil.which("apt-get"):
        raise commands_here.KitError(
            "this machine has no apt-get: install the content of these Debian packages "
            f"by other means: {' '.join(packages)}"
        )
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    commands_here.run([*environment, "apt-get", "update", "-qq"], timeout_s=300)
    line = preflight.install_line(packages).split()
    commands_here.run([*environment, *line, "-y", "-qq"], timeout_s=600)


def _kernel(*, tried: bool) -> set[str]:
    found = set()
    commands_here.succeeds(["modprobe", "overlay"])  # may fail: overlay may be built in
    if "overlay" in Path("/proc/filesystems").read_text(encoding="ascii").split():
        found.add("overlayfs")
    return found | _devices() if tried else found


def _devices() -> set[str]:
    with commands_here.locked(names.LOCK_ROOT / f"{TRIAL}.lock"):
        return _tried_devices()


def _tried_devices() -> set[str]:
    # If an earlier trial was killed, its network namespace is still there.
    commands_here.succeeds(["ip", "netns", "delete", TRIAL])
    if not commands_here.succeeds(["ip", "netns", "add", TRIAL]):
        return set()
    trials = {
        "bridge": ["ip", "link", "add", "bridge0", "type", "bridge"],
        "veth": ["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"],
        "iptables": ["iptables", "-t", "nat", "-L", "-n"],
    }
    try:
        works = {
            word
            for word, trial in trials.items()
            if commands_here.succeeds(component_commands.inside(TRIAL, trial))
        }
    finally:
        commands_here.run(["ip", "netns", "delete", TRIAL])
    return works | {"namespace"}


def _memory_mb() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _free_gb(path: Path) -> float:
    place = path
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


def _go_version() -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        command = ["go", "env", "GOVERSION"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
