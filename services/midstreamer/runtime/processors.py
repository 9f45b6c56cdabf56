"""How many processors this process may use, from its CPU affinity and its cgroup's CPU quota.

A container with a quota of half the machine's processors still sees all processors. If it starts
one thread for each, it uses up its quota in the first half of each period and is then paused, its
event loop too. So the quota is rounded down to whole processors, which leaves the remainder to the
event loop. The result is at least 1.

The quotas of all parent cgroups apply as well. In a container, ``/proc/self/cgroup`` may name the
path on the host, which does not exist in the container. The container's own cgroup is then the
mount itself, so the quota there is read too. A file that cannot be read or parsed sets no limit.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

MOUNT = "sys/fs/cgroup"
V2: tuple[str, ...] = ("cpu.max",)
V1: tuple[str, ...] = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def places(cgroup: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (folder, names of its quota files) for each folder that may hold a CPU quota.

    Folders are relative to the cgroup mount. ``cgroup`` is the text of ``/proc/self/cgroup``.
    """
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, files = ("", "unified"), V2
        elif "cpu" in controllers.split(","):
            mounts, files = (controllers, "cpu"), V1
        else:
            continue
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for mount in dict.fromkeys(mounts):
            for depth in range(len(parts) + 1):
                yield "/".join(filter(None, (mount, *parts[:depth]))), files


def quota(texts: Iterable[str]) -> float | None:
    """Return how many processors one cgroup allows, or None when it sets no limit.

    ``texts`` are the contents of the quota files of that cgroup's folder.
    """
    words = " ".join(texts).split()
    try:
        limit, period = (int(word) for word in words)
    except ValueError:  # "max" means no limit, and so does a text that cannot be parsed
        return None
    return limit / period if limit > 0 and period > 0 else None


def allowed(usable: int, quotas: Iterable[float | None]) -> int:
    """Return how many processors to use: the smallest of ``usable`` and the quotas, at least 1.

    ``usable`` is the number of processors that the CPU affinity permits.  Each quota is rounded
    down; None sets no limit.
    """
    limits = [limit for limit in quotas if limit is not None]
    return max(1, min(usable, *(int(limit) for limit in limits))) if limits else max(1, usable)


@functools.cache
def available(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use.

    The number is read at the first call and cached, so later changes of the quota are not seen.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cgroup = _text(root / "proc/self/cgroup")
    contents = (
        [_text(root / MOUNT / folder / file) for file in files] for folder, files in places(cgroup)
    )
    return allowed(usable or 1, [quota(texts) for texts in contents])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
