"""Start the processes of a cluster in their network namespace and cgroup; find them by name.

STATE/pids/NAME.json records the id and command line of a process, so that a test can kill the
process and start it again with the same command line.  STATE/log/NAME.log has its output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster import cgroups, commands_here, component_commands, names

LOG_LINES = 4
END_S_MAX = 60.0


def start(
    cluster: names.Cluster,
    name: str,
    command: list[str],
    *,
    namespace: str,
    cgroup: str,
    inherited: tuple[int, ...] = (),
) -> None:
    """Start a process that continues after this one ends, and record it under `name`.

    `inherited` has the file descriptors that the process inherits.
    """
    members = cgroups.membership(cgroup) / "cgroup.procs"
    wrapped = component_commands.joining(members, component_commands.inside(namespace, command))
    with (cluster.state / "log" / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            wrapped,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cluster.state,
            start_new_session=True,
            pass_fds=inherited,
        )
    known = {"pid": started.pid, "command": command, "namespace": namespace, "cgroup": cgroup}
    _record(cluster, name).write_text(json.dumps(known), encoding="utf-8")
    # Nobody waits for this process.  Python would warn about that if `returncode` were not set.
    started.returncode = 0


def running(cluster: names.Cluster, name: str) -> bool:
    """Whether any thread of the process with this name is alive.

    A killed process becomes a zombie as soon as its first thread has ended, but its ports stay
    taken until its last thread has ended.
    """
    try:
        process = _recall(cluster, name)["pid"]
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except (OSError, commands_here.KitError):
        return False
    return any(_alive(thread) for thread in threads)


def end(cluster: names.Cluster, name: str, number: signal.Signals) -> None:
    """End a process with a signal and wait until it is gone.

    Raises KitError when no process is recorded under `name`, or when the process is not gone after
    END_S_MAX seconds.
    """
    process = _recall(cluster, name)["pid"]
    if running(cluster, name):
        os.kill(process, number)
    commands_here.until(f"{name} ends", lambda: not running(cluster, name), timeout_s=END_S_MAX)


def start_again(cluster: names.Cluster, name: str) -> None:
    """Start a process that has ended, with the same command line.

    Raises KitError when no process is recorded under `name`.
    """
    known = _recall(cluster, name)
    start(cluster, name, known["command"], namespace=known["namespace"], cgroup=known["cgroup"])


def complaints(cluster: names.Cluster) -> str:
    """Return the last LOG_LINES lines of every log that is not empty."""
    output = []
    for log in sorted((cluster.state / "log").glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        if lines:
            output += [f"--- {log}", *(line[:300] for line in lines)]
    return "\n".join(output)


def _alive(thread: Path) -> bool:
    try:
        status = (thread / "stat").read_text(encoding="utf-8")
    except OSError:
        return False  # the thread has just ended
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def _recall(cluster: names.Cluster, name: str) -> dict[str, Any]:
    file = _record(cluster, name)
    if not file.exists():
        recorded = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
        raise commands_here.KitError(
            f"the cluster {cluster.name} has no process {name!r}; its processes:"
            f" {recorded or 'none'}"
        )
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return known


def _record(cluster: names.Cluster, name: str) -> Path:
    return cluster.state / "pids" / f"{name}.json"
